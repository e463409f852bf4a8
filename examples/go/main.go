// Runs a program in a sandbox and decides, from Go, which hosts it may reach.
//
// The program tries two addresses. Both are answered by the same listener, which this program opens, so what
// makes the difference is the verdict: one connect is allowed, the other refused.
package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	sandgate "sandgate.example/go/gen/sandgate/v1"
)

const (
	allowedHost = "127.0.0.1"
	refusedHost = "127.0.0.2"
	guest       = `
for host in "$1" "$2"; do
  if read -r line <"/dev/tcp/$host/$3"; then echo "$host says $line"; else echo "$host is out of reach"; fi
done
`
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: example ADDRESS, such as unix:/run/sandgate/sandgate.sock or 127.0.0.1:7443")
		os.Exit(2)
	}
	code, err := run(os.Args[1])
	if err != nil {
		fmt.Fprintf(os.Stderr, "failed: %v (%s)\n", err, describe(err))
		os.Exit(1)
	}
	os.Exit(code)
}

func run(address string) (int, error) {
	connection, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return 0, err
	}
	defer connection.Close()
	listener, port, err := greet()
	if err != nil {
		return 0, err
	}
	defer listener.Close()

	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	info, err := sandgate.NewServerServiceClient(connection).GetServerInfo(ctx, &sandgate.GetServerInfoRequest{})
	if err != nil {
		return 0, err
	}
	fmt.Printf("server %s on Linux %s, Landlock ABI %d\n", info.Version, info.KernelRelease, info.LandlockAbi)
	code, err := runDecided(ctx, connection, port)
	if err != nil {
		return 0, err
	}
	showErrors(ctx, connection)
	return code, nil
}

func runDecided(ctx context.Context, connection *grpc.ClientConn, port int) (code int, err error) {
	sandboxID := "go-" + rand.Text()
	sandboxes := sandgate.NewSandboxServiceClient(connection)

	// The decider comes first: a call that is held while no decider is connected is refused. Cancelling its
	// context ends the stream.
	decideCtx, stopDeciding := context.WithCancel(ctx)
	verdicts, err := openDecider(decideCtx, connection, sandboxID)
	if err != nil {
		stopDeciding()
		return 0, err
	}
	decided := make(chan error, 1)
	go func() { decided <- decide(verdicts) }()
	defer func() {
		stopDeciding()
		err = errors.Join(err, <-decided)
	}()

	spawned, err := sandboxes.Spawn(ctx, &sandgate.SpawnRequest{
		RequestId: rand.Text(),
		SandboxId: sandboxID,
		Spec: &sandgate.SandboxSpec{
			DisplayName: "go example",
			// Nothing may be reached as it is; a verdict may allow what is grantable.
			Network: &sandgate.NetworkPolicy{Grantable: []*sandgate.NetworkRule{{
				Transport: sandgate.Transport_TRANSPORT_TCP,
				Host:      "127.0.0.0/8",
			}}},
			Holds: &sandgate.HoldPolicy{Triggers: []*sandgate.HoldTrigger{{Syscalls: []string{"connect"}}}},
		},
		Process: &sandgate.ProcessSpec{
			Argv: []string{"bash", "-c", guest, "guest", allowedHost, refusedHost, strconv.Itoa(port)},
		},
	})
	if err != nil {
		return 0, err
	}
	defer sandboxes.DeleteSandbox(ctx, &sandgate.DeleteSandboxRequest{SandboxId: sandboxID})
	for _, warning := range spawned.Warnings {
		fmt.Println("warning:", warning.Message)
	}
	exit, err := follow(ctx, connection, sandboxID)
	if err != nil {
		return 0, err
	}
	if signal, killed := exit.Result.(*sandgate.ExitStatus_Signal); killed {
		fmt.Println("killed by signal", signal.Signal)
		return 128 + int(signal.Signal), nil
	}
	fmt.Println("exit code", exit.GetCode())
	return int(exit.GetCode()), nil
}

type decideStream = grpc.BidiStreamingClient[sandgate.DecideRequest, sandgate.DecideResponse]

func openDecider(ctx context.Context, connection *grpc.ClientConn, sandboxID string) (decideStream, error) {
	stream, err := sandgate.NewDecisionServiceClient(connection).Decide(ctx)
	if err != nil {
		return nil, err
	}
	open := &sandgate.DecideOpen{
		Decider:  "go-example",
		Selector: &sandgate.SandboxSelector{SandboxIds: []string{sandboxID}},
		Window:   16,
		Outcomes: sandgate.OutcomeReporting_OUTCOME_REPORTING_FAILURES,
	}
	if err := stream.Send(&sandgate.DecideRequest{Message: &sandgate.DecideRequest_Open{Open: open}}); err != nil {
		return nil, err
	}
	first, err := stream.Recv()
	if err != nil {
		return nil, err
	}
	if first.GetOpened() == nil {
		return nil, fmt.Errorf("the first message is not opened: %v", first)
	}
	return stream, nil
}

// decide answers each held call until the stream ends.
func decide(stream decideStream) error {
	for {
		response, err := stream.Recv()
		if status.Code(err) == codes.Canceled || errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		switch message := response.Message.(type) {
		case *sandgate.DecideResponse_Calls:
			batch := &sandgate.VerdictBatch{}
			for _, call := range message.Calls.Calls {
				batch.Verdicts = append(batch.Verdicts, judge(call))
			}
			if err := stream.Send(&sandgate.DecideRequest{Message: &sandgate.DecideRequest_Verdicts{Verdicts: batch}}); err != nil {
				return err
			}
		case *sandgate.DecideResponse_Outcomes:
			for _, outcome := range message.Outcomes.Outcomes {
				fmt.Printf("verdict for %d was not applied: %s\n", outcome.HoldId, outcome.GetProblem().GetMessage())
			}
		case *sandgate.DecideResponse_Problem:
			fmt.Println("problem:", message.Problem.Message)
		}
	}
}

