// The sandbox: delivers each email into a file of a folder, and to nobody else. Like a provider with idempotency keys
// it accepts a batch once, and it fails on request.

import { randomUUID } from "node:crypto";
import { existsSync } from "node:fs";
import { rename, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import type { Outcome, SendResult } from "../../policy/request_outcome.ts";
import { makeDir, syncDir } from "../../runtime/durable_dir.ts";
import { errorName, reasonOf } from "../failure_reason.ts";
import type { Outgoing, Provider } from "../provider.ts";
import { composeEml } from "./eml.ts";
import { drawFault, emailFaults, requestFaults, type SandboxFault, type SandboxFaults } from "./faults.ts";
import { readFaults } from "./faults_file.ts";

export interface SandboxSettings {
  /** Absolute path of the folder. It is created with the first email. */
  readonly outbox: string;
  readonly faults: SandboxFaults;
  /** Its name in the registry. Default: `sandbox`. */
  readonly name?: string;
  /** Where other faults may be set while it runs, see faults_file.ts. Default: nowhere. */
  readonly faultsFile?: string;
}

/** Until a request that hangs is aborted: the longest that a timer can wait, ms. */
const hangMs = 2 ** 31 - 1;

/** @param options.random in [0, 1), for the faults */
export function createSandbox(
  { outbox, faults: initialFaults, name = "sandbox", faultsFile }: SandboxSettings,
  { random = Math.random }: { readonly random?: () => number } = {},
): Provider {
  return {
    name,
    batchMax: 100,
    batchesFiles: true,
    // A folder has no rate limit; these keep a caller in a loop from filling it at full speed.
    startRate: 100,
    maxRate: 1000,
    context: "",
    credential: "",
    async send(outgoing, signal) {
      const faults = (faultsFile && readFaults(faultsFile)) || initialFaults;
      const fault = drawFault(requestFaults, faults, random());
      const { minMs, maxMs } = faults.latency;
      const latencyMs = minMs + (maxMs - minMs) * random();
      const accept = () =>
        acceptBatch(outbox, outgoing, signal, () => drawFault(emailFaults, faults, random()));
      if (!(await waited(latencyMs, signal))) return { result: noAnswer("unavailable", tooLate), rate: {} };
      if (fault === undefined) return { result: await accept(), rate: {} };

      if (fault === "lose-answer" || (fault === "hang" && random() < 0.5)) await accept();
      if (fault === "hang") await waited(hangMs, signal);
      return { result: { kind: "whole", outcome: outcomeOfFault(fault) }, rate: {} };
    },
    async check() {
      try {
        makeDir(outbox);
        await rm(await writeTemporary(outbox, Buffer.from("x")));
        return { ok: true, answered: true, detail: `${outbox} can be written to` };
      } catch (error) {
        const reason = `${outbox} cannot be written to (${errorName(error)})`;
        return { ok: false, answered: false, reason };
      }
    },
  };
}

/**
 * Writes the file of each email that has none for this batch yet. A file appears whole and on disk or not at all. Its
 * name and its bytes depend on the email and the batch alone, so that writing it again, even by two workers at once,
 * changes nothing. Never throws.
 */
async function acceptBatch(
  outbox: string,
  { batchId, emails }: Outgoing,
  signal: AbortSignal,
  drawEmailFault: () => SandboxFault | undefined,
): Promise<SendResult> {
  let mayBeAccepted = false;
  const stopped = (reason: string) => noAnswer(mayBeAccepted ? "unknown" : "unavailable", reason);
  try {
    makeDir(outbox);
    const outcomes: Outcome[] = [];
    for (const one of emails) {
      if (signal.aborted) return stopped(tooLate);
      const name = `${one.id}.${batchId}`;
      const file = join(outbox, `${name}.eml`);
      if (!existsSync(file)) {
        // Drawn only here: a fault never takes back an acceptance.
        const fault = drawEmailFault();
        if (fault !== undefined) {
          outcomes.push(outcomeOfFault(fault));
          continue;
        }
        const temporary = await writeTemporary(outbox, await composeEml(one, batchId));
        mayBeAccepted = true;
        await rename(temporary, file).catch(async (error: unknown) => {
          await rm(temporary, { force: true });
          throw error;
        });
      }
      mayBeAccepted = true;
      outcomes.push({ kind: "accepted", providerMessageId: name });
    }
    // Existing files need this too: the worker that wrote them may have been killed before it synced the folder.
    if (mayBeAccepted) syncDir(outbox);
    return { kind: "each", outcomes };
  } catch (error) {
    return stopped(reasonOf("outbox:", errorName(error)));
  }
}

/** Writes and syncs a new file whose name no reader takes for an email's, and returns its path. */
async function writeTemporary(folder: string, bytes: Uint8Array): Promise<string> {
  const path = join(folder, `.${randomUUID()}.tmp`);
  try {
    await writeFile(path, bytes, { flag: "wx", mode: 0o600, flush: true });
    return path;
  } catch (error) {
    // On a full disk, half a file would take the space that the next attempt needs.
    await rm(path, { force: true }).catch(() => {});
    throw error;
  }
}

const tooLate = "given up before everything was written";

/** As after a broken connection: not the sandbox's own answer. */
function noAnswer(kind: "unavailable" | "unknown", reason: string): SendResult {
  return { kind: "whole", outcome: { kind, reason, own: false } };
}

function outcomeOfFault(fault: SandboxFault): Exclude<Outcome, { kind: "accepted" }> {
  const reason = `sandbox: ${fault}`;
  switch (fault) {
    case "unavailable":
      return { kind: "unavailable", reason, own: true };
    case "throttle":
      return { kind: "throttled", reason };
    case "refuse-account":
      return { kind: "accountRefused", reason };
    case "lose-request":
    case "lose-answer":
    case "hang":
      return { kind: "unknown", reason, own: false };
    case "reject":
      return { kind: "rejected", reason, stable: true };
    case "refuse-sender":
      return { kind: "senderRefused", reason };
  }
}

/** Whether the time passed before the signal aborted. */
async function waited(ms: number, signal: AbortSignal): Promise<boolean> {
  if (ms > 0) await sleep(ms, undefined, { signal }).catch(() => {});
  return !signal.aborted;
}
