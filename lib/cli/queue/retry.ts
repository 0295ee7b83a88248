// `queue retry`: returns dead letters to waiting and, with --force, also emails that may have been sent.

import { sendAtMsOf } from "../../email/email.ts";
import { ifReadable } from "../../policy/batch.ts";
import { decideRetry, endDoubtNow, type OperatorRetry, retryCounts } from "../../policy/operator_retry.ts";
import { PartitionUnreached, type RetriedLetter, type StoredEmail } from "../../queue/contract.ts";
import { defineCommand, flag, UsageError } from "../command.ts";
import { formatCount } from "../format.ts";
import { Failure } from "../output.ts";
import { changeEmails, chunksOf, type FailedEmail, type Problem, problems } from "./bulk.ts";
import { emailFields } from "./email_fields.ts";
import { deadPages, jsonFlag, type QueueSession, stateOf, withQueue } from "./session.ts";

export const retryCommand = defineCommand({
  name: "queue retry",
  summary: "sends dead letters back to waiting",
  words: "<id>...|--all",
  about: `\
Sends dead letters again, with a new key. Their attempts are kept, and GIVE_UP_AFTER starts over. Servers and workers can keep running. The command can be interrupted and repeated: --all takes the letters that are dead when it starts.

Dead letters that may have been sent are retried only with --force. The output then names them, since they may arrive twice.

An email in doubt is retried only by its id and with --force. That ends the doubt of its whole batch, which was one request: all emails of the batch go back to waiting, and may arrive twice. The command is refused while a worker has the batch.`,
  options: {
    all: flag("all dead letters, but no emails in doubt"),
    reason: {
      type: "string",
      placeholder: "text",
      help: "only those whose reason, as `queue stats` shows it, contains this text",
    },
    force: flag("also emails that may have been sent"),
    json: jsonFlag,
  },
  async run({ json, ...wanted }, ids) {
    const { all, reason } = wanted;
    if (all && ids.length > 0) throw new UsageError("Use either --all or ids, not both");
    if (!all && ids.length === 0) throw new UsageError("Which emails? Give their ids, or --all");
    // Every reason contains the empty text. Probably a shell variable was not set.
    if (reason === "") throw new UsageError("--reason is empty");
    return withQueue(async (session) => {
      const { admin, location } = session;
      const { nowMs, states, moving } = await admin.stats();
      if (all && moving) throw new Failure(`Dead letters ${problems.moving} (queue in ${location})`);
      const outcome: Outcome = { retried: new Set(), possibleDuplicates: [], problems: [] };
      let seen = 0;
      const work = {
        label: "Retrying",
        total: all ? states.dead : ids.length,
        chunks: all ? deadPages(session, nowMs) : chunksOf(ids),
        async change(emails: readonly Target[]) {
          await retryChunk(emails, { ...wanted, beganAtMs: nowMs, moving }, session, outcome);
          return (seen += emails.length);
        },
        report: () => reportOn(outcome, all, location),
      };
      return changeEmails<readonly Target[]>(work, session, json);
    });
  },
});

/** An email with its stored state, or only the id that the operator named. */
type Target = StoredEmail | { readonly id: string };

interface Wanted {
  /** All dead letters are wanted, instead of emails that the operator named. */
  readonly all: boolean;
  readonly reason?: string;
  readonly force: boolean;
  /** The store's time, Unix ms. */
  readonly beganAtMs: number;
  /** The queue is being moved. */
  readonly moving: boolean;
}

interface Outcome {
  readonly retried: Set<string>;
  /** Ids of retried emails that a provider may have accepted before. */
  readonly possibleDuplicates: string[];
  /** Named emails that could not be retried or, with --all, dead letters that need --force or were not reached. */
  readonly problems: FailedEmail[];
}

function reportOn(
  { retried, possibleDuplicates: duplicates, problems }: Outcome,
  all: boolean,
  location: string,
) {
  const isHeldBack = ({ problem }: FailedEmail) => all && problem === "outcome-unknown";
  const heldBack = problems.filter(isHeldBack).map(({ id }) => id);
  const failed = problems.filter((one) => !isHeldBack(one));
  const lines = [`${formatCount(retried.size, "email")} back to waiting (queue in ${location})`];
  if (duplicates.length > 0) {
    lines.push(`${formatCount(duplicates.length, "possible duplicate")} among them:`);
    lines.push(...duplicates.map((id) => `  ${id}`));
  }
  if (heldBack.length > 0) {
    lines.push(`${formatCount(heldBack.length, "dead letter")} may have been sent: --force retries them too`);
  }
  const document = { retried: [...retried], possible_duplicates: duplicates, held_back: heldBack, failed };
  return { document, text: lines.join("\n"), failed };
}

