import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;

/** Runs the program that it is given two hundred times from four threads, and prints how many ended with 10. */
class Spawner {
  public static void main(String[] arguments) throws Exception {
    AtomicInteger ran = new AtomicInteger();
    ExecutorService pool = Executors.newFixedThreadPool(4);
    for (int i = 0; i < 200; i++) {
      pool.execute(() -> {
        try {
          if (new ProcessBuilder(arguments[0]).start().waitFor() == 10) ran.incrementAndGet();
        } catch (Exception failed) {
          System.err.println(failed);
        }
      });
    }
    pool.shutdown();
    pool.awaitTermination(2, TimeUnit.MINUTES);
    System.out.println(ran.get());
  }
}
