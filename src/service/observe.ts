/** How each call of the API is observed, for metrics and traces. */

/** A call that began. */
export interface ObservedCall {
  /** W3C trace context of what is done for the call; undefined: the caller's own. */
  readonly traceparent?: string | undefined;
  /** The call is over, with this gRPC status code. Called once. */
  ended(code: number): void;
}

export interface CallSite {
  /** `package.Service/Method`. */
  readonly method: string;
  readonly isStream: boolean;
  /** Of the caller's metadata, or empty. */
  readonly traceparent: string;
}

export type ObserveCall = (site: CallSite) => ObservedCall;

/** Undefined when there is nobody to tell. */
export function observeWith(observers: readonly ObserveCall[]): ObserveCall | undefined {
  if (observers.length < 2) return observers[0];
  return (site) => {
    const observed = observers.map((observe) => observe(site));
    return {
      traceparent: observed.find(({ traceparent }) => traceparent !== undefined)?.traceparent,
      ended(code) {
        for (const each of observed) each.ended(code);
      },
    };
  };
}
