// Finds the members of JSON objects in their text, since JSON.parse keeps only the last of two with the same name.

/** Deepest nesting of an unknown field. */
export const depthMax = 256;
/** Most values in a body: parsed, each takes up to fifty times the memory of its text. */
export const valuesMax = 65_536;

/** A member of an object, or an item of an array. */
interface Part {
  /** The name as written, in its quotes; empty in an array. */
  readonly quotedName: string;
  /** A position before its value. */
  readonly start: number;
}

/** An object or array, read no further than one member over the limits. */
interface Scan {
  readonly depth: number;
  /** Most values that it can have. */
  readonly values: number;
  readonly parts: readonly Part[];
}

/**
 * Reads the first object or array from a position on. For invalid JSON, which JSON.parse refuses, the result is
 * meaningless.
 */
export function scan(json: string, start = 0): Scan {
  const parts: Part[] = [];
  let depth = 0;
  let values = 1;
  let isArray = false;
  let nameIsNext = false;
  const begin = (position: number) => {
    nameIsNext = depth === 1 && !isArray;
    if (depth === 1 && isArray) parts.push({ quotedName: "", start: position + 1 });
  };
  for (let i = start; i < json.length && depth <= depthMax && values <= valuesMax; i++) {
    const code = json.charCodeAt(i);
    switch (code) {
      case 0x7b: // {
      case 0x5b: // [
        depth++;
        values++;
        if (depth === 1) isArray = code === 0x5b;
        begin(i);
        break;
      case 0x7d: // }
      case 0x5d: // ]
        depth--;
        if (depth === 0) return { depth, values, parts };
        break;
      case 0x2c: // ,
        values++;
        begin(i);
        break;
      case 0x22: {
        const end = closingQuote(json, i);
        if (nameIsNext) parts.push({ quotedName: json.slice(i, end + 1), start: end + 1 });
        nameIsNext = false;
        i = end;
        break;
      }
    }
  }
  return { depth, values, parts };
}

/** The names, however escaped, of members that repeat an earlier one. @param start a position before the object */
export function repeatedNames(json: string, start: number): string[] {
  const seen = new Set<string>();
  const named = scan(json, start).parts.filter(({ quotedName }) => quotedName !== "");
  const names = named.map(({ quotedName }): string => JSON.parse(quotedName));
  return names.filter((name) => seen.size === seen.add(name).size);
}

/** Where the string that opens at `start` ends: at the first quote after an even number of backslashes. */
function closingQuote(json: string, start: number): number {
  let end = json.indexOf('"', start + 1);
  for (; end !== -1; end = json.indexOf('"', end + 1)) {
    let slashes = 0;
    while (json.charCodeAt(end - 1 - slashes) === 0x5c) slashes++;
    if (slashes % 2 === 0) return end;
  }
  return json.length;
}
