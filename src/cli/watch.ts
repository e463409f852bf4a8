import { toJson } from "@bufbuild/protobuf";
import { durationMs, timestampMs } from "@bufbuild/protobuf/wkt";
import { type Event, EventSchema, GapSchema, SandboxState, type Verdict, VerdictSource } from "../client/client.js";
import { connectTo, withConnection } from "./connection.js";
import { formatDurationMs } from "./duration.js";
import { describeExit } from "./exit-status.js";
import { writeJsonLine } from "./output.js";
import { clipped, printable, quoted } from "./printable.js";
import { describeCall, describeTask, printableOs } from "./question.js";
import { type Style, styleFor } from "./style.js";
import { type WatchFilter, watchRequest } from "./watch-request.js";

export interface WatchOptions extends WatchFilter {
  readonly address?: string | undefined;
  readonly json?: boolean;
}

/** Prints events until interrupted. */
export async function watch(options: WatchOptions): Promise<void> {
  const request = watchRequest(options);
  const style = styleFor(process.stdout, process.env);
  const stopping = new AbortController();
  const stop = () => stopping.abort();
  process.once("SIGINT", stop);
  process.once("SIGTERM", stop);
  await withConnection(connectTo(options.address), async ({ client }) => {
    try {
      for await (const response of client.watch.watch(request, { signal: stopping.signal })) {
        const cursorOf = (event: Event): string => {
          const { epoch, sequence } = response.cursor ?? { epoch: "", sequence: 0n };
          // Folded events, and those without their place, are resumed from the end of their message.
          const isPlaced = request.aggregation === undefined && event.sequence !== 0n;
          return `${epoch}:${isPlaced ? event.sequence : sequence}`;
        };
        for (const gap of response.gaps) {
          if (options.json === true) await writeJsonLine(process.stdout, { gap: toJson(GapSchema, gap) });
          else process.stdout.write(style.red(`${gap.lost} events were lost between ${gap.first} and ${gap.last}\n`));
        }
        for (const event of response.events) {
          if (options.json === true) await writeJsonLine(process.stdout, jsonEvent(event, cursorOf(event)));
          else process.stdout.write(`${describeEvent(event, style)}\n`);
        }
      }
    } catch (error) {
      if (!stopping.signal.aborted) throw error;
    }
  });
}

/** The event with the cursor that resumes after it, in the form that --since takes. */
function jsonEvent(event: Event, cursor: string): unknown {
  return { ...(toJson(EventSchema, event) as Record<string, unknown>), cursor };
}

/** One line. Nothing that a program chose can break out of it. */
export function describeEvent(event: Event, style: Style): string {
  const time = event.time === undefined ? "" : new Date(timestampMs(event.time)).toISOString().slice(11, 23);
  const count = event.count > 1n ? style.dim(` ×${event.count}`) : "";
  return `${style.dim(time)} ${printable(event.sandboxId)} ${describeBody(event, style)}${count}`;
}

function describeBody({ event, task }: Event, style: Style): string {
  switch (event.case) {
    case "sandboxChanged": {
      const state = SandboxState[event.value.sandbox?.state ?? SandboxState.UNSPECIFIED] ?? "changed";
      return style.bold(state.toLowerCase());
    }
    case "processStarted": {
      const argv = clipped(
        event.value.argv.map((each) => quoted(each.raw.length > 0 ? each.raw : each.text)).join(" "),
        200,
      );
      return `started ${printableOs(event.value.program)}${argv === "" ? "" : ` as ${argv}`}`;
    }
    case "processEnded": {
      const { exit } = event.value;
      return `${describeTask(task)} ended${exit === undefined ? "" : `: ${describeExit(exit)}`}`;
    }
    case "callHeld":
      return event.value.call === undefined
        ? "held a call"
        : `${style.yellow("held")} ${describeTask(event.value.call.task ?? task)} wants to ${describeCall(event.value.call)}`;
    case "callSettled": {
      const { call, verdict, source, sourceName, held } = event.value;
      const by = [SOURCES.get(source) ?? "", printable(sourceName)].filter((part) => part !== "").join(" ");
      const after = held === undefined ? "" : ` after ${formatDurationMs(durationMs(held))}`;
      const about = call === undefined ? "a call" : `${describeTask(call.task ?? task)}: ${describeCall(call)}`;
      return `${paintedVerdict(verdict, style)} ${about}${style.dim(` · ${by}${after}`)}`;
    }
    case "limitReached":
      return style.red(`limit ${printable(event.value.limit)} reached: ${printable(event.value.action)}`);
    case "deciderChanged":
      return `decider ${printable(event.value.decider)} ${event.value.connected ? "came" : `went, ${event.value.leased} calls handed back`}`;
    case "grantChanged":
      return `grant ${printable(event.value.grant?.grantId ?? "")} ${event.value.active ? "holds" : "ended"}`;
    case "checkpointChanged":
    case "workdirChanged":
    case "usageSampled":
    case "httpSettled":
    case undefined:
      return event.case ?? "an event of a kind this version does not know";
  }
}

const SOURCES: ReadonlyMap<VerdictSource, string> = new Map([
  [VerdictSource.DECIDER, "by decider"],
  [VerdictSource.GRANT, "by grant"],
  [VerdictSource.RULE, "by rule"],
  [VerdictSource.STATIC, "by the static policy"],
  [VerdictSource.TIMEOUT, "because time was over"],
  [VerdictSource.NO_DECIDER, "because no decider was there"],
  [VerdictSource.TARGET_GONE, "because the process was gone"],
]);

function paintedVerdict(verdict: Verdict | undefined, style: Style): string {
  switch (verdict?.action.case) {
    case "allow":
      return style.green("allowed");
    case "deny":
      return style.red("denied");
    case "kill":
      return style.red("killed");
    case "abstain":
    case "returnValue":
    case "substitute":
    case "provideFile":
      return style.yellow(verdict.action.case);
    case undefined:
      return "settled";
  }
}
