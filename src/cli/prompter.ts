import type { SharedInput } from "./input.js";
import { type Answer, parseAnswer } from "./question.js";
import type { Style } from "./style.js";

/** Puts one question at a time to whoever answers. */
export interface Prompter {
  /** Undefined: nobody can answer any more. Throws the signal's reason when it aborts. */
  ask(lines: readonly string[], signal: AbortSignal): Promise<Answer | undefined>;
  /** Tells something that needs no answer. */
  note(line: string): void;
  close(): void;
}

/** Holds the program's output back while a question is on the same screen. */
export interface OutputGate {
  close(): void;
  open(): void;
  /** Resolves at once while open. */
  whenOpen(): Promise<void>;
}

export function createOutputGate(): OutputGate {
  let opening: Promise<void> | undefined;
  let open: (() => void) | undefined;
  return {
    close() {
      opening ??= new Promise((resolve) => {
        open = resolve;
      });
    },
    open() {
      open?.();
      opening = undefined;
      open = undefined;
    },
    whenOpen: () => opening ?? Promise.resolve(),
  };
}

const CHOICES = "[a]llow once  [r]emember  [d]eny  [k]ill";

/** Asks a person. `write` goes to the terminal, never to the program's output. */
export function createTerminalPrompter(
  input: SharedInput,
  gate: OutputGate,
  style: Style,
  write: (text: string) => void,
): Prompter {
  return {
    async ask(lines, signal) {
      const borrowed = await input.borrow();
      gate.close();
      try {
        write(`${framed(lines, style)}${style.bold(CHOICES)} ? `);
        for (;;) {
          const line = await borrowed.readLine(signal);
          if (line === undefined) return undefined;
          const answer = parseAnswer(line);
          if (answer !== undefined) return answer;
          write(`${style.yellow("type a, r, d or k")} ${style.bold(CHOICES)} ? `);
        }
      } finally {
        if (signal.aborted) write("\n");
        borrowed.release();
        gate.open();
      }
    },
    note: (line) => write(`${style.dim(`sandgate: ${line}`)}\n`),
    close: () => input.close(),
  };
}

/** Takes one answer a line from a script; what is not an answer is an error that denies. */
export function createScriptedPrompter(
  lines: AsyncIterator<string>,
  style: Style,
  write: (text: string) => void,
): Prompter {
  let pending: Promise<IteratorResult<string>> | undefined; // outlives a question that was withdrawn
  return {
    async ask(questionLines, signal) {
      write(framed(questionLines, style));
      for (;;) {
        pending ??= lines.next();
        const next = await abortable(pending, signal);
        pending = undefined;
        if (next.done === true) return undefined;
        const text = next.value.trim();
        if (text === "" || text.startsWith("#")) continue;
        const answer = parseAnswer(text);
        write(answer === undefined ? `sandgate: "${text}" is no answer: denied\n` : `${CHOICES} ? ${answer}\n`);
        return answer ?? "deny";
      }
    },
    note: (line) => write(`sandgate: ${line}\n`),
    close: () => void lines.return?.(),
  };
}

/** Nobody is there: every question is denied, which is said once. */
export function createAbsentPrompter(write: (text: string) => void): Prompter {
  return {
    ask: () => Promise.resolve(undefined),
    note: (line) => write(`sandgate: ${line}\n`),
    close: () => undefined,
  };
}

function framed(lines: readonly string[], style: Style): string {
  const [first = "", ...rest] = lines;
  return [`${style.bold("sandgate:")} ${first}`, ...rest.map((line) => style.dim(line))]
    .map((line) => `${line}\n`)
    .join("");
}

function abortable<T>(promise: Promise<T>, signal: AbortSignal): Promise<T> {
  return new Promise((resolve, reject) => {
    const abort = () => reject(signal.reason);
    if (signal.aborted) abort();
    signal.addEventListener("abort", abort, { once: true });
    promise.then(resolve, reject).finally(() => signal.removeEventListener("abort", abort));
  });
}
