// An embedded queue for one test.

import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { StoreLimits } from "../../lib/queue/contract.ts";
import { openSqliteAdmin } from "../../lib/queue/sqlite/admin.ts";
import { openSqliteConsumer } from "../../lib/queue/sqlite/consumer.ts";
import { openSqliteProducer } from "../../lib/queue/sqlite/producer.ts";
import { silent } from "../support/log.ts";

/** `options` are those with which a process opens the same queue. */
export async function openSqliteQueue(limits: StoreLimits = {}) {
  let offsetMs = 0;
  let passedMs = 0;
  const folder = mkdtempSync(join(tmpdir(), "reliable-email-sqlite-"));
  const options = {
    folder,
    ...limits,
    retainMs: 24 * 3_600_000,
    log: silent,
    onFatal: (reason: string) => {
      throw new Error(reason);
    },
    clockOffsetMs: () => offsetMs,
    monotonicOffsetMs: () => passedMs,
  };
  const producer = openSqliteProducer(options);
  const consumer = openSqliteConsumer(options);
  await new Promise<void>((resolve) => consumer.onWake(resolve));
  const admin = await openSqliteAdmin(options);
  return {
    options,
    producer,
    consumer,
    admin,
    advance: (ms: number) => {
      offsetMs += ms;
      passedMs += ms;
    },
    step: (ms: number) => {
      offsetMs += ms;
    },
    async close() {
      await Promise.all([producer.close(), consumer.close(), admin.close()]);
      rmSync(folder, { recursive: true, force: true });
    },
  };
}
