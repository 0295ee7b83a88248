// Moves dead letters and scheduled emails from one queue to another. Each step can be interrupted at any point, and
// repeated.

import { decodeEmail, isHidden } from "../../email/email.ts";
import { ifReadable } from "../../policy/batch.ts";
import { isWithdrawn, restoring, withdrawnHistory } from "../../policy/withdrawal.ts";
import {
  type Admin,
  type DeadLetter,
  type DeleteAnswer,
  type PartialAnswer,
  type StoredEmail,
  StoreUnavailable,
} from "../../queue/contract.ts";
import { formatNumber } from "../format.ts";
import { Failure } from "../output.ts";
import type { FailedEmail } from "./bulk.ts";
import { lossText, type QueueSession, walk } from "./session.ts";

/** How long a store may be lost before the command ends, and between two tries, ms. */
const patienceMs = 30_000;
const againMs = 250;
/**
 * Most emails, and most of their text in UTF-16 units, that are read before they are written. At least one email is read,
 * and none after one with files.
 */
const lettersMax = 100;
const charsMax = 1024 * 1024;

export interface Move {
  readonly source: QueueSession;
  readonly target: QueueSession;
  /** Aborted by a signal: each step ends soon. */
  readonly signal: AbortSignal;
  readonly showProgress: (text: string) => void;
}

/**
 * Asks a store, again and again if it does not answer. An answer that lacks a partition is none: what is there would be
 * left behind. Throws {@link Failure} if it stays lost.
 */
export async function ask<T>(
  side: Pick<QueueSession, "admin" | "config">,
  request: (admin: Admin) => Promise<T>,
): Promise<T> {
  const endMs = performance.now() + patienceMs;
  for (;;) {
    try {
      const answer = await request(side.admin);
      const [missed] = (answer as PartialAnswer | undefined)?.unreached ?? [];
      if (missed === undefined) return answer;
      throw new StoreUnavailable(`partition ${missed.partition}: ${missed.reason}`);
    } catch (error) {
      if (!(error instanceof StoreUnavailable)) throw error;
      if (performance.now() > endMs) throw new Failure(lossText(error, side.config));
      await Bun.sleep(againMs);
    }
  }
}

export interface MovedEmails {
  readonly deadLetters: number;
  readonly scheduled: number;
  readonly failed: readonly FailedEmail[];
}

/**
 * Moves the dead letters or the scheduled emails of a queue that is being moved. A scheduled email becomes a dead letter at
 * the source first, and is scheduled again once only the target has it. So whenever both have an email, neither can send
 * it: the source retries nothing, and the target is not told to. Everything is durable at the target before it is deleted
 * at the source.
 */
export async function moveEmails(move: Move, state: "dead" | "scheduled"): Promise<MovedEmails> {
  const moved = { deadLetters: 0, scheduled: 0 };
  const failed: FailedEmail[] = [];
  for await (const read of emailsOf(move, state)) {
    const letters = state === "dead" ? read : await withdraw(move, read);
    if (letters.length === 0) continue;
    const answers = await ask(move.target, (admin) => admin.adopt(letters));
    for (const [i, { id }] of letters.entries())
      if (answers[i] === "deleted") failed.push({ id, problem: "deleted-at-target" });
    const gone = await deleteAdopted(
      move,
      letters.filter((_, i) => answers[i] !== "deleted"),
    );
    const scheduled = gone.filter(isWithdrawn);
    await restore(move.target, scheduled);
    moved.scheduled += scheduled.length;
    moved.deadLetters += gone.length - scheduled.length;
    const [count, kind] =
      state === "dead" ? [moved.deadLetters, "dead letters"] : [moved.scheduled, "scheduled emails"];
    move.showProgress(`Moving ${kind}: ${formatNumber(count)}`);
  }
  return { ...moved, failed };
}

/** The emails of the source in one state, as dead letters, in chunks that fit into memory. */
async function* emailsOf(
  { source, signal }: Move,
  state: "dead" | "scheduled",
): AsyncGenerator<readonly DeadLetter[]> {
  for await (const { emails } of pagesOf(source, state)) {
    let letters: DeadLetter[] = [];
    let chars = 0;
    for (const { id } of emails) {
      if (signal.aborted) return;
      const letter = await readLetter(source, id, state);
      if (letter === undefined) continue;
      letters.push(letter);
      chars += letter.text.length;
      if (chars < charsMax && letter.contents === undefined) continue;
      yield letters;
      [letters, chars] = [[], 0];
    }
    if (letters.length > 0) yield letters;
  }
}

const pagesOf = (side: QueueSession, state: "dead" | "scheduled") =>
  walk((from) => ask(side, (admin) => admin.list(state, lettersMax, from)));

