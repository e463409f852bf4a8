/** The inbox for people: the calls that wait for an answer, and answers from another terminal. */
import { randomUUID } from "node:crypto";
import { toJson } from "@bufbuild/protobuf";
import { durationMs } from "@bufbuild/protobuf/wkt";
import type { SandgateClient } from "../client/client.js";
import { type HeldCall, HeldCallSchema, type VerdictOutcome } from "../gen/sandgate/v1/decision_pb.js";
import { createPrompter } from "./ask-setup.js";
import { startAsker } from "./asker.js";
import { type Connection, connectTo, withConnection } from "./connection.js";
import { formatDurationMs } from "./duration.js";
import { EXIT_OWN_FAILURE, Exit, UsageError } from "./failure.js";
import { createSharedInput, passOutputUnchanged } from "./input.js";
import { linkOf } from "./links.js";
import { writeJsonLine } from "./output.js";
import { printable } from "./printable.js";
import { createOutputGate } from "./prompter.js";
import { type Answer, describeCall, describeTask, verdictFor } from "./question.js";
import { formatTable } from "./style.js";

export interface ApproveOptions {
  readonly address?: string | undefined;
  readonly deny?: boolean;
  readonly kill?: boolean;
  readonly remember?: boolean;
  readonly follow?: boolean;
  readonly answers?: string;
  readonly sandbox?: readonly string[];
  readonly json?: boolean;
}

/** Lists, answers, or asks, as the options say. Throws UsageError. */
export async function approve(calls: readonly string[], options: ApproveOptions): Promise<void> {
  const answer = answerOf(options);
  const numbers = calls.map(callNumber);
  const isAnswer = options.deny === true || options.kill === true || options.remember === true;
  if (numbers.length === 0 && isAnswer) throw new UsageError("say which calls: list them with sandgate approve");
  if (options.answers !== undefined && options.follow !== true) throw new UsageError("--answers goes with --follow");
  if (options.follow === true && (numbers.length > 0 || isAnswer || options.json === true))
    throw new UsageError("--follow asks for each call: leave out numbers, answers and --json");
  const sandboxIds = options.sandbox ?? [];
  await withConnection(connectTo(options.address), async (connection) => {
    if (options.follow === true) await follow(connection, sandboxIds, options.answers);
    else if (numbers.length > 0)
      await answerCalls(connection.client, sandboxIds, numbers, answer, options.json === true);
    else await list(connection.client, sandboxIds, options.json === true);
  });
}

function answerOf({ deny, kill, remember }: ApproveOptions): Answer {
  const chosen: Answer[] = [
    ...(deny === true ? ["deny" as const] : []),
    ...(kill === true ? ["kill" as const] : []),
    ...(remember === true ? ["remember" as const] : []),
  ];
  if (chosen.length > 1) throw new UsageError("choose one of --deny, --kill and --remember");
  return chosen[0] ?? "allow";
}

function callNumber(text: string): bigint {
  if (/^[1-9]\d{0,18}$/.test(text)) return BigInt(text);
  throw new UsageError(`${text}: write the number of a call, such as 17, as sandgate approve lists it`);
}

/** Every call that waits, oldest first. */
async function heldCalls(client: SandgateClient, sandboxIds: readonly string[]): Promise<HeldCall[]> {
  const found: HeldCall[] = [];
  for (let pageToken = ""; ; ) {
    const page = await client.decision.listHeldCalls({ selector: { sandboxIds: [...sandboxIds] }, pageToken });
    found.push(...page.calls);
    pageToken = page.nextPageToken;
    if (pageToken === "") return found;
  }
}

async function list(client: SandgateClient, sandboxIds: readonly string[], json: boolean): Promise<void> {
  const calls = await heldCalls(client, sandboxIds);
  if (json) {
    for (const call of calls) await writeJsonLine(process.stdout, toJson(HeldCallSchema, call));
    return;
  }
  const rows = calls.map((call) => [
    String(call.holdId),
    printable(call.task?.sandboxId ?? ""),
    formatDurationMs(call.timeLeft === undefined ? 0 : durationMs(call.timeLeft)),
    `${describeTask(call.task)} wants to ${describeCall(call)}`,
  ]);
  process.stdout.write(formatTable(["CALL", "SANDBOX", "LEFT", "WHAT"], rows));
}

/** Answers each; ends with status 125 when one could not be answered, after the others were. */
async function answerCalls(
  client: SandgateClient,
  sandboxIds: readonly string[],
  numbers: readonly bigint[],
  answer: Answer,
  json: boolean,
): Promise<void> {
  const waiting = new Map((await heldCalls(client, sandboxIds)).map((call) => [call.holdId, call]));
  let failed = false;
  for (const holdId of numbers) {
    const call = waiting.get(holdId);
    const problem = call === undefined ? "no such call waits any more" : await answerCall(client, call, answer);
    failed ||= problem !== undefined;
    if (json) await writeJsonLine(process.stdout, { holdId: String(holdId), answer, problem });
    else if (problem !== undefined) process.stderr.write(`sandgate: call ${holdId}: ${problem}\n`);
    else process.stdout.write(`${DONE[answer]} ${call === undefined ? "" : describeCall(call)}\n`);
  }
  if (failed) throw new Exit(EXIT_OWN_FAILURE);
}

const DONE: Readonly<Record<Answer, string>> = {
  allow: "allowed to",
  remember: "allowed from now on to",
  deny: "not allowed to",
  kill: "killed for wanting to",
};

/** Undefined, or why the answer was not applied, or not remembered. */
async function answerCall(client: SandgateClient, call: HeldCall, answer: Answer): Promise<string | undefined> {
  const { outcome } = await client.decision.resolveHeldCall({
    requestId: randomUUID(),
    sandboxId: call.task?.sandboxId ?? "",
    verdict: verdictFor(call, answer, "answered with sandgate approve"),
  });
  return problemOf(outcome);
}

function problemOf(outcome: VerdictOutcome | undefined): string | undefined {
  if (outcome?.problem === undefined) return undefined;
  const { message } = outcome.problem;
  return outcome.applied ? `answered, but ${message}` : message;
}

/** A decider at this terminal for all that comes, until it is interrupted: what waits then goes to others. */
async function follow(
  { client }: Connection,
  sandboxIds: readonly string[],
  answers: string | undefined,
): Promise<void> {
  // Without anybody to ask, a decider would deny all that others could still answer.
  if (answers === undefined && process.stdin.isTTY !== true) throw new UsageError("--follow: no terminal to ask at");
  const input = createSharedInput(process.stdin, passOutputUnchanged);
  const prompter = createPrompter({
    answers,
    input,
    stdin: process.stdin,
    stderr: process.stderr,
    gate: createOutputGate(),
    env: process.env,
  });
  const call = client.decision.decide();
  const asker = startAsker(linkOf(call), { sandboxIds, namesSandbox: true }, prompter);
  let stopped = false;
  const stop = () => {
    stopped = true;
    call.cancel();
  };
  process.once("SIGINT", stop);
  process.once("SIGTERM", stop);
  try {
    await asker.done;
  } catch (error) {
    if (!stopped) throw error;
  } finally {
    prompter.close();
    input.close();
  }
}
