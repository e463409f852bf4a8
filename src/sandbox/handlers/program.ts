import type { Keeper, KeeperResult, ProgramPin } from "../warden/keeper.js";
import { type Interpreter, interpreterOf } from "./script.js";

/** A file that was found as an execve's program or as a script's interpreter. */
export interface Link {
  readonly pin: ProgramPin;
  /** The name by which the next one of the chain opens it, if it is a script. */
  readonly name: Uint8Array;
}

/** What an execve starts: a file and, where it is a script, its interpreter, and so on. Held until `release`. */
export interface Program {
  readonly file: Link;
  readonly interpreters: readonly (Link & Pick<Interpreter, "argument">)[];
  release(): void;
}

export interface ProgramStart {
  /** A descriptor for what the path is relative to, or for the file itself; ownership passes. */
  readonly directory: number;
  /** Empty: the file itself. */
  readonly path: Uint8Array;
  /** Of open(2), for the look-up. */
  readonly lookup: number;
  /** How an interpreter will be told to open the file. */
  readonly name: Uint8Array;
}

/** The kernel goes no further. */
const CHAIN_LIMIT = 5;
const ENOENT = 2;
const ELOOP = 40;
const SLASH = 0x2f;

/**
 * Finds what an execve will start, in the sandbox's own confinement. `cwd` opens the caller's directory, or gives a
 * negative errno. `done` is called once; what it is given is its to release.
 */
export function findProgram(
  keeper: Keeper,
  start: ProgramStart,
  cwd: () => number,
  done: (result: KeeperResult<Program>) => void,
): void {
  const links: (Link & Pick<Interpreter, "argument">)[] = [];
  const release = (): void => {
    for (const { pin } of links.splice(0)) keeper.release(pin);
  };
  const fail = (errno: number): void => {
    release();
    done({ ok: false, errno });
  };

  function take(result: KeeperResult<ProgramPin>, { name, argument }: Interpreter): void {
    if (!result.ok) {
      fail(result.errno);
      return;
    }
    links.push({ pin: result.value, name, argument });
    const next = interpreterOf(result.value.head);
    if (next === undefined) finish();
    else if (links.length > CHAIN_LIMIT) fail(ELOOP);
    else follow(next);
  }

  function follow(interpreter: Interpreter): void {
    if (interpreter.name.length === 0) {
      fail(ENOENT);
      return;
    }
    const directory = interpreter.name[0] === SLASH ? undefined : cwd();
    if (directory !== undefined && directory < 0) fail(-directory);
    else keeper.program(directory, interpreter.name, 0, (result) => take(result, interpreter));
  }

  function finish(): void {
    const [file, ...interpreters] = links;
    if (file !== undefined) done({ ok: true, value: { file, interpreters, release } });
  }

  keeper.program(start.directory, start.path, start.lookup, (result) =>
    take(result, { name: start.name, argument: undefined }),
  );
}

const NUL = Buffer.of(0);

/** The arguments that a started program is given: a script's interpreter gets its name in place of the first one. */
export function argumentsOf(program: Program, argv: readonly Uint8Array[]): Buffer {
  // Without any, the kernel gives an empty first one.
  let given = argv.length === 0 ? [new Uint8Array(0)] : [...argv];
  let { name } = program.file;
  for (const interpreter of program.interpreters) {
    const line = interpreter.argument === undefined ? [interpreter.name] : [interpreter.name, interpreter.argument];
    given = [...line, name, ...given.slice(1)];
    name = interpreter.name;
  }
  return Buffer.concat(given.flatMap((argument) => [argument, NUL]));
}