type Access = Pick<QueueSession, "admin">;

type Request = OperatorRetry & RetriedLetter;

/** Retries one email for the web client. Returns what keeps it from being retried, if anything does. */
export async function retryOne(id: string, force: boolean, session: Access): Promise<Problem | undefined> {
  const { nowMs, moving } = await session.admin.stats();
  const outcome: Outcome = { retried: new Set(), possibleDuplicates: [], problems: [] };
  await retryChunk([{ id }], { all: false, force, beganAtMs: nowMs, moving }, session, outcome);
  return outcome.problems[0]?.problem;
}

async function retryChunk(
  emails: readonly Target[],
  wanted: Wanted,
  session: Access,
  outcome: Outcome,
): Promise<void> {
  const { admin } = session;
  const { retried, possibleDuplicates, problems } = outcome;
  const requests: Request[] = [];
  for (const email of emails) {
    // Already retried, with another email of its batch.
    if (retried.has(email.id)) continue;
    const request = await prepareTarget(email, wanted, session, outcome);
    if (typeof request === "object") requests.push(request);
    else if (request !== undefined && (!wanted.all || request === "outcome-unknown"))
      problems.push({ id: email.id, problem: request });
  }
  // Possible duplicates have counters of their own, so they need a second call.
  for (const mayBeDuplicate of [false, true]) {
    const alike = requests.filter((request) => request.mayBeDuplicate === mayBeDuplicate);
    const ids = alike.length === 0 ? [] : await admin.retry(alike, retryCounts(mayBeDuplicate));
    for (const id of ids) retried.add(id);
    if (mayBeDuplicate) possibleDuplicates.push(...ids);
  }
  for (const { id } of requests) {
    if (retried.has(id)) continue;
    const state = await stateOf(admin, id);
    if (!wanted.all || state === "unreached")
      problems.push({ id, problem: state === "dead" ? "changed" : state });
  }
}

async function prepareTarget(
  email: Target,
  wanted: Wanted,
  session: Access,
  outcome: Outcome,
): Promise<Request | Problem | undefined> {
  try {
    const stored = "state" in email ? email : await session.admin.show(email.id);
    return stored === undefined ? "unknown" : await prepare(stored, wanted, session, outcome);
  } catch (error) {
    if (error instanceof PartitionUnreached) return "unreached";
    throw error;
  }
}

/** The request to the store, what keeps the email from being retried, or undefined if it has just been retried. */
async function prepare(
  stored: StoredEmail,
  { reason, force, beganAtMs, moving }: Wanted,
  session: Access,
  outcome: Outcome,
): Promise<Request | Problem | undefined> {
  const { id, state, text = "", history: seenHistory } = stored;
  const isWanted = reason === undefined || emailFields(stored).reason.value?.includes(reason) === true;
  if (state === "in-doubt" && force && isWanted) return endDoubt(stored, beganAtMs, session, outcome);
  if (state !== "dead") return state;
  if (!isWanted) return "other-reason";
  if (moving) return "moving";
  const sendAtMs = ifReadable(() => sendAtMsOf(text));
  const request = { id, seenHistory, sendAtMs, ...decideRetry(seenHistory, beganAtMs) };
  return request.mayBeDuplicate && !force ? "outcome-unknown" : request;
}

/** Ends the doubt of the batch that holds this email: all its emails go back to waiting. */
async function endDoubt(
  { id, batch }: StoredEmail,
  nowMs: number,
  { admin }: Access,
  outcome: Outcome,
): Promise<Problem | undefined> {
  if (batch === undefined || batch.leased) return "busy";
  const shown = await Promise.all((batch.emailIds ?? []).map((one) => admin.show(one)));
  // An email that was meanwhile accepted in another request is shown as sent, and ends as sent.
  const emails = shown.flatMap((one) =>
    one === undefined ? [] : [{ ...one, marked: one.state === "sent" }],
  );
  const { settlement, possibleDuplicates } = endDoubtNow({ ...batch, emails }, nowMs);
  if (!(await admin.release(batch, settlement))) return "changed";
  for (const one of possibleDuplicates) outcome.retried.add(one);
  outcome.possibleDuplicates.push(...possibleDuplicates);
  return possibleDuplicates.includes(id) ? undefined : "sent";
}
