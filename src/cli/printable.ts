/**
 * Text that a sandboxed program chose, made safe to show: control characters, escape sequences,
 * characters that reorder a line, and bytes that are not UTF-8 come out as escapes, so a program cannot draw
 * its own question or move the cursor on the terminal of the person who decides.
 */
export function printable(text: string | Uint8Array): string {
  if (typeof text === "string") return escapeText(text);
  const decoded = new TextDecoder("utf-8", { fatal: false, ignoreBOM: true }).decode(text);
  if (Buffer.from(decoded, "utf8").equals(text)) return escapeText(decoded);
  return Array.from(text, (byte) =>
    byte >= 0x20 && byte < 0x7f && byte !== 0x5c ? String.fromCharCode(byte) : hexByte(byte),
  ).join("");
}

/** As a shell would need it: quoted where it has to be. */
export function quoted(text: string | Uint8Array): string {
  const shown = printable(text);
  if (shown === "") return "''";
  return /^[A-Za-z0-9_@%+=:,./-]+$/.test(shown) ? shown : `'${shown.replaceAll("'", "'\\''")}'`;
}

/** At most `limit` characters, with what was cut counted. */
export function clipped(text: string, limit: number): string {
  const characters = Array.from(text);
  return characters.length <= limit
    ? text
    : `${characters.slice(0, limit).join("")}… (${characters.length - limit} more)`;
}

// Controls, format characters (bidirectional marks, zero-width), separators of lines, unassigned and private use.
const UNSAFE = /[\p{Cc}\p{Cf}\p{Cs}\p{Co}\p{Cn}\u2028\u2029]/u;

function escapeText(text: string): string {
  let out = "";
  for (const character of text) {
    if (character === "\\") out += "\\\\";
    else if (character === "\n") out += "\\n";
    else if (character === "\t") out += "\\t";
    else if (!UNSAFE.test(character)) out += character;
    else {
      const code = character.codePointAt(0) ?? 0;
      out += code < 0x100 ? hexByte(code) : `\\u{${code.toString(16)}}`;
    }
  }
  return out;
}

function hexByte(byte: number): string {
  return `\\x${byte.toString(16).padStart(2, "0")}`;
}
