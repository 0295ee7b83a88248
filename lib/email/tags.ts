// Tags of an email: Resend's tags, and Postmark's metadata. This service adds ids of its own, to find the email by.

import type { Pair } from "./fields.ts";

/** Most tags of one email: Postmark takes ten pairs of metadata, and two of them are this service's. */
export const tagsMax = 8;

const namePattern = /^[A-Za-z0-9_-]{1,20}$/;
const valuePattern = /^[A-Za-z0-9_-]{1,80}$/;
const reserved = /^(?:email_id|batch_id)$/i;

/** Why a provider or this service refuses a tag; undefined if none does. */
export function tagFault([name, value]: Pair): string | undefined {
  if (!namePattern.test(name)) return "has a name that is not 1 to 20 characters of A-Z a-z 0-9 _ -";
  if (reserved.test(name)) return "is reserved";
  return valuePattern.test(value) ? undefined : "is not 1 to 80 characters of A-Z a-z 0-9 _ -";
}
