import { closeSync } from "node:fs";

/** A descriptor with one owner: closed when the owner's scope ends, unless handed on before. */
export interface OwnedFd extends Disposable {
  /** The number, for calls that borrow it. Throws once it was released or closed. */
  readonly fd: number;
  /** Hands the descriptor to the caller, who must close it. */
  release(): number;
}

/** Takes over `fd`; the caller must not close it any more. */
export function ownFd(fd: number, close: (fd: number) => void = closeSync): OwnedFd {
  if (!Number.isInteger(fd) || fd < 0) throw new RangeError(`not a descriptor: ${fd}`);
  let owned: number | undefined = fd;
  const take = (): number => {
    if (owned === undefined) throw new Error(`descriptor ${fd} is no longer owned here`);
    return owned;
  };
  return {
    get fd() {
      return take();
    },
    release() {
      const number = take();
      owned = undefined;
      return number;
    },
    [Symbol.dispose]() {
      if (owned === undefined) return;
      owned = undefined;
      close(fd);
    },
  };
}
