/** What all processes of a sandbox may still write, together. */
export interface OutputAllowance {
  /** Bytes. */
  left: number;
  /** Whether more was written; then nothing is taken any more. */
  exceeded: boolean;
  /** Called once, when it is exceeded. */
  readonly onExceeded: () => void;
}

/** The part of the bytes that is allowed, which is then used up. Calls `onExceeded` before it returns less than all. */
export function takeAllowed(allowance: OutputAllowance, bytes: Uint8Array): Uint8Array {
  const allowed = bytes.subarray(0, allowance.left);
  allowance.left -= allowed.length;
  if (allowed.length < bytes.length && !allowance.exceeded) {
    allowance.exceeded = true;
    allowance.onExceeded();
  }
  return allowed;
}
