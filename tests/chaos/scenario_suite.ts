// Shared by the short runs of the harness: a folder, the disk's library, and the number of concurrent runs.

import { afterAll, beforeAll, expect, test } from "bun:test";
import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { buildClock } from "../../chaos/clock/clock.ts";
import { buildDisk } from "../../chaos/disk/disk.ts";
import { countStrikes } from "../../chaos/schedule.ts";
import { type Extent, run } from "../../chaos/scenario_run.ts";
import { type Scenario, type Store, storesOf } from "../../chaos/scenario.ts";
import { scenarios } from "../../chaos/scenarios.ts";
import type { RunResult } from "../../chaos/result.ts";
import { extractPreviousRelease, hasPreviousRelease } from "../support/previous_release.ts";
import { product } from "../support/service_command.ts";
import { breakInto, variants } from "./broken_variants.ts";

/** How long faults strike at least, ms. */
const forMs = 2500;
/** Includes the wait for a turn. Only a hang takes this long. */
const timeoutMs = 1_200_000;
const firstSeed = 20_261_125;
/** Whether a broken service shows it is a matter of chance: so often it may be lucky, each time with another seed. */
const triesMax = 3;

/**
 * Runs every scenario on one store briefly, and every broken variant of it.
 * @param atATime a run mostly waits, but other tests need the machine too
 */
export function shortRuns(store: Store, atATime: number): void {
  let folder = "";
  let diskLibrary = "";
  let clockLibrary = "";
  let previousRelease = "";
  let runs = 0;
  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), "reliable-email-chaos-"));
    diskLibrary = buildDisk(folder);
    clockLibrary = buildClock(folder);
    previousRelease = join(folder, "previous-release");
    mkdirSync(previousRelease);
    if (hasPreviousRelease) extractPreviousRelease(previousRelease);
  });
  afterAll(() => rmSync(folder, { recursive: true, force: true }));

  const waiting: (() => void)[] = [];
  let free = atATime;
  async function inTurn<T>(what: () => Promise<T>): Promise<T> {
    if (free === 0) await new Promise<void>((resolve) => waiting.push(resolve));
    else free -= 1;
    try {
      return await what();
    } finally {
      const next = waiting.shift();
      if (next === undefined) free += 1;
      else next();
    }
  }

  function runOf(
    scenario: Scenario,
    tested: string,
    drainMs: number,
    extent: Extent,
    seed = firstSeed,
  ): Promise<RunResult> {
    runs += 1;
    const { rate = 200 } = scenario;
    // A slow machine gets as many faults and emails as a fast one: less would prove less.
    const strikes = countStrikes(scenario, seed, forMs);
    const emails = (rate * forMs) / 1000 / 2;
    return run({
      scenario,
      store,
      seed,
      extent: { forMs, strikes, emails, withinMs: 600_000, ...extent },
      rate,
      folder: join(folder, `run-${runs}`),
      product: tested,
      previousRelease,
      diskLibrary,
      clockLibrary,
      drainMs,
    });
  }

  /** As the error's message, because a comparison with an empty list would print them unreadably. */
  function expectNone(failures: readonly string[], seed = firstSeed): void {
    if (failures.length > 0) throw new Error(`broken with seed ${seed}:\n${failures.join("\n")}`);
  }

  // Some take several times as long as any scenario, so they begin first.
  test.concurrent.each(variants.filter((one) => one.store === store))(
    `chaos (${store}): a service that $name is caught`,
    (variant) =>
      inTurn(async () => {
        const broken = breakInto(join(folder, `broken-${variant.name.replaceAll(/\W+/g, "-")}`), variant);
        const { name, under, kills = 0, emails, caughtAs, drainMs = 8_000 } = variant;
        const extent = {
          kills,
          // It may acknowledge nothing any more.
          withinMs: 60_000,
          ...(emails !== undefined && { emails }),
          // A variant may need several strikes to show, so faults strike until it has.
          ...(/accepted twice/.test(String(caughtAs)) && { duplicates: 1 }),
        };
        let found = "";
        for (let tried = 0; tried < triesMax; tried += 1) {
          const seed = firstSeed + tried;
          const { failures } = await runOf({ name, about: "", ...under }, broken, drainMs, extent, seed);
          if (caughtAs === undefined) return expectNone(failures, seed);
          found = failures.join("\n");
          if (caughtAs.test(found)) return;
        }
        expect(found).toMatch(caughtAs!);
      }),
    timeoutMs,
  );

  const possible = scenarios.filter(({ previousWorkers }) => !previousWorkers || hasPreviousRelease);
  test.concurrent.each(possible.filter((one) => storesOf(one).includes(store)))(
    `chaos (${store}): $name`,
    (scenario) =>
      inTurn(async () => {
        const { failures } = await runOf(scenario, product, 90_000, {});
        expectNone(failures);
      }),
    timeoutMs,
  );
}
