// Emails in one state, page by page, however many they are.

import type { ListedEmail, Admin } from "../../queue/contract.ts";
import type { ListedState } from "./states.ts";

/** The most that one call may ask for. */
export const pageMax = 1000;

/** Which come first. */
export type Order = "oldest" | "newest";

/** Pages, none of them empty, of `limit` emails in all at most. */
export async function* pagesOf(
  admin: Admin,
  state: ListedState,
  limit = Number.POSITIVE_INFINITY,
  order: Order = "oldest",
): AsyncGenerator<readonly ListedEmail[]> {
  let left = limit;
  for (let from: string | undefined; left > 0;) {
    const { emails, next } = await admin.list(state, Math.min(left, pageMax), from, order);
    left -= emails.length;
    if (emails.length > 0) yield emails;
    if (next === undefined) return;
    from = next;
  }
}
