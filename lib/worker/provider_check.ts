// Requests to a provider that send nothing: whether it is there, whether it knows the credential, and whose that is.

import { describe } from "../runtime/errors.ts";
import type { DecodedBatch } from "../policy/batch.ts";
import type { Policy } from "../policy/decision.ts";
import { isLate } from "../policy/email_fate.ts";
import type { Provider } from "../providers/provider.ts";
import type { DeliveryContext } from "./delivery_context.ts";
import { type ProviderState, learnFromQuestion, type Permit } from "./provider_state.ts";
import { reportChange } from "./delivery_log.ts";

/** Asks a provider whether it is there, and tells its breaker. */
export async function askQuestion(
  context: DeliveryContext,
  state: ProviderState,
  permit: Permit,
): Promise<void> {
  const { question, reason } = await ask(context, state.provider);
  const change = learnFromQuestion(state, permit, question);
  if (change !== undefined) reportChange(context.log, state, change, reason);
}

/** A request that sends nothing: whether the provider answers, and whether it knows the credential. */
async function ask(
  { settings, log, observer }: DeliveryContext,
  provider: Provider,
  timeoutMs = settings.providerTimeoutMs,
): Promise<{ question: Policy["question"]; reason?: string }> {
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
  context: DeliveryContext,
  state: ProviderState,
  open: DecodedBatch,
  step: "send" | "search",
  policy: Policy,
  nowMs: number,
): Promise<Policy> {
  if (step === "search") {
    const account = await accountOf(context, state);
    return account === undefined ? policy : { ...policy, account };
  }
  const [only, ...others] = open.emails;
  if (only === undefined || others.length > 0 || !isLate(only, { batch: open, policy, nowMs })) return policy;
  return { ...policy, question: (await ask(context, state.provider, besidesMs(context))).question };
}

/** Asked once, when the first batch is searched for: a search of another account says nothing. */
async function accountOf(context: DeliveryContext, state: ProviderState): Promise<string | undefined> {
  try {
    state.account ??= await state.provider.account?.(AbortSignal.timeout(besidesMs(context)));
  } catch (error) {
    context.log.error("provider-failed", { provider: state.provider.name, ...describe(error) });
  }
  return state.account;
}

/** Under a lease that has to last for a request besides: it is twice as long as one at least. */
const besidesMs = ({ settings }: DeliveryContext) =>
  Math.min(settings.providerTimeoutMs, settings.leaseMs / 5);
