// The embedded queue on a full disk, in a separate process: sqlite_faults.test.ts gives it a small file system to fill,
// and reads its output.

import { closeSync, mkdirSync, openSync, rmSync, writeSync } from "node:fs";
import { Database } from "bun:sqlite";
import { join } from "node:path";
import { openSqliteProducer } from "../../lib/queue/sqlite/producer.ts";
import { openSqliteConsumer } from "../../lib/queue/sqlite/consumer.ts";
import { claimRequest } from "../support/claim_request.ts";
import { eventually } from "../support/eventually.ts";
import { silent } from "../support/log.ts";
import { soon, submission } from "./conformance_tools.ts";

const [disk = "", scenario = ""] = process.argv.slice(2);
const options = {
  folder: join(disk, "data"),
  retainMs: 3_600_000,
  log: silent,
  onFatal: (reason: string) => {
    throw new Error(reason);
  },
};
const ballast = join(disk, "ballast");

/** Fills the disk except for some bytes. */
function fill(): void {
  const file = openSync(ballast, "a");
  for (let size = 1024 * 1024; size >= 512; size /= 2) {
    try {
      for (;;) writeSync(file, new Uint8Array(size));
    } catch {
      // Full for pieces of this size.
    }
  }
  closeSync(file);
}

const small = join(disk, "small");

function fillInodes(): void {
  mkdirSync(small, { recursive: true });
  for (let i = 0; ; i += 1) {
    try {
      closeSync(openSync(join(small, String(i)), "wx"));
    } catch {
      return;
    }
  }
}

const freeInodes = () => rmSync(small, { recursive: true });

async function drain(consumer: ReturnType<typeof openSqliteConsumer>): Promise<string[]> {
  const sent: string[] = [];
  for (;;) {
    const result = await consumer.claim(claimRequest({ countMax: 10 }));
    if (result.kind !== "batch") return sent;
    const ids = result.batch.emails.map(({ id }) => id);
    const fates = ids.map((id) => ({ id, kind: "sent" as const, record: "{}" }));
    await consumer.settle(result.batch, { fates, counts: {} });
    sent.push(...ids);
  }
}

/** Submits many emails concurrently, with a text of some size or with files. */
async function offer(
  producer: ReturnType<typeof openSqliteProducer>,
  count: number,
  what: number | readonly Uint8Array[],
) {
  const acknowledged = new Set<string>();
  const refusals = new Set<string>();
  await Promise.all(
    Array.from({ length: count }, async () => {
      const one =
        typeof what === "number"
          ? submission({}, "x".repeat(what))
          : submission({ files: what, isHidden: true });
      const result = await producer.submit(one, soon());
      if (result.kind === "stored") acknowledged.add(result.id);
      if (result.kind === "failed") refusals.add(result.reason);
    }),
  );
  return { acknowledged, refusals: [...refusals] };
}

/** Waits until emails are accepted again. */
async function accepts(producer: ReturnType<typeof openSqliteProducer>): Promise<boolean> {
  return eventually(
    "emails are accepted again",
    async () => (await producer.submit(submission(), soon())).kind === "stored",
  );
}

const scenarios: Record<string, () => Promise<object>> = {
  async "delivery-goes-on"() {
    const [producer, consumer] = [openSqliteProducer(options), openSqliteConsumer(options)];
    const acknowledged = new Set<string>();
    let refusal = "";
    while (refusal === "") {
      const one = submission({}, "x".repeat(100_000));
      const result = await producer.submit(one, soon());
      if (result.kind === "stored") acknowledged.add(one.id);
      if (result.kind === "failed") refusal = result.reason;
    }
    for (const id of await drain(consumer)) acknowledged.delete(id);
    // The file does not shrink, but has free space inside; here, the disk around it grows instead.
    Bun.spawnSync(["mount", "-o", "remount,size=200m", disk]);
    return { refusal, lost: acknowledged.size, acceptsAgain: await accepts(producer) };
  },

  async "burst-of-large-ones"() {
    const [producer, consumer] = [openSqliteProducer(options), openSqliteConsumer(options)];
    const answers = await offer(producer, 300, 1_000_000);
    return { refusals: answers.refusals, lost: answers.acknowledged.size - (await drain(consumer)).length };
  },

  async "burst-of-files"() {
    const [producer, consumer] = [openSqliteProducer(options), openSqliteConsumer(options)];
    const answers = await offer(producer, 20, [new Uint8Array(10 * 1024 * 1024)]);
    return { refusals: answers.refusals, lost: answers.acknowledged.size - (await drain(consumer)).length };
  },

  async "one-that-is-too-large"() {
    const producer = openSqliteProducer(options);
    const { refusals, acknowledged } = await offer(producer, 1, 80_000_000);
    return { refusals, lost: acknowledged.size };
  },

  // While a reader uses an old snapshot, everything that is written stays in the log.
  async "log-that-cannot-be-emptied"() {
    const [producer, consumer] = [openSqliteProducer(options), openSqliteConsumer(options)];
    await producer.submit(submission(), soon());
    const reader = new Database(join(options.folder, "queue.db"), { readonly: true });
    reader.run("BEGIN");
    reader.query("SELECT count(*) FROM emails").get();
    const answers = await offer(producer, 3000, 50_000);
    reader.run("COMMIT");
    reader.close();
    return {
      refusals: answers.refusals,
      lost: answers.acknowledged.size + 1 - (await drain(consumer)).length,
    };
  },

  async "to-the-last-byte"() {
    const [producer, consumer] = [openSqliteProducer(options), openSqliteConsumer(options)];
    const acknowledged = new Set<string>();
    for (let i = 0; i < 50; i += 1) {
      const one = submission({}, "x".repeat(1000));
      if ((await producer.submit(one, soon())).kind === "stored") acknowledged.add(one.id);
    }
    fill();
    const claim = await consumer.claim(claimRequest()).then(({ kind }) => kind, String);
    rmSync(ballast);
    const sent = await drain(consumer);
    for (const id of sent) acknowledged.delete(id);
    return { claim, sent: sent.length, lost: acknowledged.size, acceptsAgain: await accepts(producer) };
  },

  // Once before the folder exists, and once before SQLite can create the files next to the queue's.
  async "without-inodes"() {
    fillInodes();
    const producer = openSqliteProducer(options);
    const result = await producer.submit(submission(), performance.now() + 1000);
    freeInodes();
    await accepts(producer);
    await producer.close();
    fillInodes();
    const second = openSqliteProducer(options);
    const later = await second.submit(submission(), performance.now() + 1000);
    freeInodes();
    const reason = (one: typeof result) => (one.kind === "failed" ? one.reason : one.kind);
    return { failed: reason(result), later: reason(later), acceptsAgain: await accepts(second) };
  },

  async "from-the-start"() {
    mkdirSync(options.folder);
    fill();
    const producer = openSqliteProducer(options);
    const result = await producer.submit(submission(), performance.now() + 1000);
    rmSync(ballast);
    return {
      failed: result.kind === "failed" ? result.reason : result.kind,
      acceptsAgain: await accepts(producer),
    };
  },
};

const outcome = await scenarios[scenario]!();
console.log(JSON.stringify(outcome));
process.exit(0);
