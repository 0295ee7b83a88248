// The files of emails in the embedded queue: the rows that they leave behind, and their loss on the way.

import { describe, expect, test } from "bun:test";
import { Database } from "bun:sqlite";
import { join } from "node:path";
import { openSqliteProducer } from "../../lib/queue/sqlite/producer.ts";
import { pieceBytesMax } from "../../lib/queue/file_pieces.ts";
import { eventually } from "../support/eventually.ts";
import { bytesOf, joined, withFiles } from "./conformance_files.ts";
import { hourMs, serving, soon, submission, toolsFor } from "./conformance_tools.ts";
import { openSqliteQueue } from "./sqlite_queue.ts";

describe("embedded queue, files:", () => {
  const { queue, submit, claim, settle, sent } = toolsFor(openSqliteQueue);
  type Queue = Awaited<ReturnType<typeof queue>>;
  const sweep = (q: Queue) => q.consumer.sweep(serving("resend"));

  /** Reads one number from the file. */
  function readNumber({ options }: Queue, sql: string): number {
    const db = new Database(join(options.folder, "queue.db"), { readonly: true });
    try {
      return Number(db.query(sql).values()[0]![0]);
    } finally {
      db.close();
    }
  }
  const pieces = (q: Queue) => readNumber(q, "SELECT count(*) FROM file_pieces");
  const uploads = (q: Queue) => readNumber(q, "SELECT count(*) FROM uploads");

  test("a killed server leaves pieces, which a sweep deletes", async () => {
    const q = await queue();
    const code = `
      const { openSqliteProducer } = await import(${JSON.stringify(join(import.meta.dir, "../../lib/queue/sqlite/producer.ts"))});
      const { withFiles } = await import(${JSON.stringify(join(import.meta.dir, "conformance_files.ts"))});
      const { silent } = await import(${JSON.stringify(join(import.meta.dir, "../support/log.ts"))});
      const producer = openSqliteProducer({ folder: ${JSON.stringify(q.options.folder)}, log: silent, onFatal() {} });
      for (;;) await producer.submit(withFiles([new Uint8Array(32 * 1024 * 1024)]), performance.now() + 1e6);`;
    const child = Bun.spawn([process.execPath, "-e", code], { stdout: "ignore", stderr: "inherit" });
    await eventually("some pieces are written", () => pieces(q) > 0);
    process.kill(child.pid, "SIGSTOP");
    expect(uploads(q)).toBeLessThanOrEqual(1);
    child.kill("SIGKILL");
    await child.exited;
    const kept = (await q.admin.stats()).fileBytes / pieceBytesMax;
    await sweep(q);
    expect(pieces(q)).toBeGreaterThanOrEqual(kept);
    q.advance(2 * hourMs);
    await sweep(q);
    expect([pieces(q), uploads(q)]).toEqual([kept, 0]);
  });

  test("pieces that are gone before their email is stored are written again", async () => {
    const q = await queue();
    const one = withFiles([bytesOf(16 * 1024 * 1024)]);
    const submitted = q.producer.submit(one, soon());
    while (pieces(q) < 3) await new Promise(setImmediate);
    const db = new Database(join(q.options.folder, "queue.db"));
    db.run("DELETE FROM file_pieces; DELETE FROM uploads");
    db.close();
    expect(await submitted).toEqual({ kind: "stored", id: one.id, repeated: false });
    expect(await q.consumer.readFiles(one.id)).toEqual(joined(one.files!));
    expect([pieces(q), uploads(q)]).toEqual([64, 0]);
  });

  test("pieces that were written under a clock that ran ahead expire in their time by the right one", async () => {
    const q = await queue();
    await sweep(q);
    q.step(365 * 24 * hourMs);
    await sweep(q);
    const producer = openSqliteProducer(q.options);
    const late = producer.submit(withFiles([bytesOf(32 * 1024 * 1024)]), soon());
    await eventually("some pieces are written", () => pieces(q) > 0);
    await producer.close();
    await late;
    q.step(-365 * 24 * hourMs);
    await sweep(q);
    for (let hours = 0; hours < 3; hours += 1) {
      q.advance(hourMs);
      await sweep(q);
    }
    expect([pieces(q), uploads(q)]).toEqual([0, 0]);
  });

  test("the space of files that have left is used again", async () => {
    const q = await queue();
    const pages = () => readNumber(q, "PRAGMA page_count");
    const send = async () => {
      const one = withFiles([bytesOf(4 * 1024 * 1024)]);
      await submit(q, one);
      await settle(q, await claim(q), [sent(one.id)]);
      return one;
    };
    await send();
    const once = pages();
    for (let times = 0; times < 4; times += 1) await send();
    expect(pages()).toBeLessThan(1.1 * once);
    const one = withFiles([bytesOf(4 * 1024 * 1024)]);
    await submit(q, one);
    await q.admin.delete([one.id]);
    expect([pieces(q), uploads(q)]).toEqual([0, 0]);
  });

  test("small submissions get turns between pieces, and a small file does not wait for a large one", async () => {
    const q = await queue();
    const ended: string[] = [];
    const note = (name: string, one: ReturnType<typeof submission>) =>
      q.producer.submit(one, soon()).then(({ kind }) => ended.push(`${name} ${kind}`));
    await Promise.all([
      note("large", withFiles([bytesOf(16 * 1024 * 1024)])),
      note("small file", withFiles([bytesOf(pieceBytesMax)])),
      note("plain", submission()),
    ]);
    expect(ended).toEqual(["plain stored", "small file stored", "large stored"]);
  });

  test("files are read with turns of the event loop between their pieces", async () => {
    const q = await queue();
    const one = withFiles([bytesOf(4 * 1024 * 1024)]);
    await submit(q, one);
    let turns = 0;
    const count = () => {
      turns += 1;
      timer = setImmediate(count);
    };
    let timer = setImmediate(count);
    await q.consumer.readFiles(one.id);
    clearImmediate(timer);
    expect(turns).toBeGreaterThanOrEqual(16);
  });
});
