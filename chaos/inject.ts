// How each fault is injected into a deployment, and undone.

import { Database } from "bun:sqlite";
import { appendFileSync, readdirSync } from "node:fs";
import { join } from "node:path";
import type { Proxy } from "../fakes/tcp_proxy.ts";
import { failOver } from "./failover.ts";
import { moveSlot, promote, strikeNode } from "./inject_nodes.ts";
import type { ManagedProcess } from "./managed_process.ts";
import { between, pick, type Strike } from "./schedule.ts";
import type { Fault } from "./scenario.ts";
import { leaseMs, type Deployment } from "./deployment.ts";

/** The result of a strike. */
export interface Struck {
  /** Names of the processes that were killed. */
  readonly killed: readonly string[];
  /** A process that did not stop cleanly on SIGTERM. */
  readonly unclean?: string;
  /** Any other remark. */
  readonly note?: string;
}

const nothing: Struck = { killed: [] };

/** Longest wait for the worker to send the request over whose answer it is frozen, ms. */
const answerTimeoutMs = 3000;

/** Longest wait for another worker to claim the batch, from just before the end of its lease, ms. */
const takenTimeoutMs = 5000;

/** Time for a worker to read an answer and act on it, ms. */
const readingMs = 200;
/** The fault that other workers meet begins this long before the frozen worker's lease expires, ms. */
const earlyMs = 200;

/** Injects the fault, waits for its duration, and undoes it. */
export async function inject(deployment: Deployment, strike: Strike): Promise<Struck> {
  const { fault, forMs, target, random } = strike;
  switch (fault.do) {
    case "kill":
      return fault.component === "everything"
        ? killEverything(deployment)
        : killOne(deployment, componentOf(deployment, fault.component, target));
    case "restart":
      return restart(deployment, componentOf(deployment, fault.component, target));
    case "freeze":
      return freeze(componentOf(deployment, fault.component, target), forMs);
    case "failOver":
      return failOver(deployment, fault, forMs);
    case "node":
      return strikeNode(deployment.nodes!, fault, forMs, target);
    case "promote":
      return promote(deployment.nodes!, forMs, target);
    case "moveSlot":
      return moveSlot(deployment.nodes!, fault, { target, random, log: deployment.logs });
    case "cutPower":
      return cutPower(deployment, Math.max(0, Math.round(between(fault.keep, random))), target);
    case "tearLog":
      return tearLog(deployment);
    case "fillMemory":
      return fillMemory(deployment, forMs);
    case "fillDisk":
      deployment.disk!.setFull(true);
      await Bun.sleep(forMs);
      deployment.disk!.setFull(false);
      return nothing;
    case "slowDisk":
      deployment.disk!.setSyncDelay(between(fault.syncMs, random));
      await Bun.sleep(forMs);
      deployment.disk!.setSyncDelay(0);
      return nothing;
    case "stepClock": {
      const clock = deployment.clock(fault.of);
      const aheadMs = pick(fault.aheadMs, random);
      clock.setAhead(aheadMs);
      await Bun.sleep(forMs);
      clock.setAhead(0);
      return { killed: [], note: `${aheadMs / 3_600_000} h ahead` };
    }
    case "network":
      return disturb(pick(deployment.proxies(fault.link), target), fault, forMs, random);
    case "provider": {
      const { fault: what, probability } = fault;
      const fake = deployment.fakes(fault.name);
      for (const one of [what].flat()) await fake.add({ fault: one, probability });
      await Bun.sleep(forMs);
      await fake.clearFaults();
      return nothing;
    }
    case "providerDown":
      await deployment.fakes(fault.name).goDown(forMs);
      await Bun.sleep(forMs + 50);
      return nothing;
    case "providerBehaves": {
      const fake = deployment.fakes(fault.name);
      const usual = await fake.behave(fault.as);
      await Bun.sleep(forMs);
      await fake.behave(usual);
      return nothing;
    }
    case "freezeBeforeSettlement":
      return freezeBeforeSettlement(deployment, fault, forMs, target);
  }
}