/** @returns nothing if it is no longer in this state */
async function readLetter(
  source: QueueSession,
  id: string,
  state: "dead" | "scheduled",
): Promise<DeadLetter | undefined> {
  const stored = await ask(source, (admin) => admin.show(id));
  if (stored?.state !== state) return undefined;
  const { text = "", submittedAtMs = 0, atMs: diedAtMs = 0, history } = stored;
  const email = ifReadable(() => decodeEmail(text));
  // An email that cannot be decoded is moved unchanged, with any files that it has.
  const mayHaveFiles = email === undefined || email.attachments !== undefined;
  const contents = mayHaveFiles ? await ask(source, (admin) => admin.readFiles(id)) : undefined;
  const letter = {
    id,
    text,
    submittedAtMs,
    diedAtMs,
    history,
    isHidden: email === undefined || isHidden(email),
  };
  return { ...letter, ...(contents && { contents }) };
}

/** Makes scheduled emails dead letters at the source. @returns those that a worker or an operator was not faster with */
async function withdraw({ source }: Move, emails: readonly DeadLetter[]): Promise<readonly DeadLetter[]> {
  const changes = emails.map(({ id, history }) => {
    return { id, seenHistory: history, history: withdrawnHistory(history) };
  });
  const withdrawn = new Set(await ask(source, (admin) => admin.withdraw(changes)));
  return emails.flatMap((email, i) =>
    withdrawn.has(email.id) ? [{ ...email, history: changes[i]!.history }] : [],
  );
}

/** Schedules withdrawn emails again, unless an operator was faster. */
async function restore(
  side: QueueSession,
  letters: readonly Pick<StoredEmail, "id" | "text" | "history">[],
): Promise<void> {
  if (letters.length === 0) return;
  await ask(side, async (admin) => {
    const restored = new Set(await admin.retry(letters.map(restoring), {}));
    for (const { id, history } of letters.filter((one) => !restored.has(one.id))) {
      const left = await admin.show(id);
      if (left?.state === "dead" && left.history === history)
        throw new StoreUnavailable(`${id} was not scheduled again`);
    }
  });
}

/** Schedules withdrawn emails again that are still at the source, once it is open. */
export async function restoreAtSource({ source, signal }: Move): Promise<void> {
  for await (const emails of withdrawnIn(source, signal)) await restore(source, emails);
}

/** Schedules withdrawn emails again that are at the target, but only those that have left the source because of the move. */
export async function restoreAtTarget(move: Move): Promise<void> {
  const { target, signal } = move;
  for await (const emails of withdrawnIn(target, signal))
    await restore(target, await deleteAdopted(move, emails));
}

async function* withdrawnIn(side: QueueSession, signal: AbortSignal): AsyncGenerator<readonly StoredEmail[]> {
  for await (const { emails } of pagesOf(side, "dead")) {
    if (signal.aborted) return;
    const withdrawn = emails.filter(isWithdrawn);
    if (withdrawn.length > 0) yield withdrawn;
  }
}

/** Deletes letters at the source that the target has. @returns those that have left the source */
async function deleteAdopted<Letter extends Pick<StoredEmail, "id" | "history">>(
  { source, target }: Move,
  letters: readonly Letter[],
): Promise<readonly Letter[]> {
  const answers = await deleteMoved(source, letters);
  const gone: Letter[] = [];
  for (const [i, letter] of letters.entries()) {
    const { id, history } = letter;
    const left = answers[i] === "deleted" ? undefined : await ask(source, (admin) => admin.show(id));
    if (left === undefined) gone.push(letter);
    // An operator has deleted it, a late report said that it was sent, or the move was canceled and it was retried here.
    // A later move may bring it to the target again.
    else if (left.state !== "dead" || left.history !== history) await deleteMoved(target, [letter]);
  }
  return gone;
}

/** Deletes letters, as `Admin.delete` does with `isMoved`. */
async function deleteMoved(
  side: QueueSession,
  letters: readonly Pick<StoredEmail, "id" | "history">[],
): Promise<readonly DeleteAnswer[]> {
  if (letters.length === 0) return [];
  const ids = letters.map(({ id }) => id);
  const histories = letters.map(({ history }) => history);
  return ask(side, async (admin) => {
    const all = await admin.delete(ids, histories, true);
    // Only a repetition shows whether the letters are gone because of this move.
    if (all.includes("unreached")) throw new StoreUnavailable("a partition does not answer");
    return all;
  });
}

/**
 * Leaves each dead letter that both queues have, after an interruption, to the target alone. A withdrawn email that an
 * operator has deleted there is deleted at the source too, which would schedule it again.
 */
export async function finishInterrupted(move: Move): Promise<void> {
  const { source, target, signal } = move;
  for await (const { emails } of pagesOf(source, "dead")) {
    if (signal.aborted) return;
    const shown = await Promise.all(emails.map(({ id }) => ask(target, (admin) => admin.show(id))));
    await deleteAdopted(
      move,
      emails.filter((_, i) => shown[i] !== undefined && shown[i].state !== "deleted"),
    );
    const deleted = emails.filter((email, i) => shown[i]?.state === "deleted" && isWithdrawn(email));
    // The target answers "unknown" only if an operator deleted it there, not if it has been moved on.
    const answers = await deleteMoved(target, deleted);
    await deleteMoved(
      source,
      deleted.filter((_, i) => answers[i] === "unknown"),
    );
  }
}
