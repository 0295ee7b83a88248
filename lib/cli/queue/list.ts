// `queue list`: the emails in one state, from the oldest or from the newest.

import type { CommandResult, SingleCommand } from "../command.ts";
import { readArguments } from "../command.ts";
import { withoutSecrets } from "../../runtime/log.ts";
import { StoreUnavailable } from "../../queue/contract.ts";
import { complain, failureOf, jsonOf, print } from "../output.ts";
import { type Column, openTable } from "../table.ts";
import { ageOf, numberOf } from "../format.ts";
import { type Order, pagesOf } from "./pages.ts";
import { done, type QueueSession, withQueue } from "./open_queue.ts";
import { type ListedState, listedStates, meanings } from "./states.ts";
import { emailJson, type EmailView, emailViewOf } from "./email_view.ts";

const limitDefault = 100;

export const listCommand: SingleCommand = {
  name: "queue list",
  summary: "emails in one state, from the oldest or from the newest",
  help: [
    "Usage: reliable-email queue list <state> [--limit n] [--newest] [--json]",
    "",
    "Lists emails, from the oldest: what came into the state or, if it waits, is due",
    "first. The states:",
    "",
    ...listedStates.map((state) => `  ${state.padEnd(9)} ${meanings[state]}`),
    "",
    "Options:",
    `  --limit n  how many at most, ${limitDefault} by default`,
    "  --newest   from the newest",
    "  --json     one array, of what `queue show --json` gives but for the content.",
    "             If the store is lost half-way, it ends with an object with `error`",
  ].join("\n"),
  async run(args) {
    const read = readArguments(args, {
      limit: { type: "string", default: String(limitDefault) },
      newest: { type: "boolean", default: false },
      json: { type: "boolean", default: false },
    });
    if (!read.ok) return { kind: "wrongUsage", usageError: read.usageError };
    const { options, words } = read.values;
    const [word, stray] = words;
    if (stray !== undefined) return { kind: "wrongUsage", usageError: `Unexpected argument '${stray}'` };
    const state = listedStates.find((one) => one === word);
    if (state === undefined) {
      const which = word === undefined ? "Which state" : `Unknown state '${word}'`;
      return { kind: "wrongUsage", usageError: `${which}: there are ${listedStates.join(", ")}` };
    }
    if (!/^0*[1-9]\d*$/.test(options.limit)) {
      return { kind: "wrongUsage", usageError: `--limit ${options.limit} is not a whole number from 1 on` };
    }
    const wanted: Wanted = {
      state,
      limit: Number(options.limit),
      order: options.newest ? "newest" : "oldest",
    };
    return withQueue((session) => (options.json ? printArray(session, wanted) : printTable(session, wanted)));
  },
};

interface Wanted {
  readonly state: ListedState;
  readonly limit: number;
  readonly order: Order;
}

/** A line an email, so that it is written as it is read, and can be looked through by line. */
async function printArray(
  { admin, config }: QueueSession,
  { state, limit, order }: Wanted,
): Promise<CommandResult> {
  let open = false;
  try {
    for await (const emails of pagesOf(admin, state, limit, order)) {
      const lines = emails.map((email) => jsonOf(emailJson(emailViewOf(email)))).join(",\n");
      if (!print(`${open ? "," : "["}\n${lines}`)) return done;
      open = true;
    }
  } catch (error) {
    if (open && error instanceof StoreUnavailable) {
      // Closed all the same, and not as if it were whole.
      const reason = withoutSecrets(error.message, config.secrets);
      print(`,\n${jsonOf(failureOf(`The queue does not answer: ${reason}`))}]`);
    }
    throw error;
  }
  print(open ? "]" : "[]");
  return done;
}

async function printTable(
  { admin, terminal }: QueueSession,
  { state, limit, order }: Wanted,
): Promise<CommandResult> {
  const { nowMs, states } = await admin.stats();
  const table = openTable(columnsOf(state, nowMs), terminal);
  let shown = 0;
  for await (const emails of pagesOf(admin, state, limit, order)) {
    if (!print(table.lines(emails.map(emailViewOf)).join("\n"))) return done;
    shown += emails.length;
  }
  if (shown === 0) complain(`None is ${state} (${meanings[state]})`);
  else if (shown === limit && states[state] > shown) {
    complain(`The ${order} ${numberOf(shown)} of ${numberOf(states[state])}: --limit shows more`);
  }
  return done;
}

/** What matters in this state. */
function columnsOf(state: ListedState, nowMs: number): readonly Column<EmailView>[] {
  const id: Column<EmailView> = { title: "ID", text: ({ stored }) => stored.id };
  const age = (title: string, of: (view: EmailView) => number | undefined): Column<EmailView> => ({
    title,
    text(view) {
      const atMs = of(view);
      return atMs === undefined ? "" : ageOf(atMs, nowMs);
    },
  });
  const submitted = { ...age("SUBMITTED", ({ stored }) => stored.submittedAtMs), omitted: 3 };
  const tries: Column<EmailView> = {
    title: "ATTEMPTS",
    text: ({ attempts }) => numberOf(attempts.total),
    align: "right",
    omitted: 4,
  };
  const provider: Column<EmailView> = {
    title: "PROVIDER",
    text: ({ record, stored }) => record?.provider ?? stored.batch?.provider ?? "",
    omitted: 1,
  };
  const to: Column<EmailView> = {
    title: "TO",
    text: ({ email }) => email.to ?? "",
    elastic: true,
    omitted: 2,
  };
  const subject: Column<EmailView> = {
    title: "SUBJECT",
    text: ({ email }) => email.subject ?? "",
    elastic: true,
    omitted: 5,
  };
  const reason: Column<EmailView> = { title: "REASON", text: (view) => view.reason ?? "", elastic: true };
  const atMs = ({ stored }: EmailView) => stored.atMs;
  const next: Column<EmailView> = {
    title: "NEXT",
    text({ stored: { batch } }) {
      if (batch === undefined) return "";
      return `${batch.leased ? "lease ends" : "due"} ${ageOf(batch.dueAtMs, nowMs)}`;
    },
  };
  switch (state) {
    case "waiting":
      return [id, submitted, tries, to, subject, reason];
    case "retrying":
      return [id, submitted, age("DUE", atMs), tries, to, reason];
    case "sending":
      return [id, submitted, provider, next, to, subject];
    case "in-doubt":
      return [id, age("IN DOUBT", ({ doubtSinceMs }) => doubtSinceMs), provider, next, to, reason];
    case "sent":
      return [id, age("SENT", ({ record }) => record?.atMs), provider, to, subject];
    case "dead":
      return [id, age("DIED", atMs), to, reason];
  }
}
