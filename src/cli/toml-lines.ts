/**
 * Where a key stands in a TOML text, for messages: smol-toml gives values without positions. `path` names
 * tables, keys and list indices from the root. When the key itself has no line of its own (it is inside an
 * inline table or a list), the line of the nearest key around it; undefined when not even that is found.
 */
export function findTomlLine(source: string, path: readonly (string | number)[]): number | undefined {
  let best: { depth: number; line: number } | undefined;
  let table: (string | number)[] = [];
  const arrayCounts = new Map<string, number>();
  for (const { text, line } of logicalLines(source)) {
    const header = /^\s*(\[\[?)\s*(.*?)\s*\]\]?\s*(?:#.*)?$/.exec(text);
    if (header !== null) {
      table = openTable(splitKey(header[2] ?? ""), header[1] === "[[", arrayCounts);
      best = better(best, commonPrefix(table, path), table.length, line);
      continue;
    }
    const key = keyOf(text);
    if (key === undefined) continue;
    const full = [...table, ...splitKey(key)];
    best = better(best, commonPrefix(full, path), full.length, line);
  }
  return best?.line;
}

/** A candidate counts only when all of it lies on the path; the longest wins, the first of equals. */
function better(best: { depth: number; line: number } | undefined, common: number, length: number, line: number) {
  if (common < length || common === 0) return best;
  return best === undefined || common > best.depth ? { depth: common, line } : best;
}

function commonPrefix(keys: readonly (string | number)[], path: readonly (string | number)[]): number {
  let common = 0;
  while (common < keys.length && common < path.length && keys[common] === path[common]) common++;
  return common;
}

function openTable(keys: readonly string[], isArray: boolean, arrayCounts: Map<string, number>): (string | number)[] {
  const table: (string | number)[] = [];
  keys.forEach((key, position) => {
    table.push(key);
    const name = JSON.stringify(table);
    const isLast = position === keys.length - 1;
    if (isArray && isLast) arrayCounts.set(name, (arrayCounts.get(name) ?? -1) + 1);
    const index = arrayCounts.get(name);
    if (index !== undefined) table.push(index);
  });
  return table;
}

/** Lines that begin outside every multi-line string and bracket. */
function* logicalLines(source: string): Generator<{ text: string; line: number }> {
  let depth = 0;
  let closing = "";
  for (const [index, text] of source.split(/\r?\n/).entries()) {
    if (closing === "" && depth === 0) yield { text, line: index + 1 };
    ({ depth, closing } = scanLine(text, depth, closing));
  }
}

function scanLine(text: string, depthBefore: number, closingBefore: string): { depth: number; closing: string } {
  let depth = depthBefore;
  let closing = closingBefore;
  for (let at = 0; at < text.length; at++) {
    const rest = text.slice(at);
    if (closing !== "") {
      if (closing.startsWith('"') && rest.startsWith("\\")) at++;
      else if (rest.startsWith(closing)) {
        at += closing.length - 1;
        closing = "";
      }
      continue;
    }
    const opening = /^("""|'''|"|')/.exec(rest)?.[1];
    if (opening !== undefined) {
      closing = opening;
      at += opening.length - 1;
    } else if (rest.startsWith("#")) break;
    else if ("[{".includes(text[at] ?? " ")) depth++;
    else if ("]}".includes(text[at] ?? " ")) depth--;
  }
  return { depth: Math.max(0, depth), closing: closing.length === 3 ? closing : "" };
}

function keyOf(text: string): string | undefined {
  return /^\s*((?:"(?:[^"\\]|\\.)*"|'[^']*'|[A-Za-z0-9_-]+)(?:\s*\.\s*(?:"(?:[^"\\]|\\.)*"|'[^']*'|[A-Za-z0-9_-]+))*)\s*=/.exec(
    text,
  )?.[1];
}

function splitKey(key: string): string[] {
  return Array.from(
    key.matchAll(/"((?:[^"\\]|\\.)*)"|'([^']*)'|([A-Za-z0-9_-]+)/g),
    (part) => part[1] ?? part[2] ?? part[3] ?? "",
  );
}
