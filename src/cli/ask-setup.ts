import { createReadStream, openSync } from "node:fs";
import { createInterface } from "node:readline";
import type { Readable } from "node:stream";
import { ReadStream, WriteStream } from "node:tty";
import { UsageError } from "./failure.js";
import { createSharedInput, type SharedInput } from "./input.js";
import {
  createAbsentPrompter,
  createScriptedPrompter,
  createTerminalPrompter,
  type OutputGate,
  type Prompter,
} from "./prompter.js";
import { styleFor } from "./style.js";

export interface PrompterSources {
  /** --answers: a file with one answer a line, "-" for standard input; undefined asks a person. */
  readonly answers: string | undefined;
  /** Standard input, shared with the program. */
  readonly input: SharedInput;
  readonly stdin: Readable;
  readonly stderr: WritableTerminal;
  readonly gate: OutputGate;
  readonly env: Readonly<Record<string, string | undefined>>;
}

interface WritableTerminal {
  readonly isTTY?: boolean;
  write(text: string): unknown;
}

/** Who answers: the script, else the person at standard input's terminal or at /dev/tty, else nobody. */
export function createPrompter({ answers, input, stdin, stderr, gate, env }: PrompterSources): Prompter {
  const style = styleFor(stderr, env);
  const write = (text: string) => void stderr.write(text);
  if (answers !== undefined) {
    const source = answers === "-" ? stdin : openAnswers(answers);
    const lines = createInterface({ input: source, crlfDelay: Number.POSITIVE_INFINITY });
    return createScriptedPrompter(lines[Symbol.asyncIterator](), style, write);
  }
  if (input.isTerminal) return createTerminalPrompter(input, gate, style, write);
  const terminal = openControllingTerminal();
  if (terminal === undefined) return createAbsentPrompter(write);
  if (stderr.isTTY === true) return createTerminalPrompter(createSharedInput(terminal.input), gate, style, write);
  const screen = terminal.output;
  return createTerminalPrompter(
    createSharedInput(terminal.input),
    gate,
    styleFor(screen, env),
    (text) => void screen.write(text),
  );
}

function openAnswers(file: string): Readable {
  try {
    return createReadStream(file, { fd: openSync(file, "r") });
  } catch (error) {
    throw new UsageError(`--answers ${file}: ${error instanceof Error ? error.message : String(error)}`);
  }
}

function openControllingTerminal(): { input: ReadStream; output: WriteStream } | undefined {
  try {
    return { input: new ReadStream(openSync("/dev/tty", "r")), output: new WriteStream(openSync("/dev/tty", "w")) };
  } catch {
    return undefined; // no controlling terminal: ENXIO, or none that may be opened
  }
}
