// Finding the primary: how contradicting answers are judged, and what happens to real Sentinels and clusters.

import { describe, expect, test } from "bun:test";
import {
  type ClusterView,
  judgeCluster,
  readView,
  replicasIn,
} from "../../lib/queue/redis/topology/cluster.ts";
import { judgeSentinels } from "../../lib/queue/redis/topology/sentinel.ts";
import { hashSlot } from "../../lib/queue/redis/partition.ts";

const at = (port: number) => ({ host: "a", port });

test("topology: a slot is that of the Redis Cluster Specification", () => {
  expect(hashSlot("123456789")).toBe(0x31c3);
  expect(hashSlot("{user1000}.following")).toBe(hashSlot("user1000"));
  expect(hashSlot("foo{}{bar}")).not.toBe(hashSlot("bar"));
  expect(hashSlot("foo{{bar}}zap")).toBe(hashSlot("{bar"));
  expect(hashSlot("foo{bar}{zap}")).toBe(hashSlot("bar"));
});

describe("topology: among Sentinels that disagree", () => {
  const says = (port: number, epoch: number) => ({ primary: at(port), epoch });

  test("the one that saw the last failover is believed, whatever the others say", () => {
    expect(judgeSentinels([says(1, 3), says(1, 3), says(2, 4)])).toEqual(at(2));
  });

  test("the majority of one epoch is believed", () => {
    expect(judgeSentinels([says(1, 3), says(2, 3), says(2, 3)])).toEqual(at(2));
  });

  test("none is no primary", () => {
    expect(judgeSentinels([])).toBeUndefined();
  });
});

describe("topology: among nodes of a cluster that disagree", () => {
  const slot = 5;

  /** Lines are `id flags primary epoch slots`; the port of node n1 is 1, its bus port 101. */
  function views(told: Record<string, readonly string[]>, keys: Record<string, number> = {}) {
    const all = Object.entries(told).map(([id, lines]): [string, ClusterView] => {
      const text = lines.map((line) => {
        const [name = "", flags = "", primary = "", epoch = "", ...slots] = line.split(" ");
        const address = `10.0.0.1:${name.slice(1)}@10${name.slice(1)}`;
        const own = name === id ? `myself,${flags}` : flags;
        return `${name} ${address} ${own} ${primary} 0 0 ${epoch} connected ${slots.join(" ")}`.trimEnd();
      });
      return [id, readView(`${text.join("\n")}\n`, at(9), new Map([[slot, keys[id] ?? 0]]), false)];
    });
    return new Map(all);
  }
  const place = (told: Record<string, readonly string[]>, keys?: Record<string, number>) =>
    judgeCluster(views(told, keys), slot);
  const primary = (port: number) => ({ kind: "primary", address: { host: "10.0.0.1", port } });

  test("the owner by the highest epoch is believed, not an isolated old one", () => {
    const old = ["n1 master - 1 0-99", "n2 slave n1 1"];
    const next = ["n1 master,fail - 1", "n2 master - 7 0-99"];
    expect(place({ n1: old, n2: next })).toMatchObject(primary(2));
  });

  test("a node is believed about itself, rather than others with an old word", () => {
    const stale = ["n1 master - 9 0-99", "n3 master - 3"];
    expect(place({ n1: ["n1 master - 9 6-99"], n2: ["n2 master - 7 0-5"], n3: stale })).toMatchObject(
      primary(2),
    );
  });

  test("an owner that does not answer is awaited, even if an older one does", () => {
    const found = place({ n1: ["n1 master - 1 0-99"], n3: ["n3 master - 3", "n2 master - 7 0-99"] });
    expect(found).toEqual({ kind: "unknown", reason: "the primary of slot 5, 10.0.0.1:2, does not answer" });
  });

  test("none may serve the slot", () => {
    const found = place({ n1: ["n1 master - 1 6-99"] });
    expect(found).toEqual({ kind: "unknown", reason: "no node of the cluster serves slot 5" });
  });

  test("a move that the owner knows of is none of our concern", () => {
    const told = { n1: ["n1 master - 1 0-99 [5->-n2]"], n2: ["n2 master - 2 100-199 [5-<-n1]"] };
    expect(place(told, { n1: 3, n2: 2 })).toMatchObject(primary(1));
  });

  test.each([
    ["imported by another", { n2: ["n2 master - 2 100-199 [5-<-n3]"] }, {}],
    ["moved away from another", { n2: ["n2 master - 2 100-199 [5->-n1]"] }, {}],
    ["held by another in part", { n2: ["n2 master - 2 100-199"] }, { n2: 1 }],
    [
      "held by another that died, as its replica shows",
      { n2: ["n2 slave n3 2", "n1 master - 8 0-99"] },
      { n2: 1 },
    ],
  ])("a slot that is %s without the owner's knowledge is closed", (_, other, keys) => {
    const found = place({ n1: ["n1 master - 8 0-99 [6->-n2]"], ...other }, keys);
    expect(found).toMatchObject({
      kind: "unknown",
      reason: expect.stringMatching(/10\.0\.0\.1:2.* redis-cli --cluster fix 10\.0\.0\.1:1$/),
    });
  });

  test.each([
    ["a replica of the owner", ["n2 slave n1 8"]],
    ["a replica that was cut off from another primary, which answers", ["n2 slave n3 8"]],
    ["an old owner that was cut off", ["n2 master - 2 0-99"]],
    ["a replica of an old owner, both cut off", ["n2 slave n4 2", "n4 master - 2 0-99"]],
  ])("keys on %s close no slot", (_, lines) => {
    const told = { n1: ["n1 master - 8 0-99"], n2: lines, n3: ["n3 master - 3"] };
    expect(place(told, { n1: 3, n2: 3 })).toMatchObject(primary(1));
  });

  test("the replicas are those that the owner has and that live", () => {
    const lines = [
      "n1 master - 8 0-99",
      "n2 slave n1 8",
      "n3 slave,fail n1 8",
      "n4 slave n5 8",
      "n5 master - 2",
    ];
    expect(replicasIn(views({ n1: lines }), slot)).toEqual([{ host: "10.0.0.1", port: 2 }]);
  });
});

describe("topology: the address of a node of a cluster", () => {
  const first = (address: string, tls = false) =>
    readView(`a ${address} myself,master - 0 0 1 connected`, at(9), new Map(), tls).own.node;

  test.each([
    ["10.0.0.1:7@17", { host: "10.0.0.1", port: 7 }],
    ["fd00::1:7@17", { host: "fd00::1", port: 7 }],
    ["10.0.0.1:7@17,node.example", { host: "10.0.0.1", port: 7 }],
    [":7@17", { host: "a", port: 7 }],
    [":0@17", undefined],
  ])("is read from %s", (address, node) => {
    expect(first(address)).toEqual(node);
  });

  test("is its host name with TLS, if it announces one", () => {
    expect(first("10.0.0.1:7@17,node.example", true)).toEqual({ host: "node.example", port: 7 });
    expect(first("10.0.0.1:7@17,", true)).toEqual({ host: "10.0.0.1", port: 7 });
    expect(first("10.0.0.1:7@17,,shard-id=1", true)).toEqual({ host: "10.0.0.1", port: 7 });
  });
});