func judge(call *sandgate.HeldCall) *sandgate.Verdict {
	verdict := &sandgate.Verdict{HoldId: call.HoldId, Action: &sandgate.Verdict_Deny{Deny: &sandgate.Deny{}}}
	network := call.GetNetwork()
	host, known := netip.AddrFromSlice(network.GetAddress().GetIp())
	if !known {
		fmt.Printf("held: %s: deny\n", call.Syscall)
		return verdict
	}
	word := "deny"
	if host.String() == allowedHost {
		word = "allow"
		verdict.Action = &sandgate.Verdict_Allow{Allow: &sandgate.Allow{}}
		verdict.Reason = "the host is on our list"
	}
	fmt.Printf("held: %s wants %s to %s: %s\n", call.GetTask().GetCommand().GetText(), call.Syscall, host, word)
	return verdict
}

// follow prints what the program writes, from its first byte, and returns how it ended.
func follow(ctx context.Context, connection *grpc.ClientConn, sandboxID string) (*sandgate.ExitStatus, error) {
	stream, err := sandgate.NewStdioServiceClient(connection).Attach(ctx)
	if err != nil {
		return nil, err
	}
	stdout, stderr := uint32(sandgate.StdioStream_STDIO_STREAM_STDOUT), uint32(sandgate.StdioStream_STDIO_STREAM_STDERR)
	open := &sandgate.AttachOpen{SandboxId: sandboxID, Offsets: map[uint32]uint64{stdout: 0, stderr: 0}}
	if err := stream.Send(&sandgate.AttachRequest{Message: &sandgate.AttachRequest_Open{Open: open}}); err != nil {
		return nil, err
	}
	names := map[uint32]string{stdout: "stdout", stderr: "stderr"}
	tails := map[uint32][]byte{}
	for {
		response, err := stream.Recv()
		if err != nil {
			return nil, err
		}
		if exit := response.GetExit(); exit != nil {
			return exit, stream.CloseSend()
		}
		output := response.GetOutput()
		if output == nil {
			continue
		}
		number := uint32(output.Stream)
		lines := bytes.Split(append(tails[number], output.Data...), []byte("\n"))
		for _, line := range lines[:len(lines)-1] {
			fmt.Printf("%s: %s\n", names[number], line)
		}
		tails[number] = lines[len(lines)-1]
		// Bytes read make room for as many more.
		credit := &sandgate.OutputCredit{Bytes: uint32(len(output.Data))}
		if err := stream.Send(&sandgate.AttachRequest{Message: &sandgate.AttachRequest_Credit{Credit: credit}}); err != nil && !errors.Is(err, io.EOF) {
			return nil, err
		}
	}
}

// showErrors shows what wrong requests get: a gRPC status with the reason and the field, for programs to read.
func showErrors(ctx context.Context, connection *grpc.ClientConn) {
	sandboxes := sandgate.NewSandboxServiceClient(connection)
	spawn := func(spec *sandgate.SandboxSpec, argv ...string) error {
		_, err := sandboxes.Spawn(ctx, &sandgate.SpawnRequest{
			RequestId: rand.Text(),
			Spec:      spec,
			Process:   &sandgate.ProcessSpec{Argv: argv},
		})
		return err
	}
	relative := &sandgate.SandboxSpec{Filesystem: &sandgate.FilesystemPolicy{Readable: []string{"data"}}}
	_, lookUp := sandboxes.GetSandbox(ctx, &sandgate.GetSandboxRequest{SandboxId: "not-there"})
	fmt.Println("spawn without a program:", describe(spawn(nil)))
	fmt.Println("spawn with a relative path:", describe(spawn(relative, "true")))
	fmt.Println("spawn of a missing program:", describe(spawn(nil, "/usr/bin/no-such-program")))
	fmt.Println("look up a sandbox that is not there:", describe(lookUp))
}

// describe unpacks google.rpc.Status from a failed call.
func describe(err error) string {
	if err == nil {
		return "accepted"
	}
	failure := status.Convert(err)
	reason, stage, fields := "", "", []string{}
	for _, detail := range failure.Details() {
		switch detail := detail.(type) {
		case *errdetails.ErrorInfo:
			reason = detail.Reason
			if name := detail.Metadata["stage"]; name != "" {
				stage = " stage=" + name
			}
		case *errdetails.BadRequest:
			for _, violation := range detail.FieldViolations {
				fields = append(fields, violation.Field)
			}
		}
	}
	return fmt.Sprintf("%s reason=%s field=%s%s", failure.Code(), reason, strings.Join(fields, ", "), stage)
}

// greet listens on every local address and greets who connects.
func greet() (net.Listener, int, error) {
	listener, err := net.Listen("tcp4", "0.0.0.0:0")
	if err != nil {
		return nil, 0, err
	}
	go func() {
		for {
			connection, err := listener.Accept()
			if err != nil {
				return
			}
			fmt.Fprintln(connection, "hello")
			connection.Close()
		}
	}()
	return listener, listener.Addr().(*net.TCPAddr).Port, nil
}
