// A server whose Redis fails over: its clients wait, and see no failure.

import { expect, test } from "bun:test";
import { eventually, freePort } from "../support/eventually.ts";
import { primaryEnds, replicatedKinds, startReplicatedStore } from "../support/replicated_store.ts";
import { startProcess } from "../support/service.ts";

test.each(replicatedKinds)(
  "%s: a client that submits once while the primary is dead sees 200 after the failover",
  async (kind) => {
    const key = "{reliable-email:0}";
    const store = await startReplicatedStore(kind, key);
    const port = String(await freePort());
    const server = startProcess("server.ts", {
      PORT: port,
      DEFAULT_FROM: "shop@example.com",
      REDIS_URL: store.url,
      REDIS_PARTITIONS: "1",
      REDIS_MIN_REPLICAS: "1",
      // Long, because the machine may be busy.
      SUBMIT_TIMEOUT: "60s",
    });
    try {
      await server.event("server-listening");
      const submit = async () => {
        const body = new URLSearchParams({ to: "jane@example.org", subject: "Hi", body: "Hello" });
        const answer = await fetch(`http://127.0.0.1:${port}/`, { method: "POST", body });
        return { status: answer.status, answer: (await answer.json()) as { id: string } };
      };
      expect((await submit()).status).toBe(200);
      const old = store.primary();
      primaryEnds.killed(store, old);
      await eventually("the primary is dead", () => old.cli("PING") === "");
      const { status, answer } = await submit();
      expect(status).toBe(200);
      await store.replaced(old);
      expect(store.primary().cli("HEXISTS", `${key}:emails`, answer.id)).toBe("1");
    } finally {
      await server.kill();
      await store.stop();
    }
  },
);
