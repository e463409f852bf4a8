import type { Writable } from "node:stream";
import type { OutputSinks } from "./attachment.js";
import type { OutputGate } from "./prompter.js";

/** Whoever read our output went away, as `head` does. */
export class OutputClosed extends Error {
  override readonly name = "OutputClosed";
}

/** Writes to this process's own streams, and waits while a question is on the same terminal. */
export function createSinks(
  gate: OutputGate,
  stdout: Writable & { isTTY?: boolean },
  stderr: Writable & { isTTY?: boolean },
): OutputSinks {
  // Each failed write rejects; without a listener the stream's own event would end this process besides.
  for (const stream of [stdout, stderr]) stream.on("error", () => undefined);
  const writeTo = (stream: Writable & { isTTY?: boolean }) => async (data: Uint8Array) => {
    if (stream.isTTY === true) await gate.whenOpen();
    await writeAll(stream, data);
  };
  return {
    stdout: writeTo(stdout),
    stderr: writeTo(stderr),
    note: (line) => void stderr.write(`sandgate: ${line}\n`),
  };
}

function writeAll(stream: Writable, data: Uint8Array): Promise<void> {
  return new Promise((resolve, reject) => {
    stream.write(data, (error) => {
      if (error == null) resolve();
      else if ("code" in error && error.code === "EPIPE") reject(new OutputClosed(error.message, { cause: error }));
      else reject(error);
    });
  });
}

/** One JSON object on a line; resolves when it was handed over. */
export function writeJsonLine(stream: Writable, value: unknown): Promise<void> {
  return writeAll(stream, Buffer.from(`${JSON.stringify(value)}\n`));
}
