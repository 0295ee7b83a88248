// The turns and the pace of the files that a server writes, with a store that takes no time.

import { expect, test } from "bun:test";
import { pieceBytesMax } from "../../lib/queue/file_pieces.ts";
import { PieceWriter } from "../../lib/queue/piece_writer.ts";
import { silent } from "../support/log.ts";

test("pieces: others get a turn before each, and the time that they take is not the store's", async () => {
  const stallMs = 20;
  let turns = 0;
  let isOver = false;
  const stall = () => {
    turns += 1;
    const endMs = performance.now() + stallMs;
    while (performance.now() < endMs);
    if (!isOver) setImmediate(stall);
  };
  const turnsBefore: number[] = [];
  const store = {
    againMs: 1,
    async put() {
      turnsBefore.push(turns);
      return { kind: "done" } as const;
    },
    drop() {},
  };
  const writer = new PieceWriter(store, silent);
  const files = (pieces: number) => [new Uint8Array(pieces * pieceBytesMax)];
  const submit = (id: string, pieces: number) => {
    let tries = 0;
    const stored = { kind: "stored", id, repeated: false } as const;
    return writer.submit({ id, text: "", files: files(pieces) }, performance.now() + 600_000, async () => {
      tries += 1;
      return tries === 1 ? { kind: "piecesMissing" } : stored;
    });
  };
  setImmediate(stall);
  await submit("a", 20);
  isOver = true;
  expect(turnsBefore).toHaveLength(20);
  expect(turnsBefore.at(-1)! - turnsBefore[0]!).toBeGreaterThan(10);

  void submit("b", 1);
  await Promise.resolve();
  // With the stalls, they would take over twice as long as the half of this that is not in reserve.
  const soonMs = performance.now() + 50 * stallMs * 0.8;
  expect(writer.isBusy(files(50), soonMs)).toBe(false);
  writer.close();
});
