// The bytes and the time that a request needs, from the emails in it.

import type { Email } from "../email/email.ts";

/** Most bytes of a request with several emails of which some have files. A single email may be as large as is accepted. */
export const sharedBytesMax = 10_000_000;
/** The timeout of a request grows by a second per this many bytes. */
const bytesPerSecond = 256 * 1024;
/** Time reserved for the settlement, between the request and the end of the lease, ms. */
const settleMarginMs = 1000;

/** Bytes of an email's files as they are stored. */
export function fileBytes({ attachments = [] }: Email): number {
  return attachments.reduce((sum, { size }) => sum + size, 0);
}

/**
 * The timeout of a request with this many bytes, and how much of the lease must be left when it begins, ms. The lease
 * grows with the stored files, which are a third longer in base64. If it is too short for that, it limits the timeout.
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
