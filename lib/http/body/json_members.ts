// Finds members of nested JSON objects that are given twice, of which JSON.parse keeps only the last.

/** A member's location: the names and indexes that lead to its object, outermost first, and its own name. */
interface Member {
  readonly path: readonly (string | number)[];
  readonly name: string;
}

/** An object or array that encloses the current position. */
interface Container {
  /** Names seen so far; undefined in an array. */
  readonly names: Set<string> | undefined;
  /** Name or index of the current value. */
  at: string | number;
  nameIsNext: boolean;
}

/**
 * The members whose name, however escaped, occurs earlier in the same object.
 * @param json valid JSON
 */
export function repeatedMembers(json: string): Member[] {
  const repeated: Member[] = [];
  const around: Container[] = [];
  for (let i = 0; i < json.length; i++) {
    const inner = around.at(-1);
    switch (json.charCodeAt(i)) {
      case 0x7b: // {
        around.push({ names: new Set(), at: "", nameIsNext: true });
        break;
      case 0x5b: // [
        around.push({ names: undefined, at: 0, nameIsNext: false });
        break;
      case 0x7d: // }
      case 0x5d: // ]
        around.pop();
        break;
      case 0x2c: // ,
        if (typeof inner?.at === "number") inner.at += 1;
        else if (inner) inner.nameIsNext = true;
        break;
      case 0x22: {
        const end = closingQuote(json, i);
        if (inner?.nameIsNext) {
          const name: string = JSON.parse(json.slice(i, end + 1));
          if (inner.names?.has(name)) repeated.push({ path: around.slice(0, -1).map(({ at }) => at), name });
          inner.names?.add(name);
          inner.at = name;
          inner.nameIsNext = false;
        }
        i = end;
        break;
      }
    }
  }
  return repeated;
}

/** Where the string that opens at `start` ends: at the first quote after an even number of backslashes. */
export function closingQuote(json: string, start: number): number {
  let end = json.indexOf('"', start + 1);
  for (; end !== -1; end = json.indexOf('"', end + 1)) {
    let slashes = 0;
    while (json.charCodeAt(end - 1 - slashes) === 0x5c) slashes++;
    if (slashes % 2 === 0) return end;
  }
  return json.length;
}
