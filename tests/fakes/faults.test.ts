// The faults on the wire, as a bare socket sees them, and when they strike.

import { afterAll, beforeEach, describe, expect, test } from "bun:test";
import { connect } from "node:net";
import { type Fault, createFaults, faults, seededRandom } from "../../fakes/faults.ts";
import { startFakePostmark } from "../../fakes/postmark.ts";
import { eventually } from "../support/eventually.ts";

const fake = startFakePostmark();
afterAll(() => fake.stop());
beforeEach(() => fake.clear());

const item = { From: "a@example.com", To: "b@example.org", Subject: "s", TextBody: "t" };
const body = JSON.stringify([item, item]);
const head = [
  "POST /email/batch HTTP/1.1",
  "host: fake",
  "accept: application/json",
  "content-type: application/json",
  "x-postmark-server-token: fake-token",
  `content-length: ${body.length}`,
].join("\r\n");
const request = `${head}\r\n\r\n${body}`;

/**
 * Everything that a client receives, and how the connection ended: "end", "ECONNRESET", or "open" when `enough`
 * returned true.
 */
async function talk(
  text: string,
  enough: (received: string) => boolean = () => false,
): Promise<{ received: string; ended: string }> {
  let received = "";
  let ended = "";
  const socket = connect(fake.port, "127.0.0.1", () => socket.write(text));
  socket.on("data", (bytes) => {
    received += bytes.toString();
  });
  socket.on("end", () => (ended = "end"));
  socket.on("error", (error: NodeJS.ErrnoException) => (ended = error.code ?? "error"));
  await eventually("it ends, or has sent enough", () => ended !== "" || enough(received));
  // Also sees what follows immediately.
  if (ended === "") await Bun.sleep(50);
  socket.destroy();
  return { received, ended: ended || "open" };
}

