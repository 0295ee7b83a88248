import { afterAll, afterEach, beforeEach, describe, expect, test } from "bun:test";
import fc from "fast-check";
import { answerInstead } from "../../fakes/faults.ts";
import type { Outgoing } from "../../lib/providers/provider.ts";
import { classOf, outgoing, patienceMs, send, startPostmark, wholeOf } from "./adapters.ts";

const { fake, provider } = startPostmark();
afterAll(() => fake.stop());
beforeEach(() => fake.clear());

/** Codes with the same meaning for a request and for one of its emails. */
const codes: [code: number, message: string, expected: string][] = [
  [10, "The Server Token was invalid.", "accountRefused"],
  [11, "Multiple errors occurred.", "rejected, stable"],
  [14, "This endpoint requires approval.", "accountRefused"],
  [300, "Invalid email request.", "rejected, stable"],
  [300, "a@b.c is not a verified sender signature.", "senderRefused"],
  [
    400,
    "The 'From' address you supplied (a@b.c) is not a Sender Signature on your account.",
    "senderRefused",
  ],
  [401, "Sender signature not confirmed.", "senderRefused"],
  [402, "Invalid JSON.", "rejected, stable"],
  [403, "Invalid fields.", "rejected, stable"],
  [405, "Not allowed to send.", "accountRefused"],
  [406, "Inactive recipient.", "rejected"],
  [409, "JSON required.", "rejected, stable"],
  [410, "Too many batch messages.", "rejected, stable"],
  [411, "Forbidden attachment type.", "rejected, stable"],
  [412, "Account is pending.", "accountRefused"],
  [413, "Account may not send.", "accountRefused"],
  [422, "Invalid server or account.", "accountRefused"],
  [500, "Sender signature query: invalid paging.", "accountRefused"],
  [701, "No such message.", "accountRefused"],
  [1101, "Template missing.", "rejected, stable"],
  [1109, "Template invalid.", "rejected, stable"],
  [1120, "Template invalid.", "rejected, stable"],
  [1121, "Template invalid.", "rejected, stable"],
  [1122, "Template invalid.", "rejected, stable"],
  [1123, "Template invalid.", "rejected, stable"],
  [1235, "Stream unknown.", "accountRefused"],
  [1236, "Stream cannot send.", "accountRefused"],
  [1480, "This address may not call.", "accountRefused"],
  [31_337, "Something new.", "accountRefused"],
];

describe("postmark: an answer for the whole request is", () => {
  test.each(codes)("422 with code %i (%s): %s", async (code, message, expected) => {
    fake.faults.next(answerInstead(422, { ErrorCode: code, Message: message }));
    expect(await wholeOf(send(provider))).toBe(expected);
  });

  const statuses: [status: number, code: number, expected: string][] = [
    [401, 10, "accountRefused"],
    [403, 0, "accountRefused"],
    [404, 0, "accountRefused"],
    [415, 0, "accountRefused"],
    [413, 0, "rejected, stable"],
    [429, 0, "throttled"],
    [500, 101, "unknown"],
    [500, 0, "unknown"],
    [500, 300, "unknown"],
    [502, 0, "unknown"],
    [504, 0, "unknown"],
    [503, 100, "unavailable"],
    [503, 0, "unavailable"],
    [400, 0, "unknown"],
    [422, 0, "unknown"],
    [409, 0, "unknown"],
    [451, 0, "rejected"],
  ];
  test.each(statuses)("%i with code %i: %s", async (status, code, expected) => {
    fake.faults.next(answerInstead(status, { ErrorCode: code, Message: "No." }));
    expect(await wholeOf(send(provider))).toBe(expected);
  });
});

