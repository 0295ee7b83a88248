// The state of the service as the page last saw it, and a history for the chart.

import type { Event, Snapshot } from "../protocol.ts";
import { setClock } from "./format.ts";

/** One moment in the chart. */
export interface Sample {
  /** Unix s, by the browser's clock. */
  readonly at: number;
  /** Emails that are neither sent nor dead, nor scheduled for later. */
  readonly waiting: number;
  readonly dead: number;
  /** Emails by provider since the page was opened. */
  readonly sent: Readonly<Record<string, number>>;
}

/** How far back the chart reaches, s. */
export const windowSeconds = 180;

export class Live {
  snapshot: Snapshot | undefined;
  /** Why the queue cannot be read, if it cannot. */
  failure: string | undefined;
  /** Whether the token was refused. */
  isLocked = false;
  /** The oldest first. */
  samples: readonly Sample[] = [];
  #before: Readonly<Record<string, number>> | undefined;

  take(event: Event): void {
    if (event.kind === "failure") this.failure = event.reason;
    else this.#takeSnapshot(event.snapshot);
  }

  #takeSnapshot(snapshot: Snapshot): void {
    this.failure = undefined;
    this.snapshot = snapshot;
    setClock(snapshot.nowMs);
    const { states, providers } = snapshot;
    const accepted = Object.fromEntries(providers.map((one) => [one.name, one.accepted]));
    const before = (this.#before ??= accepted);
    const sent = Object.entries(accepted).map(
      ([name, count]) => [name, count - (before[name] ?? 0)] as const,
    );
    const at = Date.now() / 1000;
    const waiting = states.waiting + states.retrying + states.sending + states["in-doubt"];
    const sample: Sample = { at, waiting, dead: states.dead, sent: Object.fromEntries(sent) };
    this.samples = [...this.samples.filter((one) => one.at > at - windowSeconds), sample];
  }
}
