/**
 * Path patterns over bytes: `*` stands for any bytes inside a segment, `**` as a whole segment for any number of
 * segments, none included. Everything else stands for itself. A wildcard never stands for `.` or `..`, so that an
 * unresolved path does not pass for one that it only begins like. Time is bounded by the product of both lengths:
 * the patterns are a client's, the paths the program's.
 */
export function compileGlob(pattern: string): (path: Uint8Array) => boolean {
  const text = Buffer.from(pattern).toString("latin1");
  const segments = text.split("/");
  if (!text.includes("*")) return (path) => latin1(path) === text;
  return (path) => matchSegments(segments, latin1(path).split("/"));
}

/** Whether any of the patterns matches; with no pattern, everything does. */
export function compileGlobs(patterns: readonly string[]): (path: Uint8Array) => boolean {
  if (patterns.length === 0) return () => true;
  const globs = patterns.map(compileGlob);
  return (path) => globs.some((matches) => matches(path));
}

function latin1(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString("latin1");
}

const ANY_SEGMENTS = "**";

/** Retries only the last wildcard: an earlier one never has to take more than it first needed. */
function matchSegments(pattern: readonly string[], path: readonly string[]): boolean {
  let at = 0;
  let next = 0;
  let retry: { readonly pattern: number; path: number } | undefined;
  while (next < path.length) {
    const segment = pattern[at];
    if (segment === ANY_SEGMENTS) {
      at += 1;
      retry = { pattern: at, path: next };
    } else if (segment !== undefined && matchSegment(segment, path[next] ?? "")) {
      at += 1;
      next += 1;
    } else if (retry !== undefined && !isDots(path[retry.path] ?? "")) {
      retry.path += 1;
      at = retry.pattern;
      next = retry.path;
    } else {
      return false;
    }
  }
  while (pattern[at] === ANY_SEGMENTS) at += 1;
  return at === pattern.length;
}

function matchSegment(pattern: string, segment: string): boolean {
  if (!pattern.includes("*")) return pattern === segment;
  if (isDots(segment)) return false;
  let at = 0;
  let next = 0;
  let retry: { readonly pattern: number; segment: number } | undefined;
  while (next < segment.length) {
    if (pattern[at] === "*") {
      at += 1;
      retry = { pattern: at, segment: next };
    } else if (at < pattern.length && pattern[at] === segment[next]) {
      at += 1;
      next += 1;
    } else if (retry !== undefined) {
      retry.segment += 1;
      at = retry.pattern;
      next = retry.segment;
    } else {
      return false;
    }
  }
  while (pattern[at] === "*") at += 1;
  return at === pattern.length;
}

function isDots(segment: string): boolean {
  return segment === "." || segment === "..";
}
