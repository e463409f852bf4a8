const LABEL = /^[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?$/;
const MAX_NAME = 253;

/**
 * A host name as it is compared: lower case, without a final dot. Undefined when the text is none. A name of another
 * alphabet is written in its ASCII form ("xn--…"). Text that ends in a number is an address that went wrong, which
 * some resolvers would take for one (127.1, 010.0.0.1), and no name. RFC 1123, section 2.1.
 */
export function parseHostName(text: string): string | undefined {
  const name = text.toLowerCase().replace(/\.$/, "");
  if (name.length > MAX_NAME) return undefined;
  const labels = name.split(".");
  if (!labels.every((label) => LABEL.test(label))) return undefined;
  return /^(\d+|0x[0-9a-f]*)$/.test(labels.at(-1) ?? "") ? undefined : name;
}
