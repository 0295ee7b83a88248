// The steps of a move from one queue to another: keys, then dead letters, then the wait for the rest. Each can be
// interrupted at any point, and repeated.

import { decodeEmail, isHidden } from "../../email/email.ts";
import { ifReadable } from "../../policy/batch.ts";
import {
  type Admin,
  type DeadLetter,
  idempotencyMs,
  type PartialAnswer,
  type StoredEmail,
  StoreUnavailable,
} from "../../queue/contract.ts";
import { formatNumber } from "../format.ts";
import { Failure } from "../output.ts";
import type { FailedEmail } from "./bulk.ts";
import { lossText, pageMax, type QueueSession, walk } from "./session.ts";

/** How long a store may be lost before the command ends, and between two tries, ms. */
const patienceMs = 30_000;
const againMs = 250;
/** Tolerance for the difference between the store's clock and the monotonic one of this process, ms. */
const clockMarginMs = 60_000;
/**
 * Most dead letters, and most of their text in UTF-16 units, that are read before they are written. At least one letter is
 * read, and none after one with files.
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

export interface CopiedKeys {
  readonly copied: number;
  /** Uses of keys that the target did not know. */
  readonly added: number;
  /** Uses that were left out, because the target knows the key for another email. */
  readonly conflicts: number;
}

/**
 * Copies idempotency keys. If the source goes on accepting new ones, {@link copyRecentKeys} has little left to do.
 * @param sinceMs only those that were used for an email after this time, by `performance.now()`
 */
export async function copyKeys(
  { source, target, signal, showProgress }: Move,
  sinceMs = -Infinity,
): Promise<CopiedKeys> {
  const sum = { copied: 0, added: 0, conflicts: 0 };
  const lifeMinMs = () => idempotencyMs - (performance.now() - sinceMs) - clockMarginMs;
  const pages = walk((from) => ask(source, (admin) => admin.listKeys(pageMax, from, lifeMinMs())));
  for await (const { keys } of pages) {
    if (signal.aborted) break;
    const { added, conflicts } = await ask(target, (admin) => admin.rememberKeys(keys));
    sum.copied += keys.length;
    sum.added += added;
    sum.conflicts += conflicts;
    showProgress(`Copying idempotency keys: ${formatNumber(sum.copied)}`);
  }
  return sum;
}

/**
 * Copies the keys that were used since a first copy began, once the source accepts no new ones.
 * @param nowMs the clock of the source at that time
 * @param monotonicMs that time by `performance.now()`
 */
export async function copyRecentKeys(move: Move, nowMs: number, monotonicMs: number): Promise<CopiedKeys> {
  const stats = await ask(move.source, (admin) => admin.stats());
  const steppedByMs = stats.nowMs - nowMs - (performance.now() - monotonicMs);
  // Keys are found by their expiry, which is wrong while the clock is.
  const isSteady = stats.clockStep === undefined && Math.abs(steppedByMs) < clockMarginMs / 2;
  return isSteady ? copyKeys(move, monotonicMs) : copyClosedKeys(move);
}

/** Copies the keys of a source that accepts no new ones. If a step of its clock may have hidden some, several times. */
export async function copyClosedKeys(move: Move): Promise<CopiedKeys> {
  let added = 0;
  for (;;) {
    const pass = await copyKeys(move);
    added += pass.added;
    const { clockStep } = await ask(move.source, (admin) => admin.stats());
    if (pass.added === 0 || clockStep === undefined || move.signal.aborted) return { ...pass, added };
  }
}

export interface MovedLetters {
  readonly moved: number;
  readonly failed: readonly FailedEmail[];
}

/**
 * Moves the dead letters of a queue that is being moved: nobody can retry them there. They are durable at the target
 * before they are deleted at the source.
 */
export async function moveDeadLetters(move: Move): Promise<MovedLetters> {
  let moved = 0;
  const failed: FailedEmail[] = [];
  for await (const letters of deadLettersOf(move)) {
    const answers = await ask(move.target, (admin) => admin.adopt(letters));
    for (const [i, { id }] of letters.entries())
      if (answers[i] === "deleted") failed.push({ id, problem: "deleted-at-target" });
    const adopted = letters.filter((_, i) => answers[i] !== "deleted");
    moved += await deleteAdopted(move, adopted);
    move.showProgress(`Moving dead letters: ${formatNumber(moved)}`);
  }
  return { moved, failed };
}

/** The dead letters of the source, in chunks that fit into memory. */
async function* deadLettersOf({ source, signal }: Move): AsyncGenerator<readonly DeadLetter[]> {
  for await (const { emails } of deadPagesOf(source)) {
    let letters: DeadLetter[] = [];
    let chars = 0;
    for (const { id } of emails) {
      if (signal.aborted) return;
      const letter = await readLetter(source, id);
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

const deadPagesOf = (source: QueueSession) =>
  walk((from) => ask(source, (admin) => admin.list("dead", lettersMax, from)));

/** @returns nothing if it is no longer dead */
async function readLetter(source: QueueSession, id: string): Promise<DeadLetter | undefined> {
  const stored = await ask(source, (admin) => admin.show(id));
  if (stored?.state !== "dead") return undefined;
  const { text = "", submittedAtMs = 0, atMs: diedAtMs = 0, history } = stored;
  const email = ifReadable(() => decodeEmail(text));
  // A letter that cannot be decoded is moved unchanged, with any files that it has.
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

/** Deletes letters at the source that the target has. @returns how many have left the source */
async function deleteAdopted(
  { source, target }: Move,
  letters: readonly Pick<StoredEmail, "id" | "history">[],
): Promise<number> {
  const ids = letters.map(({ id }) => id);
  const histories = letters.map(({ history }) => history);
  const answers = await ask(source, (admin) => admin.delete(ids, histories, true));
  let gone = 0;
  for (const [i, { id, history }] of letters.entries()) {
    const left = answers[i] === "deleted" ? undefined : await ask(source, (admin) => admin.show(id));
    // After a lost answer, the repeated deletion finds nothing to delete.
    if (left === undefined || left.state === "deleted") gone += 1;
    // A late report said that it was sent, or the move was canceled and it was retried here.
    else if (left.state !== "dead" || left.history !== history)
      await ask(target, (admin) => admin.delete([id], [history]));
  }
  return gone;
}

/** Leaves each dead letter that both queues have, after an interruption, to the target alone. */
export async function finishInterrupted(move: Move): Promise<void> {
  for await (const { emails } of deadPagesOf(move.source)) {
    if (move.signal.aborted) return;
    const shown = await Promise.all(emails.map(({ id }) => ask(move.target, (admin) => admin.show(id))));
    const isThere = (i: number) => shown[i] !== undefined && shown[i].state !== "deleted";
    await deleteAdopted(
      move,
      emails.filter((_, i) => isThere(i)),
    );
  }
}
