// A scheduled email on its way to another queue. It is a dead letter meanwhile, so that neither queue can send it while
// both have it.

import { sendAtMsOf } from "../email/email.ts";
import { ifReadable } from "./batch.ts";
import { decodeHistory, encodeMemory, type History, noHistory } from "./history.ts";

/** The reason of such a dead letter, by which it is recognized. */
const withdrawnReason = "scheduled, and on its way to another queue: `queue move` schedules it again";

/** The history of a scheduled email that is withdrawn. */
export function withdrawnHistory(history: string): string {
  return encodeMemory({ ...readHistory(history), deadReason: withdrawnReason });
}

export function isWithdrawn({ history }: { readonly history: string }): boolean {
  return readHistory(history).deadReason === withdrawnReason;
}

/** The request to `Admin.retry` that schedules a withdrawn email again. */
export function restoring({
  id,
  text = "",
  history,
}: {
  id: string;
  text?: string | undefined;
  history: string;
}) {
  const { deadReason: _, ...before } = readHistory(history);
  const sendAtMs = ifReadable(() => sendAtMsOf(text));
  return { id, seenHistory: history, history: encodeMemory(before), sendAtMs };
}

/** If it cannot be read, the email may have been sent. */
function readHistory(stored: string): History {
  return ifReadable(() => decodeHistory(stored)) ?? { ...noHistory, doubted: true };
}
