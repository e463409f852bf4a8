import { UsageError } from "./failure.js";

const UNITS: ReadonlyMap<string, number> = new Map([
  ["", 1],
  ["k", 2 ** 10],
  ["m", 2 ** 20],
  ["g", 2 ** 30],
  ["t", 2 ** 40],
]);

/** `512`, `64k`, `64KiB`, `1.5G`, in bytes; units are powers of 1024. Throws UsageError. */
export function parseByteSize(text: string): number {
  const [, count, unit] = /^(\d+(?:\.\d+)?)\s*([kmgt]?)(?:i?b)?$/i.exec(text) ?? [];
  const bytes = Math.ceil(Number(count) * (UNITS.get((unit ?? "").toLowerCase()) ?? 0));
  if (!Number.isSafeInteger(bytes)) throw new UsageError(`"${text}" is not a size: write 512k, 64MiB or 1.5G`);
  return bytes;
}
