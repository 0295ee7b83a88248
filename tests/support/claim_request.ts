// The request of a claim for Resend by a new claimant. A test states only the details that it cares about.

import type { ClaimRequest } from "../../lib/queue/contract.ts";

/** Any source, for a minute, and as many emails as fit. */
export function claimRequest(over: Partial<ClaimRequest> = {}): ClaimRequest {
  return {
    claimId: Bun.randomUUIDv7(),
    claimant: Bun.randomUUIDv7(),
    number: 1,
    provider: "resend",
    credential: "c",
    sources: ["batches", "split", "emails"],
    shared: true,
    countMax: 100,
    bytesMax: 4 * 1024 * 1024,
    leaseMs: 60_000,
    doubtMs: 23 * 60 * 60 * 1000,
    context: "",
    dueCountMax: 0,
    ...over,
  };
}
