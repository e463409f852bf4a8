import { isUtf8 } from "node:buffer";

/**
 * Writes protobuf fields in the order of the calls. Zero and empty values are left out, as proto3 does. For the few
 * messages that are sent for each held call; everything else is encoded by the generated code.
 */
export interface Writer {
  /** Starts anew; what `take` returned stays as it is. */
  reset(): void;
  /** A copy of what was written. */
  take(): Buffer;
  /** A non-negative integer up to 2^53, for uint32, uint64, int64 and enums. */
  uint(field: number, value: number): void;
  bool(field: number, value: boolean): void;
  text(field: number, value: string): void;
  bytes(field: number, value: Uint8Array): void;
  /** A packed list. */
  fixed64(field: number, values: readonly bigint[]): void;
  /** Fields already encoded, as they are. */
  raw(fields: Uint8Array): void;
  /** A message of fields already encoded. Written even when empty. */
  embed(field: number, fields: Uint8Array): void;
  /** A message whose fields `write` writes. Written even when empty. */
  message(field: number, write: () => void): void;
  /** An `OsString`. */
  osString(field: number, value: Uint8Array): void;
  /** A `Duration` or `Timestamp`, to the millisecond. */
  time(field: number, milliseconds: number): void;
  /** A `Duration`, to the microsecond. */
  duration(field: number, milliseconds: number): void;
}

const VARINT = 0;
const FIXED64 = 8;
const LENGTH = 2;
/** A varint of 2^53 and a tag of a field below 2^11. */
const roomForScalar = 12;

export function createWriter(): Writer {
  let buffer = Buffer.allocUnsafe(4096);
  let at = 0;

  function ensure(room: number): void {
    if (at + room <= buffer.length) return;
    const grown = Buffer.allocUnsafe(Math.max(buffer.length * 2, at + room));
    buffer.copy(grown, 0, 0, at);
    buffer = grown;
  }

  function varint(value: number): void {
    let rest = value;
    while (rest > 0x7fffffff) {
      buffer[at++] = (rest % 128) | 128;
      rest = Math.floor(rest / 128);
    }
    while (rest > 127) {
      buffer[at++] = (rest & 127) | 128;
      rest >>>= 7;
    }
    buffer[at++] = rest;
  }

  function tag(field: number, type: number): void {
    ensure(roomForScalar);
    varint((field << 3) | type);
  }

  function uint(field: number, value: number): void {
    if (!(value > 0)) return;
    tag(field, VARINT);
    varint(value);
  }

  function bytes(field: number, value: Uint8Array): void {
    if (value.length > 0) embed(field, value);
  }

  function embed(field: number, value: Uint8Array): void {
    tag(field, LENGTH);
    varint(value.length);
    raw(value);
  }

  function raw(value: Uint8Array): void {
    ensure(value.length);
    buffer.set(value, at);
    at += value.length;
  }

  /** One byte is kept for the length; a longer one pushes the content on. */
  function open(field: number): number {
    tag(field, LENGTH);
    at += 1;
    return at;
  }

  function close(start: number): void {
    const length = at - start;
    if (length < 128) {
      buffer[start - 1] = length;
      return;
    }
    const extra = length < 16_384 ? 1 : length < 2_097_152 ? 2 : 3;
    ensure(extra);
    buffer.copyWithin(start + extra, start, at);
    at = start - 1;
    varint(length);
    at += length;
  }

  function text(field: number, value: string): void {
    if (value === "") return;
    const start = open(field);
    ensure(value.length * 3);
    at += buffer.write(value, at, "utf8");
    close(start);
  }

  function instant(field: number, seconds: number, nanoseconds: number): void {
    const start = open(field);
    uint(1, seconds);
    uint(2, nanoseconds);
    close(start);
  }

  return {
    reset() {
      at = 0;
    },
    take: () => Buffer.from(buffer.subarray(0, at)),
    uint,
    bool: (field, value) => uint(field, value ? 1 : 0),
    text,
    bytes,
    fixed64(field, values) {
      if (values.length === 0) return;
      tag(field, LENGTH);
      varint(values.length * FIXED64);
      ensure(values.length * FIXED64);
      for (const value of values) at = buffer.writeBigUInt64LE(BigInt.asUintN(64, value), at);
    },
    raw,
    embed,
    message(field, write) {
      const start = open(field);
      write();
      close(start);
    },
    osString(field, value) {
      const start = open(field);
      if (isUtf8(value)) {
        bytes(1, value);
      } else {
        text(1, Buffer.from(value.buffer, value.byteOffset, value.byteLength).toString("utf8"));
        bytes(2, value);
      }
      close(start);
    },
    time(field, milliseconds) {
      const whole = Math.max(0, Math.floor(milliseconds));
      instant(field, Math.floor(whole / 1000), (whole % 1000) * 1_000_000);
    },
    duration(field, milliseconds) {
      const whole = Math.max(0, Math.round(milliseconds * 1000));
      instant(field, Math.floor(whole / 1_000_000), (whole % 1_000_000) * 1000);
    },
  };
}