describe("postmark: each email", () => {
  const alone: typeof codes = [
    [100, "Maintenance.", "unavailable"],
    [101, "Internal.", "unknown"],
    [429, "Slow.", "throttled"],
  ];
  test.each([...codes, ...alone])("with code %i (%s): %s", async (code, message, expected) => {
    const items = [
      { ErrorCode: 0, Message: "OK", MessageID: "a" },
      { ErrorCode: code, Message: message },
    ];
    fake.faults.next(answerInstead(200, items));
    const { result } = await send(provider);
    expect(result.kind === "each" && result.outcomes.map(classOf)).toEqual(["accepted", expected]);
  });

  test("is accepted under its own id, in the order of the request", async () => {
    const batch = outgoing(3);
    const { result } = await send(provider, batch);
    expect(result).toEqual({
      kind: "each",
      outcomes: fake.acceptances.map(({ messageId }) => ({ kind: "accepted", providerMessageId: messageId })),
    });
    expect(fake.acceptances.map(({ emailId }) => emailId)).toEqual(batch.emails.map(({ id }) => id));
    expect(
      fake.acceptances.every(({ batch: id, stream }) => id === batch.batchId && stream === "outbound"),
    ).toBe(true);
  });
});

describe("postmark: an email of several recipients", () => {
  const [one] = outgoing(1).emails;
  const several: Outgoing = {
    ...outgoing(0),
    emails: [{ ...one!, email: { ...one!.email, to: "a@b.test", cc: ["aa@b.test"], bcc: ["B@c.test"] } }],
  };
  afterEach(() => Object.assign(fake.settings, { inactive: [], someInactive: "accepted" }));

  test("that is accepted for some of them names the others", async () => {
    fake.settings.inactive = ["aa@b.test", "b@c.test"];
    const { result } = await send(provider, several);
    expect(result).toMatchObject({
      outcomes: [{ kind: "accepted", note: expect.stringContaining("to aa@b.test, B@c.test: inactive") }],
    });
  });

  test("has no note if nothing is said about them", async () => {
    const { result } = await send(provider, several);
    expect(result.kind === "each" && result.outcomes[0]).not.toHaveProperty("note");
  });

  test("says that some are inactive if Postmark names them in another way", async () => {
    const Message = "Message OK, but will not deliver to these inactive addresses: <somebody>.";
    fake.faults.next(answerInstead(200, [{ ErrorCode: 0, Message, MessageID: "a" }]));
    expect((await send(provider, several)).result).toMatchObject({
      outcomes: [{ kind: "accepted", note: expect.stringContaining("to some recipients") }],
    });
  });

  test("has no more in its note than its own recipients, whatever Postmark says", async () => {
    const [first] = several.emails;
    const words = fc.constantFrom(
      "a@b.test",
      "B@C.TEST",
      "jane@else.test",
      "will not deliver to",
      ",",
      ". ",
      "x",
    );
    await fc.assert(
      fc.asyncProperty(fc.array(fc.oneof(words, fc.string()), { maxLength: 12 }), async (parts) => {
        const Message = parts.join(" ");
        fake.faults.next(answerInstead(200, [{ ErrorCode: 0, Message, MessageID: "a" }]));
        const { result } = await send(provider, several);
        const outcome = result.kind === "each" ? result.outcomes[0] : undefined;
        expect(outcome?.kind).toBe("accepted");
        const note = (outcome?.kind === "accepted" && outcome.note) || "";
        const { to, cc = [], bcc = [] } = first!.email;
        const named = note.match(/[^\s,:]+@[^\s,:]+/g) ?? [];
        for (const address of named) expect([to, ...cc, ...bcc]).toContain(address);
      }),
      { numRuns: 200 },
    );
  });

  test("that is refused for an inactive one may have been sent to the others", async () => {
    Object.assign(fake.settings, { inactive: ["aa@b.test"], someInactive: "refused" });
    const refusal = { kind: "unknown", own: true, isRefusal: true };
    expect((await send(provider, several)).result).toMatchObject({ outcomes: [refusal] });
    expect(fake.acceptances).toHaveLength(1);
    fake.faults.next(answerInstead(422, { ErrorCode: 406, Message: "Inactive recipient." }));
    expect((await send(provider, several)).result).toMatchObject({ outcome: refusal });
  });
});

