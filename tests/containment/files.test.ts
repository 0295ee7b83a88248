// An email with files that breaks a provider holds up only itself, and keeps its files.

import { describe, expect } from "bun:test";
import { poisonWord } from "../../fakes/poison.ts";
import { eventually } from "../support/eventually.ts";
import { sharedRedis, times, worldTests } from "../support/worlds.ts";
import { accepted, allAccepted, hasty, isDead, limitMs, trickle } from "./containment.ts";

/** A file of more than one piece, and a small one. A larger file would give a request more time to hang. */
const badFiles = [new Uint8Array(270_000).fill(1), new Uint8Array([2, 3])];
const goodFiles = [new Uint8Array([4, 5, 6])];
const whole = Buffer.concat(badFiles);

function containment(queue: string, urlOf: () => string | undefined): void {
  const inWorld = worldTests(`containment (${queue})`, urlOf);

  for (const provider of ["resend", "postmark"] as const) {
    for (const kind of ["error", "hang", "nonsense"] as const) {
      const word = poisonWord({ kind, after: false, at: provider });
      inWorld(
        `${word} in an email with files: the rest leaves, and it dies with its files`,
        {},
        async (world) => {
          const good = await times(60, (index) =>
            world.submit({}, undefined, index % 4 === 0 ? goodFiles : []),
          );
          const bad = await world.submit({ subject: word }, undefined, badFiles);
          good.push(
            ...(await times(60, (index) => world.submit({}, undefined, index % 4 === 0 ? goodFiles : []))),
          );
          await world.startWorker({ weights: { [provider]: 1 }, ...hasty });
          const stop = trickle(world);
          await allAccepted(world, good);
          await eventually("the bad email is dead", () => isDead(world, bad), limitMs);
          await allAccepted(world, await stop());
          await world.drained();
          expect(accepted(world).has(bad)).toBe(false);
          const { fileBytes, counters } = await world.stats();
          expect(fileBytes).toBe(whole.byteLength);
          expect(whole.equals((await world.admin.readFiles(bad))!)).toBe(true);
          // At Resend no other email ever shares a request with it.
          const duplicatesMax = provider === "resend" ? 0 : (counters["possible_duplicates"] ?? 0);
          expect(world.duplicates().size).toBeLessThanOrEqual(duplicatesMax);
          expect(world.acceptances().filter(({ droppedAttachments = 0 }) => droppedAttachments > 0)).toEqual(
            [],
          );
          const arrived = world
            .acceptances()
            .filter(({ attachments }) => attachments?.length === goodFiles.length);
          expect(new Set(arrived.map(({ emailId }) => emailId)).size).toBe(30);
        },
      );
    }
  }
}

describe("embedded", () => containment("embedded", () => undefined));
describe("Redis", () => containment("Redis", sharedRedis()));
