// The Python client with two servers that are killed, frozen and restarted: every call succeeds, and every email
// arrives once.

import { expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { freePort } from "../support/eventually.ts";
import { drained, queueAdminOf } from "../support/processes.ts";
import { idsInOutbox, python, startStream } from "../support/python.ts";
import { startRedis } from "../support/redis.ts";
import { startServer, startWorker } from "../support/service.ts";

test("python client: servers that die, freeze and return cost no email and duplicate none", async () => {
  const folder = mkdtempSync(join(tmpdir(), "reliable-email-python-"));
  const redis = await startRedis();
  const env = {
    REDIS_URL: redis.url,
    DATA_DIR: folder,
    PROVIDERS: "sandbox",
    DEFAULT_FROM: "shop@example.com",
  };
  const ports = [String(await freePort()), String(await freePort())] as const;
  const start = (port: string) => startServer({ ...env, PORT: port });
  let [a, b] = await Promise.all([start(ports[0]), start(ports[1])]);
  const worker = await startWorker(env);
  try {
    const stream = startStream(python, [a.url, b.url]);
    await stream.moreAcknowledged();

    await a.kill();
    await stream.moreAcknowledged();
    a = await start(ports[0]);

    b.signal("SIGSTOP");
    await stream.moreAcknowledged();
    b.signal("SIGCONT");
    await stream.moreAcknowledged();

    a.signal("SIGSTOP");
    await stream.moreAcknowledged();
    await a.kill();
    // Both are down now.
    await b.kill();
    [a, b] = await Promise.all([start(ports[0]), start(ports[1])]);
    await stream.moreAcknowledged();

    await b.kill("SIGTERM");
    await stream.moreAcknowledged();
    await stream.end();

    const admin = await queueAdminOf(env);
    await drained(admin);
    await admin.close();
    expect(idsInOutbox(folder)).toEqual(stream.ids.toSorted());
  } finally {
    await Promise.all([a.kill(), b.kill(), worker.kill()]);
    await redis.stop();
    rmSync(folder, { recursive: true, force: true });
  }
});
