// Runs the program that it is given two hundred times from eight goroutines, and prints how many ended with 10.
package main

import (
	"fmt"
	"os"
	"os/exec"
	"sync"
	"sync/atomic"
)

func main() {
	var ran atomic.Int32
	var all sync.WaitGroup
	for i := 0; i < 8; i++ {
		all.Add(1)
		go func() {
			defer all.Done()
			for j := 0; j < 25; j++ {
				command := exec.Command(os.Args[1])
				command.Run()
				if command.ProcessState != nil && command.ProcessState.ExitCode() == 10 {
					ran.Add(1)
				}
			}
		}()
	}
	all.Wait()
	fmt.Println(ran.Load())
}
