// How faults of the nodes of Sentinel and Cluster are injected, and undone.

import { appendFileSync } from "node:fs";
import { join } from "node:path";
import { eventually } from "../tests/support/eventually.ts";
import type { RedisServer } from "../tests/support/redis.ts";
import type { SlotMove } from "../tests/support/redis_cluster.ts";
import type { Struck } from "./inject.ts";
import { followsAnother, type Nodes } from "./nodes.ts";
import type { Fault } from "./scenario.ts";

const noSuchNode: Struck = { killed: [], note: "no such node now" };

/** Steps in which idempotency keys move, and most other keys of a partition. Scripts are refused meanwhile. */
const bulkSteps = 4;
const singlesMax = 16;
const stepMs = 50;
/** Pause before a cluster that could not be fixed is fixed again, ms. */
const fixPauseMs = 500;
/** A cluster that was not fixed by then has two versions of a key. */
const fixesMax = 10;

/** Strikes one node, waits, and lets it continue. */
export async function strikeNode(
  nodes: Nodes,
  { role, how, untilReplaced }: Extract<Fault, { do: "node" }>,
  forMs: number,
  target: number,
): Promise<Struck> {
  const node = nodes.reserve(role, target);
  if (node === undefined) return noSuchNode;
  const undo = disturb(nodes, node, how);
  await Bun.sleep(forMs);
  if (untilReplaced) await nodes.replaced(node);
  await undo();
  nodes.release(node);
  return { killed: how === "kill" ? [node.name] : [], note: node.name };
}

function disturb(
  { network }: Nodes,
  node: RedisServer,
  how: Extract<Fault, { do: "node" }>["how"],
): () => unknown {
  switch (how) {
    case "kill":
      node.kill("SIGKILL");
      return () => node.restart();
    case "freeze":
      node.kill("SIGSTOP");
      return () => node.kill("SIGCONT");
    case "cutFromEveryone":
      return network.cut({ host: node.name, from: "everyone" });
    case "cutFromPeers":
      return network.cut({ host: node.name, from: "peers" });
    case "cutFromService":
      return network.cut({ host: node.name, from: "outside" });
  }
}

/** Promotes a replica, and waits. */
export async function promote(nodes: Nodes, forMs: number, target: number): Promise<Struck> {
  const note = nodes.promote(target);
  await Bun.sleep(forMs);
  return { killed: [], note };
}

/**
 * Moves a partition's slot to another primary, key by key. The source is killed in the middle if the fault says so; then,
 * or if the move fails, the operator repairs the cluster once all nodes are back.
 */
export async function moveSlot(
  nodes: Nodes,
  { killSource }: Extract<Fault, { do: "moveSlot" }>,
  strike: { readonly target: number; readonly random: number; readonly log: string },
): Promise<Struck> {
  const cluster = nodes.cluster!;
  const partition = nodes.partition(strike.target);
  const killed: string[] = [];
  const notes: string[] = [partition];
  try {
    const move = cluster.startMove(partition, cluster.otherPrimary(partition));
    notes.push(`from ${move.source.name} to ${move.target.name}`);
    const steps = await moveKeys(move, killSource ? strike.random : 1);
    if (killSource) {
      notes.push(`${steps} of ${bulkSteps + singlesMax} steps before the kill`);
      move.source.kill("SIGKILL");
      killed.push(move.source.name);
      await nodes.replaced(move.source);
      await move.source.restart();
      // redis-cli would see two primaries of the slot until it has heard of the other one, and might choose either.
      await eventually("the old source follows the new one", () => followsAnother(move.source));
    } else move.finish();
  } catch (error) {
    notes.push(error instanceof Error ? error.message : String(error));
  }
  const repairs = await repair(nodes, strike.log);
  if (repairs > 0) notes.push(`fixed with ${repairs} runs of redis-cli`);
  return { killed, note: notes.join(", ") };
}

/**
 * Moves the many idempotency keys, which are newer, in a few steps, and then the others one by one.
 * @param share of the steps to make, in [0, 1]
 * @returns how many were made
 */
async function moveKeys(move: SlotMove, share: number): Promise<number> {
  const count = Number(move.source.cli("CLUSTER", "COUNTKEYSINSLOT", String(move.slot)));
  const many = Math.ceil(Math.max(0, count - singlesMax) / bulkSteps);
  const sizes = [...Array<number>(bulkSteps).fill(many), ...Array<number>(singlesMax - 1).fill(1), Infinity];
  const made = sizes.slice(0, Math.round(share * sizes.length));
  for (const size of made) {
    await Bun.sleep(stepMs);
    move.migrate(size);
  }
  return made.length;
}

/** Closes all open slots, as an operator does. @returns how many runs of redis-cli it took, or were tried */
async function repair({ cluster }: Nodes, log: string): Promise<number> {
  let runs = 0;
  while (runs < fixesMax) {
    const states = cluster!.nodes.filter((node) => node.isRunning);
    if (!states.some((node) => /\[\d+-[<>]-/.test(node.cli("CLUSTER", "NODES")))) return runs;
    runs += 1;
    const address = `127.0.0.1:${states[0]!.announcedPort}`;
    const fix = Bun.spawn(["redis-cli", "--cluster", "fix", address, "--cluster-yes"], {
      stdin: "ignore",
      stderr: "ignore",
    });
    appendFileSync(join(log, "fixes.log"), await new Response(fix.stdout).text());
    await Bun.sleep(fixPauseMs);
  }
  return runs;
}
