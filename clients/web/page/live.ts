// What the page knows of the service now, and what it has seen since it was opened.

import type { Event, Snapshot } from "../protocol.ts";
import { setClock } from "./format.ts";

/** One moment in the chart. */
export interface Sample {
  /** By this machine's clock, Unix s. */
  readonly at: number;
  /** Neither sent nor dead. */
  readonly waiting: number;
  readonly dead: number;
  /** By provider, since the page was opened. */
  readonly sent: Readonly<Record<string, number>>;
}

/** How far back the chart reaches, s. */
export const windowSeconds = 180;

export class Live {
  snapshot: Snapshot | undefined;
  /** Why the queue cannot be read, if it cannot. */
  failure: string | undefined;
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
