/** Time, handed in so that timeouts can be tested without waiting. */
export interface Clock {
  /** Monotonic, in milliseconds. */
  now(): number;
  /** Wall clock, in milliseconds since 1970. */
  wall(): number;
  /** Calls `expire` once, at the earliest after `delayMs`. Returns what cancels it. */
  after(delayMs: number, expire: () => void): () => void;
}

/** Node's timers fire at once beyond this delay; a longer wait is made of several. */
const longestTimerMs = 2 ** 31 - 1;

/** The machine's clock. A pending timer does not keep the process alive. */
export const systemClock: Clock = {
  now: () => performance.now(),
  wall: () => Date.now(),
  after(delayMs, expire) {
    let timer: NodeJS.Timeout;
    const arm = (leftMs: number): void => {
      const next = leftMs > longestTimerMs ? () => arm(leftMs - longestTimerMs) : expire;
      timer = setTimeout(next, Math.min(Math.max(0, Math.ceil(leftMs)), longestTimerMs));
      timer.unref();
    };
    arm(delayMs);
    return () => clearTimeout(timer);
  },
};