test("postmark: an email accepted for later may have no code", async () => {
  const items = [
    { ErrorCode: 0, Message: "OK", MessageID: "a" },
    { To: "b@c.d", MessageID: "b", Message: "Message accepted, but delivery may be delayed." },
  ];
  fake.faults.next(answerInstead(200, items));
  const { result } = await send(provider);
  expect(result.kind === "each" && result.outcomes.map(classOf)).toEqual(["accepted", "accepted"]);
});

describe("postmark: a success that does not account for every email is unknown:", () => {
  const good = (id: unknown) => ({ ErrorCode: 0, Message: "OK", MessageID: id });
  const accounts: [name: string, json: unknown][] = [
    ["null", null],
    ["an object", { ErrorCode: 0, MessageID: "a" }],
    ["one too few", [good("a")]],
    ["one too many", [good("a"), good("b"), good("c")]],
    ["an id missing", [good("a"), { ErrorCode: 0 }]],
    ["an id that is not a string", [good("a"), good(7)]],
    ["an empty id", [good("a"), good("")]],
    ["an id twice", [good("a"), good("a")]],
    ["a code without a message", [good("a"), { ErrorCode: 300 }]],
    ["a code that is not a whole number", [good("a"), { ErrorCode: 300.5, Message: "No." }]],
    ["a code that is not a number", [good("a"), { ErrorCode: "300", Message: "No." }]],
    ["null instead of a result", [good("a"), null]],
  ];
  test.each(accounts)("%s", async (_, json) => {
    fake.faults.next(answerInstead(200, json));
    expect(await wholeOf(send(provider))).toBe("unknown");
  });
});

test("postmark: a reason has the status, the code and the provider's message, without addresses", async () => {
  const refused = {
    ErrorCode: 400,
    Message: "The 'From' address you supplied (a@b.c) is not a Sender Signature.",
  };
  fake.faults.next(answerInstead(422, refused));
  const reason = "code 400: The 'From' address you supplied ([address]) is not a Sender Signature.";
  expect((await send(provider)).result).toMatchObject({ outcome: { reason: `422 ${reason}` } });
  fake.faults.next(answerInstead(200, [refused]));
  expect((await send(provider, outgoing(1))).result).toMatchObject({ outcomes: [{ reason }] });
  fake.faults.next(answerInstead(429, null));
  expect((await send(provider)).result).toMatchObject({
    outcome: { reason: "429 no reason given" },
  });
});

test("postmark: a Retry-After is respected, though undocumented", async () => {
  fake.faults.next(answerInstead(429, null, { "retry-after": "4" }));
  expect((await send(provider)).rate).toEqual({ retryAfterMs: 4000 });
  // A gateway's is ignored.
  for (const status of [200, 429, 503]) {
    const effect = { status, text: "<html>no</html>", headers: { "retry-after": "4" } };
    fake.faults.next({ stage: "read", effect });
    expect((await send(provider)).rate).toEqual({});
  }
});

