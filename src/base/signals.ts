/** A signal that aborts with the first of several, and lets go of them when disposed. */
export interface LinkedSignal extends Disposable {
  readonly signal: AbortSignal;
}

/**
 * Joins signals for one scope. Unlike `AbortSignal.any`, whose composites a long-lived signal keeps alive
 * on Node 20, the listeners are gone when the scope ends.
 */
export function linkedSignal(...signals: readonly AbortSignal[]): LinkedSignal {
  const controller = new AbortController();
  const release = (): void => {
    for (const signal of signals) signal.removeEventListener("abort", abort);
  };
  function abort(this: AbortSignal): void {
    release();
    controller.abort(this.reason);
  }
  for (const signal of signals) {
    if (signal.aborted) {
      abort.call(signal);
      break;
    }
    signal.addEventListener("abort", abort);
  }
  return { signal: controller.signal, [Symbol.dispose]: release };
}

/** A promise with its two ends. (`Promise.withResolvers` is not in Node 20.) */
export interface Deferred<Value> {
  readonly promise: Promise<Value>;
  resolve(value: Value): void;
  reject(error: unknown): void;
}

export function createDeferred<Value = void>(): Deferred<Value> {
  let resolve!: (value: Value) => void;
  let reject!: (error: unknown) => void;
  const promise = new Promise<Value>((onResolve, onReject) => {
    resolve = onResolve;
    reject = onReject;
  });
  return { promise, resolve, reject };
}

/** Settles with `promise`, or rejects with the signal's reason. What the promise stands for goes on. */
export async function untilAborted<Value>(promise: Promise<Value>, signal: AbortSignal): Promise<Value> {
  signal.throwIfAborted();
  const aborted = createDeferred<never>();
  const abort = (): void => aborted.reject(signal.reason);
  signal.addEventListener("abort", abort);
  try {
    return await Promise.race([promise, aborted.promise]);
  } finally {
    signal.removeEventListener("abort", abort);
  }
}
