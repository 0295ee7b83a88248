// Requests to a provider that send nothing: whether it is there, whether it knows the credential, and whose that is.

import { describe } from "../runtime/errors.ts";
import type { OpenBatch } from "../policy/batch.ts";
import type { Policy } from "../policy/decision.ts";
import { isLate } from "../policy/email_fate.ts";
import type { Provider } from "../providers/provider.ts";
import type { Deliverer } from "./delivery_context.ts";
import { type Lane, learnFromQuestion, type Ticket } from "./provider_state.ts";
import { reportChange } from "./delivery_log.ts";

/** Asks a provider whether it is there, and tells its breaker. */
export async function askQuestion(deliverer: Deliverer, lane: Lane, ticket: Ticket): Promise<void> {
  const { question, reason } = await ask(deliverer, lane.provider);
  const change = learnFromQuestion(lane, ticket, question);
  if (change !== undefined) reportChange(deliverer.log, lane, change, reason);
}

/** A request that sends nothing: whether the provider answers, and whether it knows the credential. */
async function ask(
  { settings, log, observer }: Deliverer,
  provider: Provider,
  timeoutMs = settings.providerTimeoutMs,
): Promise<{ question: Policy["question"]; reason?: string }> {
  // Without a question there is nothing to find out: the provider counts as there.
  if (provider.check === undefined) return { question: "ok" };
  const startMs = performance.now();
  const count = (outcome: "answered" | "unanswered") =>
    observer?.requested({
      provider: provider.name,
      request: "check",
      outcome,
      elapsedMs: performance.now() - startMs,
    });
  try {
    const result = await provider.check(AbortSignal.timeout(timeoutMs));
    count(result.answered ? "answered" : "unanswered");
    if (result.ok) return { question: "ok" };
    return { question: result.answered ? "answered" : "none", reason: result.reason };
  } catch (error) {
    log.error("provider-failed", { provider: provider.name, ...describe(error) });
    count("unanswered");
    return { question: "none" };
  }
}

/**
 * Asks the provider what the decision will depend on: before a search, which account is searched; before a request whose
 * failure may end an email, whether the provider works.
 */
export async function inform(
  deliverer: Deliverer,
  lane: Lane,
  open: OpenBatch,
  step: "send" | "recall",
  policy: Policy,
  nowMs: number,
): Promise<Policy> {
  if (step === "recall") {
    const account = await accountOf(deliverer, lane);
    return account === undefined ? policy : { ...policy, account };
  }
  const [only, ...others] = open.emails;
  if (only === undefined || others.length > 0 || !isLate(only, { batch: open, policy, nowMs })) return policy;
  return { ...policy, question: (await ask(deliverer, lane.provider, besidesMs(deliverer))).question };
}

/** Asked once, when the first batch is searched for: a search of another account says nothing. */
async function accountOf(deliverer: Deliverer, lane: Lane): Promise<string | undefined> {
  try {
    lane.account ??= await lane.provider.account?.(AbortSignal.timeout(besidesMs(deliverer)));
  } catch (error) {
    deliverer.log.error("provider-failed", { provider: lane.provider.name, ...describe(error) });
  }
  return lane.account;
}

/** Under a lease that has to last for a request besides: it is twice as long as one at least. */
const besidesMs = ({ settings }: Deliverer) => Math.min(settings.providerTimeoutMs, settings.leaseMs / 5);
