// `queue retry`: sends dead letters back to waiting, by their ids or all of them; and, with --force, emails that may have
// been sent.

import { decideRetry, endDoubtNow, type OperatorRetry, retryCounts } from "../../policy/operator_retry.ts";
import type { StoredEmail } from "../../queue/contract.ts";
import { defineCommand, flag, wrongUsage } from "../command.ts";
import { formatCount } from "../format.ts";
import { complain, print, printJson } from "../output.ts";
import { chunksOf, complainAbout, type Failure, forEachChunk, type Problem, resultOf } from "./bulk.ts";
import { emailFields } from "./email_fields.ts";
import { deadPages, jsonFlag, type QueueSession, withQueue } from "./session.ts";

export const retryCommand = defineCommand({
  name: "queue retry",
  summary: "sends dead letters back to waiting",
  words: "<id>...|--all",
  wordsMax: Number.POSITIVE_INFINITY,
  about: `\
Sends dead letters again, with a new key. Their attempts are kept, and GIVE_UP_AFTER begins anew. It runs beside a running system, and may be interrupted and repeated: --all takes those that are dead when it begins.

Some dead letters may have been sent, and may arrive twice: they are retried only with --force, and are then named.

An email in doubt is retried only by its id and with --force. That ends the doubt of its whole batch, which was one request: all its emails go back to waiting, and may arrive twice. It is refused while a worker has the batch.`,
  options: {
    all: flag("all dead letters, never emails in doubt"),
    reason: {
      type: "string",
      placeholder: "text",
      help: "only those whose reason, as `queue stats` shows it, contains this text",
    },
    force: flag("also those that may have been sent"),
    json: jsonFlag,
  },
  run({ all, reason, force, json }, ids) {
    if (all && ids.length > 0) return wrongUsage("Either --all or ids");
    if (!all && ids.length === 0) return wrongUsage("Which emails? Their ids, or --all");
    // Every reason contains the empty text: probably a variable of a shell was not set.
    if (reason === "") return wrongUsage("--reason is empty");
    return withQueue(async (session) => {
      const { admin, location } = session;
      const { nowMs, states } = await admin.stats();
      const retry = new Retry(session, { all, reason, force, beganAtMs: nowMs });
      const interruption = await forEachChunk<readonly (StoredEmail | { readonly id: string })[]>(
        all ? deadPages(admin, nowMs) : chunksOf(ids),
        (emails) => retry.retryChunk(emails),
        { label: "Retrying", total: all ? states.dead : ids.length },
        session,
      );
      const { retried, possibleDuplicates, heldBack, failures } = retry;
      if (json) {
        const lists = { retried: [...retried], possible_duplicates: possibleDuplicates, held_back: heldBack };
        printJson({
          queue: location,
          ...lists,
          failed: failures,
          ...(interruption && { interrupted: true }),
        });
      } else {
        print(`${formatCount(retried.size, "email")} back to waiting (queue in ${location})`);
        printDuplicates(possibleDuplicates);
        if (heldBack.length > 0)
          complain(
            `${formatCount(heldBack.length, "dead letter")} may have been sent: --force retries them too`,
          );
      }
      complainAbout(failures);
      return resultOf(interruption, failures);
    });
  },
});

function printDuplicates(ids: readonly string[]): void {
  if (ids.length === 0) return;
  print(`${formatCount(ids.length, "possible duplicate")} among them:`);
  print(ids.map((id) => `  ${id}`).join("\n"));
}

interface Wanted {
  /** All dead letters are wanted, instead of emails that the operator named. */
  readonly all: boolean;
  readonly reason: string | undefined;
  readonly force: boolean;
  /** The store's time, Unix ms. */
  readonly beganAtMs: number;
}

interface Request extends OperatorRetry {
  readonly id: string;
  readonly seenHistory: string;
}

class Retry {
  readonly retried = new Set<string>();
  /** Those among the retried that a provider may have accepted. */
  readonly possibleDuplicates: string[] = [];
  /** Those of all dead letters that may have been sent and need --force. */
  readonly heldBack: string[] = [];
  /** Emails that the operator named, and that could not be retried. */
  readonly failures: Failure[] = [];
  readonly #session: QueueSession;
  readonly #wanted: Wanted;
  #seen = 0;

  constructor(session: QueueSession, wanted: Wanted) {
    this.#session = session;
    this.#wanted = wanted;
  }

  /**
   * @param emails with their stored state, or only with the ids that the operator named
   * @returns how many emails have been dealt with so far
   */
  async retryChunk(emails: readonly (StoredEmail | { readonly id: string })[]): Promise<number> {
    const { admin } = this.#session;
    const requests: Request[] = [];
    for (const email of emails) {
      // With another email of its batch, that was named before.
      if (this.retried.has(email.id)) continue;
      const stored = "state" in email ? email : await admin.show(email.id);
      const request = stored === undefined ? "unknown" : await this.#prepare(stored);
      if (typeof request === "string") this.#fail(email.id, request);
      else if (request !== undefined) requests.push(request);
    }
    // Counted apart, in as few calls as possible.
    for (const mayBeDuplicate of [false, true]) {
      const alike = requests.filter((request) => request.mayBeDuplicate === mayBeDuplicate);
      if (alike.length > 0) this.#note(await admin.retry(alike, retryCounts(mayBeDuplicate)), mayBeDuplicate);
    }
    for (const { id } of requests) {
      if (this.retried.has(id) || this.#wanted.all) continue;
      const state = (await admin.show(id))?.state;
      this.#fail(id, state === undefined ? "unknown" : state === "dead" ? "changed" : state);
    }
    return (this.#seen += emails.length);
  }

  /** The request to the store, what keeps the email from being retried, or nothing if it has been retried already. */
  async #prepare(stored: StoredEmail): Promise<Request | Problem | undefined> {
    const { id, state, history: seenHistory } = stored;
    const { reason, force, beganAtMs } = this.#wanted;
    const isWanted = reason === undefined || emailFields(stored).reason.value?.includes(reason) === true;
    if (state === "in-doubt" && force && isWanted) return this.#endDoubt(id);
    if (state !== "dead") return state;
    if (!isWanted) return "other-reason";
    const request = { id, seenHistory, ...decideRetry(seenHistory, beganAtMs) };
    return request.mayBeDuplicate && !force ? "outcome-unknown" : request;
  }

  /** Ends the doubt of the batch that holds this email, so that all of it goes back to waiting. */
  async #endDoubt(emailId: string): Promise<Problem | undefined> {
    const { admin, config } = this.#session;
    const claim = { claimId: Bun.randomUUIDv7(), emailId, leaseMs: config.leaseMs };
    const answer = await admin.claimInDoubt(claim);
    if (answer.kind === "not-in-doubt") return "changed";
    if (answer.kind !== "batch") return answer.kind;
    const { settlement, possibleDuplicates } = endDoubtNow(answer.batch, answer.batch.nowMs);
    const { leaseHeld } = await admin.settle(answer.batch, settlement);
    if (!leaseHeld) return "changed";
    this.#note(possibleDuplicates, true);
    // An email that was accepted with another request meanwhile ends as sent.
    return possibleDuplicates.includes(emailId) ? undefined : "sent";
  }

  #note(ids: readonly string[], mayBeDuplicate: boolean): void {
    for (const id of ids) this.retried.add(id);
    if (mayBeDuplicate) this.possibleDuplicates.push(...ids);
  }

  #fail(id: string, problem: Problem): void {
    if (!this.#wanted.all) this.failures.push({ id, problem });
    else if (problem === "outcome-unknown") this.heldBack.push(id);
  }
}