describe("postmark: a search", () => {
  async function search(batch: Outgoing, signal = AbortSignal.timeout(patienceMs)) {
    if (!provider.search) throw new Error("no search");
    return (await provider.search({ ...batch, context: "outbound" }, signal)).result;
  }

  test("finds accepted emails, and none of other batches", async () => {
    const [mine, other] = [outgoing(3), outgoing(2)];
    await send(provider, mine);
    await send(provider, other);
    const expected = fake.acceptances.filter(({ batch }) => batch === mine.batchId);
    expect(await search(mine)).toEqual({
      kind: "searched",
      found: new Map(expected.map(({ emailId, messageId }) => [emailId, messageId])),
    });
  });

  test("finds nothing of a batch that never arrived or is not indexed yet", async () => {
    const batch = outgoing(2);
    expect(await search(batch)).toEqual({ kind: "searched", found: new Map() });
    fake.settings.indexDelayMs = 3_600_000;
    try {
      await send(provider, batch);
      expect(await search(batch)).toEqual({ kind: "searched", found: new Map() });
    } finally {
      fake.settings.indexDelayMs = 0;
    }
  });

  test("uses the stream that the batch was made for", async () => {
    const batch = { ...outgoing(1), context: "broadcast" };
    await provider.send(batch, AbortSignal.timeout(patienceMs));
    expect(await search(batch)).toMatchObject({ found: new Map() });
    const { result } = await (provider.search?.(batch, AbortSignal.timeout(patienceMs)) ?? Promise.reject());
    expect(result.kind === "searched" && result.found.size).toBe(1);
  });

  test("reads pages until it has seen the announced total", async () => {
    const batch = outgoing(3);
    for (let request = 0; request < 400; request += 1) await send(provider, batch);
    const result = await search(batch);
    expect(result.kind === "searched" && result.found.size).toBe(3);
    expect(fake.requests.filter(({ method }) => method === "GET")).toHaveLength(3);
  });

  const hit = (emailId: string, batchId: string) => ({
    MessageID: "m",
    Metadata: { email_id: emailId, batch_id: batchId },
  });
  const unreadable: [name: string, json: (batchId: string) => unknown][] = [
    ["null", () => null],
    ["an empty object", () => ({})],
    ["no total", () => ({ Messages: [] })],
    ["a total that is not a number", () => ({ TotalCount: "many", Messages: [] })],
    ["no messages", () => ({ TotalCount: 0 })],
    ["fewer messages than announced", (id) => ({ TotalCount: 2, Messages: [hit("a", id)] })],
    ["a message without metadata", () => ({ TotalCount: 1, Messages: [{ MessageID: "m" }] })],
    [
      "a message without an id",
      (id) => ({ TotalCount: 1, Messages: [{ Metadata: { email_id: "a", batch_id: id } }] }),
    ],
    ["a message of another batch", () => ({ TotalCount: 1, Messages: [hit("a", "other")] })],
  ];
  test.each(unreadable)("with %s in its answer has failed", async (_, json) => {
    const batch = outgoing(1);
    fake.faults.next(answerInstead(200, json(batch.batchId)));
    expect(await search(batch)).toMatchObject({ kind: "failed", outcome: { kind: "unknown" } });
  });

  test("with more results than the API returns has failed", async () => {
    const batch = outgoing(1);
    const Messages = Array.from({ length: 500 }, () => hit("a", batch.batchId));
    fake.faults.add({ fault: answerInstead(200, { TotalCount: 20_000, Messages }) });
    expect(await search(batch)).toMatchObject({ kind: "failed", outcome: { kind: "unknown" } });
    expect(fake.requests).toHaveLength(20);
  });

  test("reads a page of 500 messages of the largest size", async () => {
    const batch = outgoing(1);
    const mailbox = "€".repeat(255);
    const longest = {
      ...hit("a", batch.batchId),
      To: [{ Email: "a@b.c", Name: mailbox }],
      Recipients: [`${"a".repeat(248)}@b.test`],
      From: mailbox,
      Subject: "€".repeat(2000),
      // Roughly the size of the fields that the real API adds.
      Status: "Sent".padEnd(400),
    };
    const Messages = Array.from({ length: 500 }, () => longest);
    fake.faults.next(answerInstead(200, { TotalCount: 500, Messages }));
    expect(await search(batch)).toMatchObject({ kind: "searched" });
  });

  test("accepts a total that is a string, as in the SDK's types", async () => {
    const batch = outgoing(1);
    fake.faults.next(answerInstead(200, { TotalCount: "1", Messages: [hit("a", batch.batchId)] }));
    expect(await search(batch)).toEqual({ kind: "searched", found: new Map([["a", "m"]]) });
  });

  const failures: [status: number, code: number, expected: string][] = [
    [401, 10, "accountRefused"],
    [422, 700, "accountRefused"],
    [422, 300, "accountRefused"],
    [422, 400, "accountRefused"],
    [429, 0, "throttled"],
    [500, 101, "unknown"],
    [503, 100, "unavailable"],
  ];
  test.each(failures)("with status %i and code %i has failed: %s", async (status, code, expected) => {
    fake.faults.next(answerInstead(status, { ErrorCode: code, Message: "No." }));
    expect(await search(outgoing(1))).toMatchObject({ kind: "failed", outcome: { kind: expected } });
  });
});
