// `queue show`: one email, with its content and its attempts.

import { contentNames } from "../../email/email.ts";
import { labelOf } from "../../email/fields.ts";
import type { AttemptEnd } from "../../policy/history.ts";
import type { StoredEmail } from "../../queue/contract.ts";
import { defineCommand, UsageError } from "../command.ts";
import { documentOf, linesOf } from "../fields.ts";
import { formatAge, visibleLines } from "../format.ts";
import { Failure, print, printJson } from "../output.ts";
import { type Column, tableOf } from "../table.ts";
import { paint, type Terminal, terminalOf } from "../terminal.ts";
import { printAttachment } from "./attachment.ts";
import { type EmailFields, emailFields } from "./email_fields.ts";
import { jsonFlag, withQueue } from "./session.ts";

export const showCommand = defineCommand({
  name: "queue show",
  summary: "shows everything that is known about one email",
  words: "<id>",
  about: `\
Shows one email: its state and the reason for it, its recipients, Bcc included, its headers, tags, attachments and content, every attempt with provider, time, outcome and reason, the batch that it is in (whose id is the idempotency key), and when it is due next.

The content of a sent email is not kept; its record is kept for RETAIN.`,
  options: {
    attachment: {
      type: "string",
      placeholder: "n",
      help: "writes only the content of attachment n to stdout, which must not be a terminal: add > FILE",
    },
    json: jsonFlag,
  },
  async run({ attachment, json }, [id]) {
    if (id === undefined) throw new UsageError("Which email?");
    if (attachment !== undefined) checkAttachment(attachment, json);
    return withQueue(async (session) => {
      const { admin, terminal } = session;
      const stored = await admin.show(id);
      if (stored === undefined) throw new Failure(`Unknown id: ${id}`);
      if (attachment !== undefined) return printAttachment(session, stored, Number(attachment));
      if (json) printJson(documentOf(emailFields(stored)));
      else print(textOf(stored, (await admin.stats()).nowMs, terminal));
      return 0;
    });
  },
});

function checkAttachment(attachment: string, json: boolean): void {
  if (json) throw new UsageError("Use either --attachment or --json, not both");
  if (!/^0*[1-9]\d*$/.test(attachment))
    throw new UsageError(`--attachment ${attachment} is not a whole number of at least 1`);
  if (terminalOf(process.env).width !== undefined)
    throw new UsageError("--attachment does not write to a terminal: add > FILE");
}

function textOf(stored: StoredEmail, nowMs: number, terminal: Terminal): string {
  const shown = emailFields(stored);
  const { attempts, unreadable } = shown;
  const part = (title: string, text: string | undefined) =>
    text === undefined ? [] : ["", paint(terminal, title, "bold"), visibleLines(text).trimEnd()];
  // Reasons are not cut here: nothing else shows them whole.
  const table = tableOf(attemptColumns(nowMs), attempts.value, { ...terminal, width: undefined });
  return [
    ...linesOf(shown, nowMs, terminal),
    ...(attempts.value.length === 0 ? [] : ["", ...table]),
    ...contentNames.flatMap((name) => part(labelOf(name) ?? name, shown[name].value)),
    // Only somebody who sees a damaged email can rescue it.
    ...part("As stored", unreadable.value ? stored.text : undefined),
  ].join("\n");
}

const attemptColumns = (nowMs: number): Column<EmailFields["attempts"]["value"][number]>[] => [
  ["AT", ({ at }) => at],
  ["AGO", ({ at }) => formatAge(Date.parse(at), nowMs).replace(" ago", "")],
  ["PROVIDER", ({ provider }) => provider],
  ["OUTCOME", ({ outcome }) => outcomes[outcome] ?? outcome],
  ["REASON", ({ reason }) => reason],
];

/** All outcomes of an attempt, in words. */
export const outcomes: Readonly<Record<AttemptEnd, string>> = {
  accepted: "accepted",
  rejected: "rejected",
  senderRefused: "sender refused",
  accountRefused: "account refused",
  throttled: "throttled",
  unavailable: "unavailable",
  unknown: "unknown",
  keyReused: "key reused",
  lapsed: "lease expired",
  recalled: "found accepted",
  notFound: "not found",
  doubtEnded: "doubt ended",
  split: "batch split",
  handedOver: "handed over",
};
