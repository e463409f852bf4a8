import type { MessageInitShape } from "@bufbuild/protobuf";
import { durationFromMs } from "@bufbuild/protobuf/wkt";
import { CallCategory, EventKind, VerdictSource, type WatchRequestSchema } from "../client/client.js";
import { parseDurationMs } from "./duration.js";
import { UsageError } from "./failure.js";
import { keyAndValue } from "./run-spec.js";

/** What to show, as the options of `watch` say it. */
export interface WatchFilter {
  readonly sandbox?: readonly string[];
  readonly label?: readonly string[];
  readonly kind?: readonly string[];
  readonly category?: readonly string[];
  readonly syscall?: readonly string[];
  readonly path?: readonly string[];
  readonly executable?: readonly string[];
  readonly source?: readonly string[];
  readonly refused?: boolean;
  readonly exclude?: readonly string[];
  /** Comma-separated paths. */
  readonly fields?: readonly string[];
  readonly every?: string;
  readonly since?: string;
}

type Request = Exclude<MessageInitShape<typeof WatchRequestSchema>, { readonly $typeName: string }>;
type Start = NonNullable<Request["start"]>;

/** Throws UsageError naming the option. */
export function watchRequest(options: WatchFilter): Request {
  const { sandbox = [], label = [], kind = [], category = [], syscall = [], path = [], executable = [] } = options;
  const { source = [], refused = false, exclude = [], fields = [] } = options;
  const match = {
    syscalls: [...syscall],
    categories: category.map((text) => enumValue(CallCategory, "--category", text)),
    paths: [...path],
    executables: [...executable],
  };
  const filter = {
    kinds: kind.map((text) => enumValue(EventKind, "--kind", text)),
    sources: source.map((text) => enumValue(VerdictSource, "--source", text)),
    refusalsOnly: refused,
    ...(Object.values(match).some((list) => list.length > 0) && { match }),
  };
  const isFiltered = filter.kinds.length + filter.sources.length > 0 || refused || "match" in filter;
  return {
    selector: {
      sandboxIds: [...sandbox],
      labels: Object.fromEntries(label.map((text) => keyAndValue(text, "--label", "KEY=VALUE"))),
    },
    ...(options.since !== undefined && { start: parseSince(options.since) }),
    include: isFiltered ? [filter] : [],
    exclude: exclude.length === 0 ? [] : [{ kinds: exclude.map((text) => enumValue(EventKind, "--exclude", text)) }],
    ...(fields.length > 0 && {
      readMask: { paths: fields.flatMap((list) => list.split(",").map((each) => each.trim())) },
    }),
    ...(options.every !== undefined && { aggregation: { window: durationFromMs(parseDurationMs(options.every)) } }),
  };
}

/** The number of a name such as `call_settled`, in any case, with `-` or `_`. */
function enumValue<Value extends number>(
  type: Readonly<Record<string, Value | string>>,
  flag: string,
  text: string,
): Value {
  const value = type[text.toUpperCase().replaceAll("-", "_")];
  if (typeof value === "number" && value !== 0) return value;
  const names = Object.keys(type).filter((each) => !/^\d+$/.test(each) && each !== "UNSPECIFIED");
  throw new UsageError(`${flag} ${text}: write one of ${names.map((each) => each.toLowerCase()).join(", ")}`);
}

function parseSince(text: string): Start {
  if (text === "oldest") return { case: "fromOldest", value: {} };
  if (text === "snapshot") return { case: "fromSnapshot", value: {} };
  const cursor = /^(.+):(\d+)$/.exec(text);
  if (cursor === null) {
    throw new UsageError(`--since ${text}: write EPOCH:SEQUENCE as --json shows it, or oldest, or snapshot`);
  }
  return { case: "after", value: { epoch: cursor[1] ?? "", sequence: BigInt(cursor[2] ?? "0") } };
}
