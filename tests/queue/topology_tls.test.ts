// A cluster and a Sentinel that speak only TLS.

import { afterAll, beforeAll, expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { jsonOfCli } from "../support/cli.ts";
import { eventually, freePort } from "../support/eventually.ts";
import { type RedisProcess, type RedisServer, startRedis } from "../support/redis.ts";

const folder = mkdtempSync(join(tmpdir(), "reliable-email-tls-"));
const [certificate, key] = [join(folder, "redis.crt"), join(folder, "redis.key")];
const closing: (() => unknown)[] = [];
beforeAll(() => {
  const names = ["-subj", "/CN=redis", "-addext", "subjectAltName=IP:127.0.0.1"];
  const form = [
    "req",
    "-x509",
    "-newkey",
    "ec",
    "-pkeyopt",
    "ec_paramgen_curve:prime256v1",
    "-nodes",
    "-days",
    "1",
  ];
  const made = Bun.spawnSync(["openssl", ...form, ...names, "-keyout", key, "-out", certificate]);
  expect(made.exitCode).toBe(0);
});
afterAll(async () => {
  for (const close of closing.toReversed()) await close();
  rmSync(folder, { recursive: true });
});

/** The tests of it use its port without TLS. */
async function startWithTls(settings: Record<string, string> = {}, process: RedisProcess = {}) {
  const port = await freePort();
  const files = { "tls-cert-file": certificate, "tls-key-file": key, "tls-ca-cert-file": certificate };
  const tls = { ...files, "tls-port": String(port), "tls-auth-clients": "no" };
  const redis: RedisServer = await startRedis({ ...tls, ...settings }, process);
  closing.push(redis.stop);
  return { redis, port };
}

/** The finding of `config --check` about the store. */
async function check(url: string, isOk: boolean, trusted = certificate): Promise<string> {
  const env = { REDIS_URL: url, PROVIDERS: "sandbox", DATA_DIR: folder, NODE_EXTRA_CA_CERTS: trusted };
  const { checks } = await jsonOfCli(env, ["config", "--check"], isOk ? 0 : 1);
  const [store] = checks.filter(({ name }: { name: string }) => name === "store");
  expect(store.ok).toBe(isOk);
  return store.detail;
}

test("tls: every connection to a cluster uses it, and checks the certificate", async () => {
  const inCluster = { "cluster-enabled": "yes", "tls-cluster": "yes", "cluster-require-full-coverage": "no" };
  const { redis, port } = await startWithTls({ ...inCluster, "cluster-port": String(await freePort()) });
  redis.cli("CLUSTER", "ADDSLOTSRANGE", "0", "16383");
  await eventually("all slots are served", () => redis.cli("CLUSTER", "INFO").includes("cluster_state:ok"));
  await check(`rediss+cluster://127.0.0.1:${port}`, true);
  expect(await check(`rediss+cluster://127.0.0.1:${port}`, false, "")).toContain("certificate");
});

test("tls: every connection to Sentinels and their primary uses it", async () => {
  const primary = await startWithTls({ "tls-replication": "yes" });
  const file = `sentinel monitor queue 127.0.0.1 ${primary.port} 1\n`;
  const replicating = { "tls-replication": "yes" };
  const { port } = await startWithTls(replicating, {
    files: { "s.conf": file },
    args: ["s.conf", "--sentinel"],
  });
  await check(`rediss+sentinel://127.0.0.1:${port}/queue`, true);
  expect(await check(`rediss+sentinel://127.0.0.1:${port}/queue`, false, "")).toContain("certificate");
});
