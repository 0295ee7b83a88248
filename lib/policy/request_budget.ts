// What a request takes: bytes, memory and time, as far as they depend on the emails in it.

import type { Email } from "../email/email.ts";

/** Most bytes of a request with several emails that have files. One alone may be as large as the provider takes it. */
export const sharedBytesMax = 10_000_000;
/** Bytes of a request for which it gets one more second. */
const bytesPerSecond = 256 * 1024;
/** Time reserved for the settlement, between the request and the end of the lease, ms. */
const settleMarginMs = 1000;

/** Bytes of an email's files as they are stored. */
export function fileBytes({ attachments = [] }: Email): number {
  return attachments.reduce((sum, { size }) => sum + size, 0);
}

/** Bytes of an email's files in a request, in base64. */
export function encodedFileBytes({ attachments = [] }: Email): number {
  return attachments.reduce((sum, { size }) => sum + 4 * Math.ceil(size / 3), 0);
}

/**
 * Longest that a request of these bytes may take, and what is needed of its lease when it begins, ms. A lease grows with
 * the files as they are stored, which are a third longer in base64: a short one may not cover that, and limits the
 * request.
 */
export function requestTimes(
  bytes: number,
  { providerTimeoutMs, leaseMs }: { readonly providerTimeoutMs: number; readonly leaseMs: number },
): { readonly timeoutMs: number; readonly needMs: number } {
  const marginMs = Math.min(settleMarginMs, leaseMs / 4);
  const wantedMs = providerTimeoutMs + 1000 * Math.floor(bytes / bytesPerSecond);
  const timeoutMs = Math.floor(Math.min(wantedMs, 0.9 * leaseMs - marginMs));
  return { timeoutMs, needMs: timeoutMs + marginMs };
}
