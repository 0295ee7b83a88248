// The messages between the web client's server and its page. Only types, since both sides import this file.

import type { SandboxFaults } from "../../lib/providers/sandbox/faults.ts";

export type { SandboxFaults };

export type State = "scheduled" | "waiting" | "retrying" | "sending" | "in-doubt" | "sent" | "dead";

/** A line of the stream `GET /api/events`. */
export type Event =
  | { readonly kind: "snapshot"; readonly snapshot: Snapshot }
  /** The queue cannot be read at the moment. */
  | { readonly kind: "failure"; readonly reason: string };

/** The queue and the providers at one moment. */
export interface Snapshot {
  /** The store's time, Unix ms. */
  readonly nowMs: number;
  readonly paused: boolean;
  readonly states: Readonly<Record<State, number>>;
  readonly providers: readonly ProviderRow[];
  /** The current faults of each sandbox in use. */
  readonly faults: Readonly<Record<string, SandboxFaults>>;
  /** The newest emails of each state, sorted from the newest. */
  readonly emails: readonly EmailRow[];
}

export interface ProviderRow {
  readonly name: string;
  /** Undefined while the worker cannot be asked. */
  readonly breaker: "closed" | "open" | "half_open" | undefined;
  readonly weight: number | undefined;
  readonly accepted: number;
  readonly retried: number;
  readonly dead: number;
  /** ISO 8601, like all times below. */
  readonly failingSince?: string | undefined;
  readonly lastFailure?: string | undefined;
  readonly lastAcceptedAt?: string | undefined;
}

/** The part of a `queue list` entry that a row shows. */
export interface EmailRow {
  readonly id: string;
  readonly state: State;
  readonly subject?: string;
  readonly to?: string;
  readonly reason?: string;
  readonly submitted_at?: string;
  /** When it is tried next. */
  readonly next_at?: string | undefined;
  /** The providers of its attempts, each once, in order; the current one is the last. */
  readonly providers: readonly string[];
  readonly attempts_total: number;
}

/** The details of one email, as `queue show` prints them. */
export interface EmailDetails {
  readonly id: string;
  readonly state: State | "deleted";
  /** The state in a sentence. */
  readonly meaning: string;
  readonly subject: string | undefined;
  /** It may have been sent: a retry needs `force`. */
  readonly outcomeUnknown: boolean;
  readonly fields: readonly Labeled[];
  readonly attempts: readonly AttemptDetails[];
  /** In order. Their contents are kept until the email is sent or deleted. */
  readonly attachments: readonly FileRow[];
  readonly areFilesKept: boolean;
  /** Texts of several lines: the body, the HTML. */
  readonly contents: readonly { readonly label: string; readonly text: string }[];
  /** The name of its file, if a sandbox has it. */
  readonly deliveredAs: string | undefined;
}

export type Labeled =
  { readonly label: string; readonly text: string } | { readonly label: string; readonly at: string };

export interface FileRow {
  readonly name: string;
  readonly type: string;
  readonly bytes: number;
  readonly contentId?: string | undefined;
}

export interface AttemptDetails {
  readonly at: string;
  readonly provider: string;
  /** The outcome in words. */
  readonly outcome: string;
  readonly isAccepted: boolean;
  readonly reason: string;
}

/** An entry of the list of delivered emails. */
export interface DeliveredRow {
  /** The name of its file. */
  readonly name: string;
  readonly id: string;
  readonly subject: string;
  readonly from: string;
  readonly to: string;
  readonly cc: string;
  /** The beginning of its text. */
  readonly preview: string;
  /** ISO 8601. */
  readonly deliveredAt: string;
}

export interface DeliveredList {
  readonly emails: readonly DeliveredRow[];
  /** Emails in the outbox, of which the newest are listed and searched. */
  readonly total: number;
  readonly searched: number;
}

export interface DeliveredEmail extends DeliveredRow {
  /** Every header field, in order. */
  readonly headers: readonly { readonly name: string; readonly value: string }[];
  readonly text: string;
  /** Where its HTML can be shown in a frame, if it has any. */
  readonly htmlPath?: string;
  readonly htmlSource?: string;
  readonly attachments: readonly FileRow[];
  readonly source: string;
}
