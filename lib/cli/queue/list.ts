// `queue list`: the emails in one state, the oldest or the newest first.

import { type StoredEmail, StoreUnavailable } from "../../queue/contract.ts";
import { defineCommand, type ExitCode, flag, UsageError } from "../command.ts";
import { cellOf, documentOf, type DisplayField, titleOf } from "../fields.ts";
import { formatNumber, jsonOf } from "../format.ts";
import { complain, print } from "../output.ts";
import { type Column, Table } from "../table.ts";
import {
  type ListedFields,
  listedFields,
  type ListedState,
  listedStates,
  stateMeanings,
} from "./email_fields.ts";
import { jsonFlag, lossText, pagesOf, type QueueSession, withQueue } from "./session.ts";

const limitDefault = "100";

export const listCommand = defineCommand({
  name: "queue list",
  summary: "lists the emails in one state, the oldest or the newest first",
  words: "<state>",
  about: `\
Lists the emails in one state, the oldest first: the one that entered the state first or, for scheduled, waiting and retrying emails, the one that is due first. The states:

${listedStates.map((state) => `  ${state.padEnd(9)} ${stateMeanings[state]}`).join("\n")}`,
  options: {
    limit: {
      type: "string",
      default: limitDefault,
      placeholder: "n",
      help: `at most this many, ${limitDefault} by default`,
    },
    newest: flag("the newest first"),
    json: jsonFlag,
  },
  async run({ limit, newest, json }, [word]) {
    const state = listedStates.find((one) => one === word);
    if (state === undefined) {
      const what = word === undefined ? "Which state? The" : `Unknown state '${word}': the`;
      throw new UsageError(`${what} states are ${listedStates.join(", ")}`);
    }
    if (!/^0*[1-9]\d*$/.test(limit))
      throw new UsageError(`--limit ${limit} is not a whole number of at least 1`);
    const wanted: Wanted = { state, limit: Number(limit), order: newest ? "newest" : "oldest" };
    return withQueue((session) => (json ? printArray(session, wanted) : printTable(session, wanted)));
  },
});

interface Wanted {
  readonly state: ListedState;
  readonly limit: number;
  readonly order: "newest" | "oldest";
}

/** One line for each email: it is printed while the list is read, and can be searched by line. */
async function printArray(session: QueueSession, wanted: Wanted): Promise<ExitCode> {
  let isOpen = false;
  const add = (documents: readonly object[]) => {
    const text = `${isOpen ? "," : "["}\n${documents.map(jsonOf).join(",\n")}`;
    isOpen = true;
    return print(text);
  };
  try {
    for await (const emails of pagesOf(session, wanted.state, wanted.limit, wanted.order))
      if (!add(emails.map((email) => documentOf(listedFields(email))))) return 0;
  } catch (error) {
    // The array is closed nevertheless, but not as if it were complete.
    if (isOpen && error instanceof StoreUnavailable && add([{ error: lossText(error, session.config) }]))
      print("]");
    throw error;
  }
  const { lines } = session.unreached;
  if (lines.length > 0) add(lines.map((error) => ({ error })));
  print(isOpen ? "]" : "[]");
  return 0;
}

async function printTable(session: QueueSession, wanted: Wanted): Promise<ExitCode> {
  const { admin, terminal } = session;
  const { state, limit, order } = wanted;
  const { nowMs, states } = await admin.stats();
  const columns = columnKeys[state].map((key): Column<Row> => {
    return [titleOf(key), (row) => cellOf(row[key], nowMs)];
  });
  const table = new Table(columns, terminal);
  let shown = 0;
  for await (const emails of pagesOf(session, state, limit, order)) {
    const lines = table.lines(emails.map((email) => rowOf(email, nowMs)));
    if (!print(lines.join("\n"))) return 0;
    shown += emails.length;
  }
  if (shown === 0) complain(`No email is ${state} (${stateMeanings[state]})`);
  else if (shown === limit && states[state] > shown)
    complain(`The ${order} ${formatNumber(shown)} of ${formatNumber(states[state])}: --limit shows more`);
  return 0;
}

type Row = ListedFields & { readonly next: DisplayField };

/** The fields that matter in each state, the most important first. `next` is the one of two times of an email in a batch. */
const columnKeys: Readonly<Record<ListedState, readonly (keyof Row)[]>> = {
  scheduled: ["id", "due_at", "submitted_at", "to", "subject"],
  waiting: ["id", "submitted_at", "attempts_total", "to", "subject", "reason"],
  retrying: ["id", "due_at", "attempts_total", "reason", "to", "submitted_at"],
  sending: ["id", "next", "provider", "to", "subject"],
  "in-doubt": ["id", "in_doubt_since", "next", "reason", "provider", "to"],
  sent: ["id", "sent_at", "to", "provider", "subject"],
  dead: ["id", "died_at", "reason", "to"],
};

function rowOf(stored: StoredEmail, nowMs: number): Row {
  const fields = listedFields(stored);
  const [leaseEnd, nextTry] = [cellOf(fields.lease_ends_at, nowMs), cellOf(fields.next_try_at, nowMs)];
  return { ...fields, next: { value: leaseEnd === "" ? `due ${nextTry}` : `lease ends ${leaseEnd}` } };
}
