import type { Clock } from "../../src/base/clock.js";

/** A clock that stands still until it is told to go on. */
export interface ManualClock extends Clock {
  /** Lets time pass; what falls due is called at its own moment, in order. */
  pass(milliseconds: number): void;
  /** Timers that wait. */
  readonly timers: number;
}

export function createManualClock(wallMs = 1_700_000_000_000): ManualClock {
  const timers = new Set<{ readonly atMs: number; readonly expire: () => void }>();
  let nowMs = 0;
  return {
    now: () => nowMs,
    wall: () => wallMs + nowMs,
    after(delayMs, expire) {
      const timer = { atMs: nowMs + Math.max(0, delayMs), expire };
      timers.add(timer);
      return () => timers.delete(timer);
    },
    pass(milliseconds) {
      const endMs = nowMs + milliseconds;
      for (;;) {
        const [next] = [...timers].filter(({ atMs }) => atMs <= endMs).sort((one, other) => one.atMs - other.atMs);
        if (next === undefined) break;
        timers.delete(next);
        nowMs = Math.max(nowMs, next.atMs);
        next.expire();
      }
      nowMs = endMs;
    },
    get timers() {
      return timers.size;
    },
  };
}
