// The interface of an email provider. An adapter is built on the provider's official SDK. It translates answers into
// outcomes, decides nothing, and never throws for an answer or a broken connection.

import type { Email } from "../email/email.ts";
import type { Attachment } from "../email/fields.ts";
import type { RateHint, SearchResult, SendResult } from "../policy/request_outcome.ts";

/** The emails of one request. Its bytes depend on this value alone, and are part of the stored format. */
export interface Outgoing {
  /** The batch's id: the idempotency key where the provider has one. */
  readonly batchId: string;
  /** {@link Provider.context} when the batch was made. */
  readonly context: string;
  readonly emails: readonly OutgoingEmail[];
}

export interface OutgoingEmail {
  readonly id: string;
  readonly email: Email;
  /** The contents of its attachments, in the same order. */
  readonly files?: readonly Uint8Array[];
}

/** The files of an email with their contents. Throws if any is missing: no email is sent without its files. */
export function attachedFiles({
  email: { attachments = [] },
  files = [],
}: OutgoingEmail): readonly (Attachment & { readonly content: Uint8Array })[] {
  if (files.length !== attachments.length) throw new TypeError("the files of an email are missing");
  return attachments.map((about, index) => ({ ...about, content: files[index]! }));
}

export interface Provider {
  /** Its name in the registry. */
  readonly name: string;
  /** Most emails in one request. */
  readonly batchMax: number;
  /** Whether an email with files may share a request with others. */
  readonly batchesFiles: boolean;
  /** Requests per second at first; the provider's answers adjust it. */
  readonly startRate: number;
  /** Highest rate while the provider names no limit, requests per second. */
  readonly maxRate: number;
  /** The input of a request besides the emails (a message stream), stored with the batch when it is made. */
  readonly context: string;
  /** Digest of base URL and credential, 16 hex digits of a SHA-256; empty for a provider without a credential. */
  readonly credential: string;
  send(outgoing: Outgoing, signal: AbortSignal): Promise<{ result: SendResult; rate: RateHint }>;
  /**
   * Finds out which of these emails the provider has accepted, if it has no idempotency keys. A provider with `search`
   * is never sent a batch in doubt again.
   */
  search?(outgoing: Outgoing, signal: AbortSignal): Promise<{ result: SearchResult; rate: RateHint }>;
  /** With `search`: how long after doubt was recorded an empty search starts to count, ms. */
  readonly searchWaitMs?: number;
  /** Checks, by a request that sends nothing, whether the provider can be reached and accepts the credential. */
  check(signal: AbortSignal): Promise<CheckResult>;
  /** A warning for the operator if the provider says that it will change emails of this context. */
  findWarning?(signal: AbortSignal): Promise<string | undefined>;
}

/** `answered`: the provider's API itself answered, even if it refused: JSON with a status under 500. */
export type CheckResult =
  | {
      readonly ok: true;
      readonly answered: boolean;
      readonly detail: string;
      /** With `search`: the account of the credential. An empty search counts only for the account that sent the batch. */
      readonly account?: string;
    }
  /** In the provider's words, without anything personal. */
  | { readonly ok: false; readonly answered: boolean; readonly reason: string };
