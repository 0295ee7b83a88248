// The metrics of a worker: its requests and deliveries, and the state of its providers.

import type { DeliveryObserver } from "../worker/delivery_context.ts";
import type { ProviderState } from "../worker/provider_state.ts";
import { createCounter, type Family, gauge, createHistogram, labels, type Sample } from "./metrics.ts";

type Cause = Parameters<DeliveryObserver["died"]>[1];

const causes: readonly Cause[] = ["rejected", "refusedByAll", "gaveUp", "keyReused", "unreadable"];
const breakerStates = ["closed", "open", "half_open"] as const;

export class WorkerMetrics implements DeliveryObserver {
  readonly #states: readonly ProviderState[];
  readonly #requests = createCounter(
    "reliable_email_requests_total",
    "Requests to a provider, to send, to search or to check, by outcome.",
  );
  readonly #requestDuration = createHistogram(
    "reliable_email_request_duration_seconds",
    "Duration of a request to a provider.",
    [0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 15, 30],
  );
  readonly #deliveryDuration = createHistogram(
    "reliable_email_delivery_duration_seconds",
    "From the submission of an email to its acceptance by a provider, retries and pauses included.",
    [0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600, 14_400, 86_400, 259_200],
  );
  readonly #deadLetters = createCounter(
    "reliable_email_dead_letters_total",
    "Emails that this worker gave up, by the cause.",
  );
  /** Suffix of the provider -> Unix time, s. */
  readonly #acceptedAt = new Map<string, number>();

  constructor(states: readonly ProviderState[]) {
    this.#states = states;
    for (const { provider } of states) {
      this.#deliveryDuration.announce(labels({ provider: provider.name }));
      for (const cause of causes) this.died(provider.name, cause, 0);
    }
  }

  requested({ provider, request, outcome, elapsedMs }: Parameters<DeliveryObserver["requested"]>[0]): void {
    this.#requests.add(labels({ provider, request, outcome: snakeCase(outcome) }));
    this.#requestDuration.observe(elapsedMs / 1000, labels({ provider, request }));
  }

  accepted(provider: string, agesMs: readonly number[]): void {
    const suffix = labels({ provider });
    this.#acceptedAt.set(suffix, Date.now() / 1000);
    for (const ageMs of agesMs) this.#deliveryDuration.observe(Math.max(0, ageMs) / 1000, suffix);
  }

  died(provider: string, cause: Cause, count = 1): void {
    this.#deadLetters.add(labels({ provider, cause: snakeCase(cause) }), count);
  }

  families(): readonly Family[] {
    const state =
      "1 for the state of this worker's circuit breaker of a provider: closed if it works, open if no requests are made, half_open while it is asked or tried.";
    const rate = "Requests a second that all workers together make at most, as this worker knows.";
    const acceptance =
      "When a provider last accepted an email of this worker, Unix time; missing before the first.";
    return [
      gauge("reliable_email_provider_state", state, this.#states.flatMap(samplesOfBreaker)),
      this.#each("weight", "Weight of a provider; at 0 it gets nothing new.", ({ weight }) => weight),
      this.#each("requests_per_second", rate, (provider) => provider.rate.perSecond),
      this.#requests,
      this.#requestDuration,
      this.#deliveryDuration,
      gauge("reliable_email_last_acceptance_timestamp_seconds", acceptance, this.#acceptedAt),
      this.#deadLetters,
    ];
  }

  #each(name: string, help: string, valueOf: (state: ProviderState) => number): Family {
    const samples = this.#states.map((state): Sample => [
      labels({ provider: state.provider.name }),
      valueOf(state),
    ]);
    return gauge(`reliable_email_provider_${name}`, help, samples);
  }
}

function samplesOfBreaker({ provider, breaker }: ProviderState): Sample[] {
  const current = breaker.kind === "asking" ? "half_open" : snakeCase(breaker.kind);
  return breakerStates.map((state) => [
    labels({ provider: provider.name, state }),
    state === current ? 1 : 0,
  ]);
}

function snakeCase(name: string): string {
  return name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
}