function componentOf(
  deployment: Deployment,
  component: "server" | "worker" | "redis",
  random: number,
): ManagedProcess {
  if (component === "redis") return deployment.redis!.component;
  return pick(component === "server" ? deployment.servers : deployment.workers, random);
}

function killOne(deployment: Deployment, component: ManagedProcess): Promise<Struck> {
  return deployment.exclusively(async () => {
    await component.kill();
    component.start();
    return { killed: [component.name] };
  });
}

function killEverything(deployment: Deployment): Promise<Struck> {
  return deployment.exclusively(async () => {
    await deployment.killEverything();
    await deployment.startEverything();
    return { killed: allNames(deployment) };
  });
}

function allNames({ servers, workers, redis, nodes }: Deployment): string[] {
  const stores = redis === undefined ? (nodes?.free() ?? []) : [redis.component];
  return [...servers, ...workers, ...stores].map(({ name }) => name);
}

function restart(deployment: Deployment, component: ManagedProcess): Promise<Struck> {
  return deployment.exclusively(async () => {
    const code = await component.stop();
    component.start();
    // SIGTERM means that the signal killed it before its handler was installed: not a failure.
    const isClean = code === 0 || code === undefined || code === "SIGTERM";
    return isClean ? nothing : { killed: [], unclean: `${component.name}, ${code} after SIGTERM` };
  });
}

async function freeze(component: ManagedProcess, forMs: number): Promise<Struck> {
  component.signal("SIGSTOP");
  await Bun.sleep(forMs);
  component.signal("SIGCONT");
  return nothing;
}

function cutPower(deployment: Deployment, writes: number, torn: number): Promise<Struck> {
  return deployment.exclusively(async () => {
    await deployment.killEverything();
    const cut = deployment.disk!.losePower({ writes, torn });
    await deployment.startEverything();
    return {
      killed: allNames(deployment),
      note: `${cut.writes} writes of ${cut.bytes} bytes in ${cut.files} files undone`,
    };
  });
}

/** The remains of a write that a power cut or a full disk interrupted. */
const tornCommand = "*4\r\n$4\r\nHSET\r\n$26\r\n{reliable-email:0}:coun";

function tearLog(deployment: Deployment): Promise<Struck> {
  const { component, folder } = deployment.redis!;
  return deployment.exclusively(async () => {
    await component.kill();
    const logs = join(folder, "appendonlydir");
    // Numbered from the oldest; Redis writes to the last one.
    const last = readdirSync(logs)
      .filter((name) => name.endsWith(".incr.aof"))
      .sort((a, b) => Number(a.split(".")[2]) - Number(b.split(".")[2]))
      .at(-1);
    if (last !== undefined) appendFileSync(join(logs, last), tornCommand);
    component.start();
    return {
      killed: [component.name],
      note: last === undefined ? "no log yet" : `half a command at the end of ${last}`,
    };
  });
}

async function fillMemory(deployment: Deployment, forMs: number): Promise<Struck> {
  const used = /used_memory:(\d+)/.exec(deployment.redis!.cli("INFO", "memory"))?.[1] ?? "0";
  limitMemory(deployment, used);
  await Bun.sleep(forMs);
  limitMemory(deployment, "0");
  return nothing;
}

/** @param bytes `0` for no limit; with `1`, memory is full whatever leaves it */
export function limitMemory({ redis }: Deployment, bytes: string): void {
  redis!.cli("CONFIG", "SET", "maxmemory", bytes);
}

async function disturb(
  proxy: Proxy,
  { how, delayMs = [0, 0] }: Extract<Fault, { do: "network" }>,
  forMs: number,
  random: number,
): Promise<Struck> {
  switch (how) {
    case "dropReplies":
      proxy.replies = "drop";
      break;
    case "cutReplies":
      proxy.replies = "cut";
      break;
    case "halfOpen":
      proxy.requests = "drop";
      proxy.replies = "drop";
      break;
    case "reset":
      proxy.refusing = true;
      proxy.cutAll();
      break;
    case "delay":
      proxy.delayMs = between(delayMs, random);
      break;
  }
  const before = proxy.lost;
  await Bun.sleep(forMs);
  proxy.requests = "pass";
  proxy.replies = "pass";
  proxy.refusing = false;
  proxy.delayMs = 0;
  // A connection that lost bytes in the middle of its stream can never recover.
  if (how !== "delay") proxy.cutAll();
  return { killed: [], note: `${proxy.lost - before} replies lost` };
}

