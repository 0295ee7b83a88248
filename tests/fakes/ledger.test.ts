import { expect, test } from "bun:test";
import { createLedger } from "../../fakes/ledger.ts";

const acceptance = {
  provider: "resend",
  messageId: "m1",
  atMs: 1,
  request: 1,
  batch: "b1",
  emailId: "e1",
  from: "shop@example.com",
  to: "a@example.org",
  cc: undefined,
  subject: "s",
  text: "t",
  html: "h",
  attachments: [{ name: "a.txt", type: "text/plain", bytes: 1, sha256: "00" }],
  labels: {},
} as const;
const { cc: _, ...present } = acceptance;

test("ledger: an acceptance is kept without the fields that have no value", () => {
  const ledger = createLedger("all");
  expect(ledger.accept(acceptance)).toStrictEqual(present);
  expect(ledger.acceptances).toStrictEqual([present]);
});

test("ledger: an envelope has every field but the bodies, which are only passed on", () => {
  const seen: unknown[] = [];
  const ledger = createLedger("envelopes", (one) => seen.push(one));
  const { text: __, html: ___, ...envelope } = present;
  expect(ledger.accept(acceptance)).toStrictEqual(envelope);
  expect(ledger.acceptances).toStrictEqual([envelope]);
  expect(seen).toEqual([acceptance]);
});
