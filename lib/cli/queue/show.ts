// `queue show`: one email, with its content and its attempts.

import type { Attempt, AttemptEnd } from "../../policy/attempts.ts";
import { defineCommand, done, failed, wrongUsage } from "../command.ts";
import { documentOf, linesOf } from "../fields.ts";
import { formatAge, formatTime, visible, visibleLines } from "../format.ts";
import { complain, print, printJson } from "../output.ts";
import { type Column, tableOf } from "../table.ts";
import { paint, type Terminal } from "../terminal.ts";
import { emailFields, type EmailView, emailViewOf } from "./email_view.ts";
import { jsonFlag, withQueue } from "./session.ts";

export const showCommand = defineCommand({
  name: "queue show",
  summary: "shows all that is known about one email",
  words: "<id>",
  wordsMax: 1,
  about: `\
Shows one email: its state and its reason, its addresses and its content, every attempt with provider, time, outcome and reason, the batch that it is in (whose id is the idempotency key), and when something happens next.

The content of a sent email is not kept, and its record only for RETAIN.`,
  options: { json: jsonFlag },
  run({ json }, [id]) {
    if (id === undefined) return wrongUsage("Which email?");
    return withQueue(async ({ admin, terminal }) => {
      const stored = await admin.show(id);
      if (stored === undefined) {
        complain(`Unknown id: ${visible(id)}`);
        return failed;
      }
      const view = emailViewOf(stored);
      if (json) printJson(documentOf(emailFields(view)));
      else print(textOf(view, (await admin.stats()).nowMs, terminal));
      return done;
    });
  },
});

function textOf(view: EmailView, nowMs: number, terminal: Terminal): string {
  const { email, stored, attempts, isDamaged } = view;
  const part = (title: string, text: string | undefined) =>
    text === undefined ? [] : ["", paint(terminal, title, "bold"), visibleLines(text).trimEnd()];
  // Reasons are not cut here: nothing else shows them whole.
  const table = tableOf(attemptColumns(nowMs), attempts.kept, { ...terminal, width: undefined });
  return [
    ...linesOf(emailFields(view), nowMs, terminal),
    ...(attempts.kept.length === 0 ? [] : ["", ...table]),
    ...part("Body", email.body),
    ...part("HTML", email.html),
    // Only somebody who sees a damaged email can rescue it.
    ...part("As stored", isDamaged ? stored.text : undefined),
  ].join("\n");
}

function attemptColumns(nowMs: number): readonly Column<Attempt>[] {
  return [
    { title: "AT", text: ({ atMs }) => formatTime(atMs) },
    { title: "AGO", text: ({ atMs }) => formatAge(atMs, nowMs).replace(" ago", ""), align: "right" },
    { title: "PROVIDER", text: ({ provider }) => provider },
    { title: "OUTCOME", text: ({ outcome }) => outcomes[outcome] ?? outcome },
    { title: "REASON", text: ({ reason }) => reason ?? "" },
  ];
}

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