async function freezeBeforeSettlement(
  deployment: Deployment,
  { name, fault, meanwhile }: Extract<Fault, { do: "freezeBeforeSettlement" }>,
  forMs: number,
  target: number,
): Promise<Struck> {
  const worker = pick(deployment.workers, target);
  const answers = pick(deployment.proxies(name), target);
  const fake = deployment.fakes(name);
  // Only this worker may get the answer.
  const others = deployment.workers.filter((one) => one !== worker);
  // Holding the lock ensures that no other worker is inside a transaction.
  const unlock = deployment.redis === undefined ? lockFile(deployment) : undefined;
  for (const other of others) other.signal("SIGSTOP");
  unlock?.();
  const from = await fake.count();
  // Once only: a worker whose breaker opens makes no further requests to hit.
  if (fault !== undefined) await fake.add({ fault, times: 1 });
  answers.replies = "hold";
  /** The key of the request that the fault hit, and how often it has been seen. */
  const struck = async () => {
    const requests = await fake.requests(from);
    const key = requests.find((one) => one.fault !== undefined)?.headers["idempotency-key"];
    return { key, times: requests.filter(({ headers }) => headers["idempotency-key"] === key).length };
  };
  await within(
    answerTimeoutMs,
    async () => answers.heldReplies > 0 && (fault === undefined || (await struck()).key !== undefined),
  );
  const held = answers.heldReplies;
  const hold = holdSettlements(deployment, target);
  answers.release();
  await fake.clearFaults();
  await Bun.sleep(readingMs);
  worker.signal("SIGSTOP");
  hold.releaseOthers();
  for (const other of others) other.signal("SIGCONT");
  const { key } = await struck();
  await Bun.sleep(leaseMs - readingMs - earlyMs);
  if (meanwhile !== undefined) await fake.add({ fault: meanwhile });
  if (key === undefined) await Bun.sleep(earlyMs + forMs);
  // Until the next worker holds the batch and waits for its answer.
  else await within(takenTimeoutMs, async () => (await struck()).times > 1);
  hold.letThrough();
  worker.signal("SIGCONT");
  // The worker acts on its answer before the others learn anything more.
  await Bun.sleep(readingMs);
  if (meanwhile !== undefined) await fake.clearFaults();
  return { killed: [], note: `${worker.name} frozen over ${held} answers` };
}

/** Waits for a condition that may never hold: the strike then proves nothing. */
async function within(ms: number, condition: () => Promise<boolean>): Promise<void> {
  const endMs = performance.now() + ms;
  while (!(await condition()) && performance.now() < endMs) await Bun.sleep(2);
}

interface Hold {
  /** Lets the other workers continue; the frozen one needs no further hold. */
  releaseOthers(): void;
  letThrough(): void;
}

/**
 * Keeps the worker's settlements from reaching the store: the proxy to Redis holds them, or another process locks the
 * embedded queue's file.
 */
function holdSettlements(deployment: Deployment, target: number): Hold {
  if (deployment.redis !== undefined) {
    const proxy = pick(deployment.proxies("worker-redis"), target);
    proxy.requests = "hold";
    return { releaseOthers() {}, letThrough: () => proxy.release() };
  }
  return { releaseOthers: lockFile(deployment), letThrough() {} };
}

/** Locks the embedded queue's file against every writer and returns a function that releases it. */
function lockFile({ file: path }: Deployment): () => void {
  const file = new Database(path, { readwrite: true });
  file.run("PRAGMA busy_timeout = 5000");
  file.run("BEGIN IMMEDIATE");
  return () => {
    file.run("ROLLBACK");
    file.close();
  };
}
