// The conformance suite on the embedded queue.

import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { openSqliteProducer } from "../../lib/queue/sqlite/producer.ts";
import { openSqliteAdmin } from "../../lib/queue/sqlite/admin.ts";
import { openSqliteConsumer } from "../../lib/queue/sqlite/consumer.ts";
import { silent } from "../support/log.ts";
import { conformance } from "./conformance.ts";
import { conformanceClock } from "./conformance_clock.ts";
import type { QueueUnderTest } from "./conformance_tools.ts";

async function open(): Promise<QueueUnderTest> {
  let offsetMs = 0;
  let passedMs = 0;
  const folder = mkdtempSync(join(tmpdir(), "reliable-email-sqlite-"));
  const options = {
    folder,
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
    producer,
    consumer,
    admin,
    advance: (ms) => {
      offsetMs += ms;
      passedMs += ms;
    },
    step: (ms) => {
      offsetMs += ms;
    },
    async close() {
      await Promise.all([producer.close(), consumer.close(), admin.close()]);
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

conformance("embedded queue", open);
conformanceClock("embedded queue", open);
