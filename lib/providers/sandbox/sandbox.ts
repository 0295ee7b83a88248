// The sandbox: delivers into a folder, one file an email, and to nobody else. It is idempotent by batch as the
// providers are that have keys, and fails as they do when it is told to.

import { errorCode } from "../../runtime/errors.ts";
import { setTimeout as sleep } from "node:timers/promises";
import type { Outcome, SendResult } from "../../policy/request_outcome.ts";
import { makeDir, syncDir } from "../../runtime/durable_dir.ts";
import { composeEml, type EmlIds } from "./eml.ts";
import { findFile, putFile, tryOutbox } from "./outbox.ts";
import type { Outgoing, Provider } from "../provider.ts";
import { reasonOf } from "../failure_reason.ts";
import {
  drawFault,
  drawLatencyMs,
  emailFaults,
  type EmailFault,
  requestFaults,
  type RequestFault,
  type SandboxFaults,
} from "./faults.ts";

export interface SandboxSettings {
  /** Absolute path of the folder. It is created with the first email. */
  readonly outbox: string;
  readonly faults: SandboxFaults;
}

interface Sandbox extends SandboxSettings {
  /** In [0, 1). */
  readonly random: () => number;
}

/** @param options.random in [0, 1), for the faults */
export function createSandbox(
  settings: SandboxSettings,
  { random = Math.random }: { readonly random?: () => number } = {},
): Provider {
  const sandbox = { ...settings, random };
  return {
    name: "sandbox",
    batchMax: 100,
    // A folder limits nobody; the bounds only keep a mistake from filling it at full speed.
    startRate: 100,
    maxRate: 1000,
    context: "",
    credential: "",
    async send(outgoing, signal) {
      return { result: await answer(sandbox, outgoing, signal), rate: {} };
    },
    async check() {
      try {
        makeDir(settings.outbox);
        await tryOutbox(settings.outbox);
        return { ok: true, answered: true, detail: `${settings.outbox} can be written to` };
      } catch (error) {
        return {
          ok: false,
          answered: false,
          reason: `${settings.outbox} cannot be written to (${nameOf(error)})`,
        };
      }
    },
  };
}

async function answer(sandbox: Sandbox, outgoing: Outgoing, signal: AbortSignal): Promise<SendResult> {
  const { faults, random } = sandbox;
  const fault = drawFault(requestFaults, faults, random());
  if (!(await waited(drawLatencyMs(faults, random()), signal))) return silence("unavailable", givenUp);
  switch (fault) {
    case undefined:
      return take(sandbox, outgoing, signal);
    case "unavailable":
      return whole({ kind: "unavailable", reason: injected(fault), own: true });
    case "throttle":
      return whole({ kind: "throttled", reason: injected(fault) });
    case "refuse-account":
      return whole({ kind: "accountRefused", reason: injected(fault) });
    case "lose-request":
      return silence("unknown", injected(fault));
    case "lose-answer":
      await take(sandbox, outgoing, signal);
      return silence("unknown", injected(fault));
    case "hang":
      if (random() < 0.5) await take(sandbox, outgoing, signal);
      await aborted(signal);
      return silence("unknown", injected(fault));
  }
}

/** Writes what is not written yet. Never throws. */
async function take(
  { outbox, faults, random }: Sandbox,
  { batchId, emails }: Outgoing,
  signal: AbortSignal,
): Promise<SendResult> {
  let mayBeAccepted = false;
  const leftOff = (reason: string) => silence(mayBeAccepted ? "unknown" : "unavailable", reason);
  try {
    makeDir(outbox);
    const outcomes: Outcome[] = [];
    for (const { id, email } of emails) {
      if (signal.aborted) return leftOff(givenUp);
      const ids: EmlIds = { emailId: id, batchId };
      const place = await findFile(outbox, ids);
      if (place.kind === "taken") {
        // No dice for what is accepted already: to refuse it now would be to take it back.
        mayBeAccepted = true;
        outcomes.push({ kind: "accepted", providerMessageId: place.name });
        continue;
      }
      const fault = drawFault(emailFaults, faults, random());
      if (fault !== undefined) {
        outcomes.push(refusalBy(fault));
        continue;
      }
      const bytes = await composeEml(email, ids);
      const name = await putFile(outbox, ids, bytes, {
        from: place.number,
        mayBeThere() {
          mayBeAccepted = true;
        },
      });
      outcomes.push({ kind: "accepted", providerMessageId: name });
    }
    // Also for what was there: whoever wrote it may have been killed before it came to this.
    if (mayBeAccepted) syncDir(outbox);
    return { kind: "each", outcomes };
  } catch (error) {
    return leftOff(reasonOf("outbox:", nameOf(error)));
  }
}

function refusalBy(fault: EmailFault): Outcome {
  switch (fault) {
    case "reject":
      return { kind: "rejected", reason: injected(fault), stable: true };
    case "refuse-sender":
      return { kind: "senderRefused", reason: injected(fault) };
  }
}

const givenUp = "given up before everything was written";

function injected(fault: RequestFault | EmailFault): string {
  return `SANDBOX_FAULTS: ${fault}`;
}

function whole(outcome: Exclude<Outcome, { kind: "accepted" }>): SendResult {
  return { kind: "whole", outcome };
}

/** Nothing that counts as the sandbox's own answer: as of a connection that broke. */
function silence(kind: "unavailable" | "unknown", reason: string): SendResult {
  return whole({ kind, reason, own: false });
}

/** False if the signal came first. */
async function waited(ms: number, signal: AbortSignal): Promise<boolean> {
  try {
    if (ms > 0) await sleep(ms, undefined, { signal });
  } catch {
    return false;
  }
  return !signal.aborted;
}

function aborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) return resolve();
    signal.addEventListener("abort", () => resolve(), { once: true });
  });
}

/** Its message is left out: it holds paths. */
function nameOf(error: unknown): string {
  return errorCode(error) ?? (error instanceof Error ? error.name : "error");
}
