import { constants } from "node:fs";
import { type FileHandle, open, rename, rm } from "node:fs/promises";

export interface RotationOptions {
  /** A file is put aside before it would grow beyond this, unless a single line is longer. */
  readonly maxBytes: number;
  /** Files put aside that are kept: `PATH.1` is the newest. */
  readonly keep: number;
  /** When what was written is forced to the disk: at each write, or when a file is put aside and at the end. */
  readonly sync: "write" | "rotation";
}

/** Lines in a file, and older ones in files beside it. Used by one caller at a time. */
export interface RotatingFile {
  /** Writes whole lines, each ending in a line feed. When it rejects, how many of them were written is not known. */
  write(lines: readonly string[]): Promise<void>;
  close(): Promise<void>;
}

const mode = 0o600;
// A link in its place could lead our lines elsewhere, and a pipe would wait for its reader.
const flags = constants.O_WRONLY | constants.O_APPEND | constants.O_CREAT | constants.O_NOFOLLOW | constants.O_NONBLOCK;

async function openFile(path: string): Promise<{ readonly handle: FileHandle; readonly size: number }> {
  const handle = await open(path, flags, mode);
  try {
    const found = await handle.stat();
    if (!found.isFile()) throw new Error(`${path} is no regular file`);
    if (found.nlink !== 1) throw new Error(`${path} has other names`);
    if ((found.mode & 0o777) !== mode) await handle.chmod(mode);
    return { handle, size: found.size };
  } catch (error) {
    await handle.close();
    throw error;
  }
}

/** Continues the file, which only its owner may read from then on (mode 0600). Rejects when it cannot be opened. */
export async function openRotatingFile(path: string, options: RotationOptions): Promise<RotatingFile> {
  const { maxBytes, keep, sync } = options;
  let current: FileHandle | undefined;
  let size = 0;
  /** A write failed: its last line may lack its end. */
  let isTorn = false;

  async function reopen(): Promise<FileHandle> {
    const opened = await openFile(path);
    current = opened.handle;
    size = opened.size;
    return current;
  }

  async function putAside(): Promise<void> {
    const handle = current;
    current = undefined;
    try {
      await handle?.datasync();
    } finally {
      await handle?.close();
    }
    if (keep === 0) await rm(path, { force: true });
    for (let number = keep; number > 0; number--) {
      const older = number === 1 ? path : `${path}.${number - 1}`;
      await rename(older, `${path}.${number}`).catch(ignoreAbsent);
    }
  }

  async function append(text: string): Promise<void> {
    if (text === "") return;
    const handle = current ?? (await reopen());
    const bytes = Buffer.from(isTorn ? `\n${text}` : text);
    isTorn = true;
    for (let at = 0; at < bytes.length; ) {
      const { bytesWritten } = await handle.write(bytes, at);
      at += bytesWritten;
      size += bytesWritten;
    }
    isTorn = false;
    if (sync === "write") await handle.datasync();
  }

  await reopen();
  return {
    async write(lines) {
      if (current === undefined) await reopen();
      let text = "";
      let bytes = 0;
      for (const line of lines) {
        const length = Buffer.byteLength(line);
        if (size + bytes > 0 && size + bytes + length > maxBytes) {
          await append(text);
          await putAside();
          text = "";
          bytes = 0;
          await reopen();
        }
        text += line;
        bytes += length;
      }
      await append(text);
    },
    async close() {
      const handle = current;
      current = undefined;
      try {
        await handle?.datasync();
      } finally {
        await handle?.close();
      }
    },
  };
}

function ignoreAbsent(error: NodeJS.ErrnoException): void {
  if (error.code !== "ENOENT") throw error;
}
