// The harness's measurements during a run: readiness of the processes, memory and descriptors of the servers.

import { expect, test } from "bun:test";
import type { ManagedProcess } from "../../chaos/managed_process.ts";
import { watchReadiness } from "../../chaos/readiness_watch.ts";
import { watchUsage } from "../../chaos/usage_watch.ts";
import { eventually } from "../support/eventually.ts";
import { startCommand } from "../support/service.ts";

const componentWith = (name: string, pid?: number) => ({ name, pid }) as ManagedProcess;

test("readiness: reasons are kept, except those that other faults excuse", async () => {
  let reasons: readonly string[] = [];
  let asked = 0;
  const server = Bun.serve({
    port: 0,
    hostname: "127.0.0.1",
    fetch: () => {
      asked += 1;
      return Response.json({ reasons }, { status: reasons.length === 0 ? 200 : 503 });
    },
  });
  const watch = watchReadiness([
    { component: componentWith("worker-0"), url: `http://127.0.0.1:${server.port}` },
  ]);
  async function report(...latest: string[]): Promise<void> {
    reasons = latest;
    const before = asked;
    await eventually("it is asked again, and once more", () => asked >= before + 2);
  }
  try {
    await report("store: no answer within 2 s", "providers: resend does not work", "starting: not known yet");
    expect(watch.reasons).toEqual([]);
    await report("doubt: of a batch for 8760.1 h", "store: no answer within 2 s");
    await report("doubt: of a batch for 8760.2 h");
    expect(watch.reasons).toEqual(["worker-0: doubt: of a batch for N h"]);
  } finally {
    await watch.stop();
    await server.stop(true);
  }
});

test("usage: the peaks of a process are kept after its exit", async () => {
  const code = `
    const { openSync } = require("node:fs");
    const kept = Buffer.alloc(200 * 1024 * 1024, 1);
    for (let i = 0; i < 300; i += 1) openSync("/dev/null", "r");
    console.log(JSON.stringify({ kept: kept.length }));
    setInterval(() => {}, 1000);
  `;
  const child = startCommand([process.execPath, "-e", code]);
  const watch = watchUsage([componentWith("server-0", child.pid), componentWith("server-1")]);
  try {
    await eventually("both are seen", () => watch.most.memoryMiB > 200 && watch.most.descriptors > 300);
    await child.kill();
    expect(watch.most.memoryMiB).toBeGreaterThan(200);
    expect(watch.most.memoryMiB).toBeLessThan(1000);
  } finally {
    watch.stop();
    await child.kill();
  }
});
