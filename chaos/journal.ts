// The records of a run, one line of JSON each.

import { closeSync, createReadStream, existsSync, openSync, writeSync } from "node:fs";
import { createInterface } from "node:readline";

export interface Journal<T> {
  write(line: T): void;
  close(): void;
}

export function openJournal<T>(path: string): Journal<T> {
  const file = openSync(path, "a");
  return {
    write: (line) => void writeSync(file, `${JSON.stringify(line)}\n`),
    close: () => closeSync(file),
  };
}

/** Empty if the file does not exist. */
export async function* readJournal<T>(path: string): AsyncGenerator<T> {
  if (!existsSync(path)) return;
  for await (const line of createInterface({ input: createReadStream(path), crlfDelay: Infinity })) {
    if (line !== "") yield JSON.parse(line) as T;
  }
}
