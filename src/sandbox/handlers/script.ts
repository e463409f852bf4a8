/** What the kernel makes of a file that begins with `#!`: fs/binfmt_script.c of Linux 6.18. */

/** BINPRM_BUF_SIZE: the kernel looks at no more of a file. */
const HEAD_BYTES = 256;
const NUL = 0;
const TAB = 9;
const NEWLINE = 10;
const SPACE = 32;

export interface Interpreter {
  /** As the file names it: relative to the caller's directory when it does not begin with a slash. */
  readonly name: Uint8Array;
  /** All else of the line, as one argument. */
  readonly argument: Uint8Array | undefined;
}

/** The interpreter that a file with these first bytes is given to, or undefined when it is no script. */
export function interpreterOf(bytes: Uint8Array): Interpreter | undefined {
  const head = new Uint8Array(HEAD_BYTES);
  head.set(bytes.subarray(0, HEAD_BYTES));
  if (head[0] !== 0x23 || head[1] !== 0x21) return undefined;
  const end = endOfLine(head);
  if (end === undefined) return undefined;
  const start = find(head, 2, end, (byte) => !isBlank(byte));
  if (start === undefined || start === end) return undefined;
  const blank = find(head, start, end, (byte) => isBlank(byte) || byte === NUL);
  const name = head.slice(start, Math.min(blank ?? end, end));
  const argument =
    blank === undefined || head[blank] === NUL ? undefined : find(head, blank, end, (byte) => !isBlank(byte));
  return { name, argument: argument === undefined || argument >= end ? undefined : upToNul(head.slice(argument, end)) };
}

/** Of the line without the blanks at its end. Without a newline the name must at least be whole. */
function endOfLine(head: Uint8Array): number | undefined {
  let end = head.indexOf(NEWLINE);
  // What looks for it stops at a NUL, as strings do.
  const nul = head.indexOf(NUL);
  if (nul >= 0 && nul < end) end = -1;
  if (end < 0) {
    const last = HEAD_BYTES - 1;
    const start = find(head, 2, last, (byte) => !isBlank(byte));
    if (start === undefined || find(head, start, last, (byte) => isBlank(byte) || byte === NUL) === undefined) {
      return undefined;
    }
    end = last;
  }
  while (isBlank(head[end - 1])) end--;
  return end;
}

/** The first index up to and with `last`. */
function find(head: Uint8Array, from: number, last: number, wanted: (byte: number | undefined) => boolean) {
  for (let at = from; at <= last; at++) if (wanted(head[at])) return at;
  return undefined;
}

function upToNul(bytes: Uint8Array): Uint8Array {
  const nul = bytes.indexOf(NUL);
  return nul < 0 ? bytes : bytes.subarray(0, nul);
}

function isBlank(byte: number | undefined): boolean {
  return byte === SPACE || byte === TAB;
}
