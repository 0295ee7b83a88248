// The load's bodies are read by the service, and its sandbox's files by the harness: every kind of email passes both.

import { expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { findDifferences } from "../../chaos/comparison.ts";
import { emailOf } from "../../chaos/emails.ts";
import { readOutbox } from "../../chaos/outbox.ts";
import { encodeBody, formsFor, type RequestBody } from "../../chaos/request_body.ts";
import { bodyReader, readBody } from "../../lib/http/body/body.ts";
import { checkSubmission } from "../../lib/http/submission.ts";
import { noFaults } from "../../lib/providers/sandbox/faults.ts";
import { createSandbox } from "../../lib/providers/sandbox/sandbox.ts";

const emails = Array.from({ length: 150 }, (_, n) => emailOf(n, { seed: 5 }));
const nowMs = 1_795_800_000_000;

function submitted({ contentType, bytes }: RequestBody) {
  const reader = bodyReader(new Headers({ "content-type": contentType }));
  const fields =
    typeof reader === "string"
      ? reader
      : readBody(reader, typeof bytes === "string" ? Buffer.from(bytes) : bytes);
  if (typeof fields === "string") throw new Error(fields);
  const result = checkSubmission(fields, { defaultFrom: "shop@example.com" }, nowMs);
  if (!result.ok) throw new Error(result.message);
  return result;
}

test("chaos: each form of a body gives the same email and the same fingerprint", () => {
  for (const email of emails) {
    const sendAtMs = email.sendAfterMs && nowMs + email.sendAfterMs;
    const [first, ...others] = formsFor(email).map((form) => submitted(encodeBody(email, form, sendAtMs)));
    expect(first!.files ?? []).toHaveLength(email.files.length);
    for (const other of others) expect(other).toEqual(first!);
  }
});

test("chaos: an email that the sandbox has written is read as it was submitted", async () => {
  const outbox = mkdtempSync(join(tmpdir(), "reliable-email-outbox-"));
  try {
    const sandbox = createSandbox({ outbox, faults: noFaults });
    for (const email of emails) {
      const result = submitted(encodeBody(email, "json"));
      const one = { id: Bun.randomUUIDv7(), email: result.email, files: result.files ?? [] };
      await sandbox.send(
        { batchId: Bun.randomUUIDv7(), context: "", emails: [one] },
        AbortSignal.timeout(60_000),
      );
    }
    const arrivals = await Array.fromAsync(readOutbox(outbox));
    expect(arrivals).toHaveLength(emails.length);
    for (const arrival of arrivals) {
      const n = Number(/^5-(\d+) /.exec(arrival.subject)?.[1]);
      expect([n, findDifferences(emails[n]!, arrival)]).toEqual([n, []]);
    }
  } finally {
    rmSync(outbox, { recursive: true });
  }
}, 60_000);