describe("faults: on the wire", () => {
  const table: [name: keyof typeof faults, accepted: number, received: RegExp, ended: string][] = [
    ["resetBeforeReading", 0, /^$/, "ECONNRESET"],
    ["resetBeforeAccepting", 0, /^$/, "ECONNRESET"],
    ["resetAfterAccepting", 2, /^$/, "ECONNRESET"],
    ["closeBeforeAccepting", 0, /^$/, "end"],
    ["closeAfterAccepting", 2, /^$/, "end"],
    ["closeInHead", 2, /^HTTP\/1\.1 200 OK\r\n[^\n]*\r\ncontent-length: \d*$/, "end"],
    ["closeInBody", 2, /^HTTP\/1\.1 200 OK\r\n[\s\S]+\r\n\r\n\[\{/, "end"],
    ["resetInBody", 2, /^HTTP\/1\.1 200 OK\r\n[\s\S]+\r\n\r\n\[\{/, "ECONNRESET"],
    ["nonsense", 2, /this is not HTTP/, "end"],
  ];
  test.each(table)("%s (accepted: %i)", async (name, accepted, received, ended) => {
    fake.faults.next(faults[name]);
    const seen = await talk(request);
    expect(seen.received).toMatch(received);
    expect(seen.ended).toBe(ended);
    expect(fake.acceptances).toHaveLength(accepted);
  });

  const answers: [name: keyof typeof faults, accepted: number, received: RegExp][] = [
    ["emptySuccess", 0, /^HTTP\/1\.1 200 OK\r\n[\s\S]*content-length: 0\r\n\r\n$/],
    ["emptySuccessAfterAccepting", 2, /^HTTP\/1\.1 200 OK\r\n[\s\S]*content-length: 0\r\n\r\n$/],
    ["htmlSuccess", 0, /text\/html\r\n[\s\S]*<html>/],
    ["oneShort", 2, /\r\n\r\n\[\{[^{}]*\}\]$/],
    ["serverErrorAfterAccepting", 2, /^HTTP\/1\.1 500 /],
    ["redirect", 0, /^HTTP\/1\.1 307 [\s\S]*location: /],
    ["hangBeforeAccepting", 0, /^$/],
    ["hangAfterAccepting", 2, /^$/],
  ];
  test.each(answers)("%s (accepted: %i)", async (name, accepted, received) => {
    fake.faults.next(faults[name]);
    const isDone = () => fake.requests.length === 1 && fake.acceptances.length === accepted;
    const seen = await talk(request, (text) => received.test(text) && isDone());
    expect(seen.received).toMatch(received);
    expect(seen.ended).toBe("open");
    expect(fake.acceptances).toHaveLength(accepted);
  });

  test("a reset before reading does not wait for the body", async () => {
    fake.faults.next(faults.resetBeforeReading);
    expect((await talk(`${head}\r\n\r\n`)).ended).toBe("ECONNRESET");
  });

  test("a delay before accepting accepts after its client has gone", async () => {
    fake.faults.next({ stage: "working", delayMs: 1000, effect: "nothing" });
    expect((await talk(request, () => fake.requests.length === 1)).ended).toBe("open");
    expect(fake.acceptances).toHaveLength(0);
    await eventually("it is accepted", () => fake.acceptances.length === 2);
  });

  test("a reset while the API works is followed by the acceptance", async () => {
    fake.faults.next({ stage: "working", effect: "reset" });
    expect((await talk(request)).ended).toBe("ECONNRESET");
    await eventually("it is accepted", () => fake.acceptances.length === 2);
  });

  test("without a fault, requests on one connection are answered in turn", async () => {
    const answers = (received: string) => received.match(/HTTP\/1\.1 200/g)?.length;
    const seen = await talk(request + request, (received) => answers(received) === 2);
    expect(answers(seen.received)).toBe(2);
    expect(fake.acceptances).toHaveLength(4);
  });

  test("a request in small pieces is read whole", async () => {
    const socket = connect(fake.port, "127.0.0.1");
    for (const piece of request.match(/[\s\S]{1,50}/g) ?? []) {
      socket.write(piece);
      await Bun.sleep(0);
    }
    await eventually("it is accepted", () => fake.acceptances.length === 2);
    socket.destroy();
  });
});

describe("faults: rules", () => {
  const post = { method: "POST", path: "/email/batch", query: new URLSearchParams(), headers: {} };
  const get = { method: "GET", path: "/messages/outbound", query: new URLSearchParams(), headers: {} };
  const [one, two]: Fault[] = [faults.resetBeforeReading, faults.nonsense];
  if (!one || !two) throw new Error("two");

  test("the first rule that applies strikes, as often as it says", () => {
    const rules = createFaults();
    rules.next(one, 2);
    rules.next(two);
    expect([1, 2, 3, 4].map(() => rules.take(post))).toEqual([one, one, two, undefined]);
  });

  test("a rule can depend on a path or on a function", () => {
    const rules = createFaults();
    rules.add({ fault: one, path: "/email/batch" });
    rules.add({ fault: two, when: ({ method }) => method === "GET" });
    expect([post, get, post].map((request) => rules.take(request))).toEqual([one, two, one]);
    rules.clear();
    expect(rules.take(post)).toBeUndefined();
  });

  test("rules with a probability strike that often, and the same requests for the same seed", () => {
    const struck = (seed: number) => {
      const rules = createFaults(seed);
      rules.add({ fault: one, probability: 0.25 });
      return Array.from({ length: 4000 }, () => rules.take(post) !== undefined);
    };
    expect(struck(7)).toEqual(struck(7));
    expect(struck(7)).not.toEqual(struck(8));
    const share = struck(7).filter(Boolean).length / 4000;
    expect(share).toBeGreaterThan(0.22);
    expect(share).toBeLessThan(0.28);
  });

  test("random numbers are in [0, 1)", () => {
    const random = seededRandom(3);
    for (let roll = 0; roll < 10_000; roll += 1) {
      const value = random();
      expect(value >= 0 && value < 1).toBe(true);
    }
  });
});
