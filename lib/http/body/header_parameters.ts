// Header values of the form `value; name=parameter; name="parameter"` (RFC 9110, 5.6.6), read strictly.

export interface HeaderValue {
  /** What stands before the parameters, in lower case. */
  readonly value: string;
  /** By name in lower case. */
  readonly parameters: ReadonlyMap<string, string>;
}

const valuePattern = /^[ \t]*([!#$%&'*+\-.^_`|~0-9A-Za-z/]+)[ \t]*(?=;|$)/;
// A backslash takes the character behind it literally: `\"` in the names that curl and Python write. No two repetitions
// stand side by side that could match the same: whoever sends blanks by the thousand would buy a second with them.
const parameterPattern =
  /;[ \t]*(?:([!#$%&'*+\-.^_`|~0-9A-Za-z]+)=(?:([!#$%&'*+\-.^_`|~0-9A-Za-z]+)|"((?:[^"\\]|\\.)*)")[ \t]*)?(?=;|$)/sy;

/** Undefined when the header is malformed, or names a parameter twice. */
export function parseHeader(text: string): HeaderValue | undefined {
  const head = valuePattern.exec(text);
  if (head === null) return undefined;
  const parameters = new Map<string, string>();
  let position = head[0].length;
  while (position < text.length) {
    parameterPattern.lastIndex = position;
    const match = parameterPattern.exec(text);
    if (match === null) return undefined;
    position = parameterPattern.lastIndex;
    const name = match[1]?.toLowerCase();
    if (name === undefined) continue;
    if (parameters.has(name)) return undefined;
    parameters.set(name, match[2] ?? match[3]!.replace(/\\(.)/gs, "$1"));
  }
  return { value: head[1]!.toLowerCase(), parameters };
}

/** UTF-8, and what is a part of it. */
const charsets: readonly (string | undefined)[] = [undefined, "utf-8", "utf8", "us-ascii", "ascii"];

/** Whether a header's `charset`, if it has one, is UTF-8 or a part of it. */
export function isUtf8(header: HeaderValue): boolean {
  return charsets.includes(header.parameters.get("charset")?.toLowerCase());
}

/** Without spaces and tabs at both ends: not by a pattern, whose time would grow with the square of their number. */
export function trimBlanks(text: string): string {
  let start = 0;
  let end = text.length;
  while (start < end && isBlank(text.charCodeAt(start))) start++;
  while (end > start && isBlank(text.charCodeAt(end - 1))) end--;
  return text.slice(start, end);
}

const isBlank = (unit: number) => unit === 0x20 || unit === 0x09;
