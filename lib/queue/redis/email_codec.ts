// One email as Redis tells of it: what email() in email_reply.lua wrote.

import { envelopeLine } from "../../email/email.ts";
import type { EmailState, StoredEmail } from "../contract.ts";

type Told = readonly [
  id: string,
  state: string,
  at: string,
  stored: string,
  history: string,
  remains: string,
  batch: string,
  provider: string,
  due: string,
  doubt: string,
  notes: string,
  leased: string,
  lapsed: string,
];

export function readEmail(reply: unknown): StoredEmail {
  const [id, state, at, stored, history, remains, batch, provider, due, doubt, notes, leased, lapsed] =
    reply as Told;
  const isSent = state === "sent";
  const lineEnd = stored.indexOf("\n");
  return {
    id,
    state: state as EmailState,
    text: isSent ? envelopeLine(remains) : stored === "" ? undefined : stored.slice(lineEnd + 1),
    submittedAtMs: stored === "" ? undefined : Number(stored.slice(0, lineEnd)),
    atMs: at === "" ? undefined : Number(at),
    history,
    record: isSent ? remains.slice(remains.indexOf("\n") + 1) : undefined,
    batch:
      batch === ""
        ? undefined
        : {
            id: batch,
            provider,
            dueAtMs: Number(due),
            leased: leased === "1",
            leaseExpired: lapsed === "1",
            doubtSinceMs: doubt === "" ? undefined : Number(doubt),
            notes,
          },
  };
}
