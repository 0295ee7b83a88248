// Simulates a fleet of workers: the real dispatchers, deliveries and policies, on virtual time, over a queue in memory
// and simulated providers.

import type { DeliveryContext } from "../../lib/worker/delivery_context.ts";
import { Dispatcher } from "../../lib/worker/dispatcher.ts";
import { ProviderState } from "../../lib/worker/provider_state.ts";
import { noTraffic, type Service, SimulatedProvider, type Traffic } from "./provider.ts";
import { SimulatedQueue } from "./queue.ts";
import { VirtualTime } from "./virtual_time.ts";

export interface Scenario {
  readonly seed: number;
  readonly workers: number;
  readonly services: readonly Service[];
  readonly emailsPerSecond: number;
  /** Emails of which one simulated email consists, so that there are fewer of them. */
  readonly emailsEach: number;
  readonly isOver: (minutes: readonly Minute[]) => boolean;
}

/** The events of one minute, and the state at its end. */
export interface Minute {
  readonly submitted: number;
  /** By provider. */
  readonly traffic: Readonly<Record<string, Traffic>>;
  /** Emails neither sent nor dead, and the age of the oldest. */
  readonly backlog: number;
  readonly oldestSeconds: number;
  /** Claims of all workers that reached the store. */
  readonly claims: number;
}

export interface FleetResult {
  readonly minutes: readonly Minute[];
  readonly dead: number;
  readonly possibleDuplicates: number;
  /** Requests that carried an email: the mean, and the most. */
  readonly carriedMean: number;
  readonly carriedMost: number;
}

const minuteMs = 60_000;
const silent = { debug() {}, info() {}, warn() {}, error() {} };

export function simulateFleet(scenario: Scenario): FleetResult {
  const { seed, workers, services, emailsPerSecond, emailsEach } = scenario;
  const time = new VirtualTime(seed);
  const names = services.map(({ name }) => name);
  const queue = new SimulatedQueue(time, names);
  const providers = services.map((service) => new SimulatedProvider(time, service));
  const minutes: Minute[] = [];
  const start = () => {
    for (let n = 0; n < workers; n += 1) startWorker(`worker-${n}`, queue, providers, time);
    submitSteadily(queue, emailsPerSecond / emailsEach, time);
    watch(minutes, { queue, providers, time, scenario });
  };
  let seen = 0;
  time.run(start, () => {
    if (minutes.length === seen) return true;
    seen = minutes.length;
    return !scenario.isOver(minutes);
  });
  const { dead, possibleDuplicates, carried } = queue;
  return {
    minutes,
    dead: dead * emailsEach,
    possibleDuplicates: possibleDuplicates * emailsEach,
    carriedMean: carried.total / carried.emails,
    carriedMost: carried.most,
  };
}

function startWorker(
  worker: string,
  queue: SimulatedQueue,
  providers: readonly SimulatedProvider[],
  time: VirtualTime,
): void {
  const context: DeliveryContext = {
    worker,
    consumer: queue.consumer(),
    log: silent,
    settings: {
      providers: providers.map(({ service }) => service.name),
      concurrency: 8,
      leaseMs: 60_000,
      providerTimeoutMs: 15_000,
      searchWaitMs: 60_000,
      doubtTimeoutMs: 23 * 3_600_000,
      retryBaseMs: 1000,
      retryMaxMs: 3_600_000,
      giveUpAfterMs: 72 * 3_600_000,
      doubtSplitAfterMs: 120_000,
    },
  };
  // Workers that poll do so at different times.
  time.after(time.random() * 1000, () => {
    const states = providers.map((one) => new ProviderState(one.adapter(), one.service.weight));
    void new Dispatcher(context, states);
  });
}

function submitSteadily(queue: SimulatedQueue, perSecond: number, time: VirtualTime): void {
  let owed = 0;
  const submit = () => {
    owed += perSecond;
    queue.submit(Math.floor(owed));
    owed -= Math.floor(owed);
    time.after(1000, submit);
  };
  time.after(0, submit);
}

interface Watched {
  readonly queue: SimulatedQueue;
  readonly providers: readonly SimulatedProvider[];
  readonly time: VirtualTime;
  readonly scenario: Scenario;
}

function watch(minutes: Minute[], { queue, providers, time, scenario }: Watched): void {
  const { emailsPerSecond, emailsEach } = scenario;
  const note = () => {
    const traffic = providers.map(({ service, traffic: { accepted, ...requests } }) => {
      return [service.name, { ...requests, accepted: accepted * emailsEach }] as const;
    });
    minutes.push({
      submitted: emailsPerSecond * 60,
      traffic: Object.fromEntries(traffic),
      backlog: queue.backlog * emailsEach,
      oldestSeconds: queue.oldestAgeSeconds(),
      claims: queue.claims,
    });
    queue.claims = 0;
    for (const one of providers) one.traffic = noTraffic();
    time.after(minuteMs, note);
  };
  time.after(minuteMs, note);
}
