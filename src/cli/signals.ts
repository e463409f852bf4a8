import { constants } from "node:os";
import { UsageError } from "./failure.js";

/** Reads `TERM`, `SIGTERM`, `term` or `15`; gives a Linux signal number, 1 to 64. Throws UsageError. */
export function parseSignal(text: string): number {
  if (/^\d+$/.test(text)) {
    const number = Number(text);
    if (number >= 1 && number <= 64) return number;
    throw new UsageError(`signal ${text} is outside 1 to 64`);
  }
  const upper = text.toUpperCase();
  const name = upper.startsWith("SIG") ? upper : `SIG${upper}`;
  const number = (constants.signals as Readonly<Record<string, number>>)[name];
  if (number === undefined) throw new UsageError(`"${text}" is not a signal: write TERM, KILL, or a number`);
  return number;
}

/** `SIGKILL`; for a number without a name, `signal 40`. */
export function signalName(signal: number): string {
  const entry = Object.entries(constants.signals).find(([, number]) => number === signal);
  return entry === undefined ? `signal ${signal}` : entry[0];
}
