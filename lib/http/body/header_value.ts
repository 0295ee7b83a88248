// Header values with parameters (RFC 9110, 5.6.6), as in `Content-Type` and `Content-Disposition`. Not `util.MIMEType`,
// which drops repeated and malformed parameters silently.

/** `value; name=parameter; name="parameter"` (RFC 9110, 5.6.6). */
export interface HeaderValue {
  /** The value before the parameters, in lower case. */
  readonly value: string;
  /** By name in lower case. */
  readonly parameters: ReadonlyMap<string, string>;
}

const valuePattern = /^[ \t]*([!#$%&'*+\-.^_`|~0-9A-Za-z/]+)[ \t]*(?=;|$)/;
// A backslash escapes only a quote and a backslash, as curl writes them; in any other place it is one, as in `C:\a.txt`.
// A token may have brackets, which some clients leave unquoted in the names of fields. No two repetitions stand side by
// side that match the same characters: thousands of blanks would take quadratic time.
const parameterPattern =
  /;[ \t]*(?:([!#$%&'*+\-.^_`|~0-9A-Za-z]+)=(?:([!#$%&'*+\-.^_`|~0-9A-Za-z[\]]+)|"((?:[^"\\]|\\.)*)")[ \t]*)?(?=;|$)/gsy;

/** Undefined if the header is malformed or names a parameter twice. */
export function parseHeader(text: string): HeaderValue | undefined {
  const head = valuePattern.exec(text);
  if (head === null) return undefined;
  const parameters = new Map<string, string>();
  let [{ length }] = head;
  parameterPattern.lastIndex = length;
  for (const [whole, name, token, quoted = ""] of text.matchAll(parameterPattern)) {
    length += whole.length;
    if (name === undefined) continue;
    if (parameters.has(name.toLowerCase())) return undefined;
    parameters.set(name.toLowerCase(), token ?? quoted.replace(/\\(["\\])/g, "$1"));
  }
  return length === text.length ? { value: head[1]!.toLowerCase(), parameters } : undefined;
}

/** Whether the `charset`, if there is one, is UTF-8 or a subset of it. */
export function isUtf8({ parameters }: HeaderValue): boolean {
  return /^(?:utf-?8|(?:us-)?ascii)$/i.test(parameters.get("charset") ?? "utf-8");
}
