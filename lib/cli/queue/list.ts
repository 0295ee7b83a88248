// `queue list`: the emails in one state, from the oldest or from the newest.

import { StoreUnavailable } from "../../queue/contract.ts";
import { type CommandResult, defineCommand, done, flag, wrongUsage } from "../command.ts";
import { cellOf, documentOf, type Field } from "../fields.ts";
import { formatNumber, jsonOf } from "../format.ts";
import { complain, print } from "../output.ts";
import { type Column, Table } from "../table.ts";
import { emailFields, emailViewOf, type ListedState, listedStates, stateMeanings } from "./email_view.ts";
import { jsonFlag, lossText, pagesOf, type QueueSession, withQueue } from "./session.ts";

const limitDefault = "100";

export const listCommand = defineCommand({
  name: "queue list",
  summary: "lists the emails in one state, from the oldest or the newest",
  words: "<state>",
  wordsMax: 1,
  about: `\
Lists emails, from the oldest: what came into the state first or, if it waits, is due first. The states:

${listedStates.map((state) => `  ${state.padEnd(9)} ${stateMeanings[state]}`).join("\n")}`,
  options: {
    limit: {
      type: "string",
      default: limitDefault,
      placeholder: "n",
      help: `how many at most, ${limitDefault} by default`,
    },
    newest: flag("from the newest"),
    json: jsonFlag,
  },
  run({ limit, newest, json }, [word]) {
    const state = listedStates.find((one) => one === word);
    if (state === undefined) {
      const which = word === undefined ? "Which state" : `Unknown state '${word}'`;
      return wrongUsage(`${which}: there are ${listedStates.join(", ")}`);
    }
    if (!/^0*[1-9]\d*$/.test(limit)) return wrongUsage(`--limit ${limit} is not a whole number from 1 on`);
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
async function printArray(
  { admin, config }: QueueSession,
  { state, limit, order }: Wanted,
): Promise<CommandResult> {
  let isOpen = false;
  try {
    for await (const emails of pagesOf(admin, state, limit, order)) {
      const lines = emails.map((email) => jsonOf(documentOf(emailFields(emailViewOf(email)))));
      if (!print(`${isOpen ? "," : "["}\n${lines.join(",\n")}`)) return done;
      isOpen = true;
    }
  } catch (error) {
    // The array is closed nevertheless, but not as if it were complete.
    if (isOpen && error instanceof StoreUnavailable)
      print(`,\n${jsonOf({ error: lossText(error, config) })}]`);
    throw error;
  }
  print(isOpen ? "]" : "[]");
  return done;
}

async function printTable(
  { admin, terminal }: QueueSession,
  { state, limit, order }: Wanted,
): Promise<CommandResult> {
  const { nowMs, states } = await admin.stats();
  const shownColumns = columnsIn[state].map((key) => columnOf(key, nowMs));
  const table = new Table(shownColumns, terminal);
  let shown = 0;
  for await (const emails of pagesOf(admin, state, limit, order)) {
    const rows = emails.map((email) => emailFields(emailViewOf(email)));
    if (!print(table.lines(rows).join("\n"))) return done;
    shown += emails.length;
  }
  if (shown === 0) complain(`No email is ${state} (${stateMeanings[state]})`);
  else if (shown === limit && states[state] > shown)
    complain(`The ${order} ${formatNumber(shown)} of ${formatNumber(states[state])}: --limit shows more`);
  return done;
}

/** The columns that matter in each state. */
const columnsIn: Readonly<Record<ListedState, readonly (keyof typeof columns)[]>> = {
  waiting: ["id", "submitted_at", "attempts_total", "to", "subject", "reason"],
  retrying: ["id", "submitted_at", "due_at", "attempts_total", "to", "reason"],
  sending: ["id", "provider", "next", "to", "subject"],
  "in-doubt": ["id", "in_doubt_since", "provider", "next", "to", "reason"],
  sent: ["id", "sent_at", "provider", "to", "subject"],
  dead: ["id", "died_at", "to", "reason"],
};

/** By the keys of the fields that they show; `next` shows the one of two that an email has. */
const columns = {
  id: { title: "ID" },
  submitted_at: { title: "SUBMITTED", omitted: 3 },
  due_at: { title: "DUE" },
  died_at: { title: "DIED" },
  sent_at: { title: "SENT" },
  in_doubt_since: { title: "IN DOUBT" },
  attempts_total: { title: "ATTEMPTS", align: "right", omitted: 4 },
  provider: { title: "PROVIDER", omitted: 1 },
  next: { title: "NEXT" },
  to: { title: "TO", elastic: true, omitted: 2 },
  subject: { title: "SUBJECT", elastic: true, omitted: 5 },
  reason: { title: "REASON", elastic: true },
} as const satisfies Record<string, Omit<Column<unknown>, "text">>;

function columnOf(key: keyof typeof columns, nowMs: number): Column<readonly Field[]> {
  return {
    ...columns[key],
    text(fields) {
      const cell = (name: string) =>
        cellOf(
          fields.find((field) => field.key === name)!,
          nowMs,
        );
      if (key !== "next") return cell(key);
      const leaseEnd = cell("lease_ends_at");
      return leaseEnd === "" ? `due ${cell("next_try_at")}` : `lease ends ${leaseEnd}`;
    },
  };
}
