// Every status in every form, at both providers. The meaning of an answer depends on whether it has the provider's own
// form. Anything else comes from something in front of the provider, which cannot speak for it.

import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { encodeAnswer, type HttpServer, listenHttp } from "../../fakes/http.ts";
import type { SendResult } from "../../lib/policy/request_outcome.ts";
import { createPostmark } from "../../lib/providers/postmark.ts";
import { createResend } from "../../lib/providers/resend.ts";
import { classOf, outgoing, outgoingWithFile, send } from "./adapters.ts";

// The machine may be busy with something else.
setDefaultTimeout(60_000);

const statuses = [
  200, 201, 202, 207, 301, 400, 401, 403, 404, 406, 408, 413, 415, 422, 425, 429, 500, 502, 503, 504, 520,
  521, 522, 523, 524, 525, 526, 527, 530,
];
const names = ["resend", "resend, alone", "postmark"] as const;
type Name = (typeof names)[number];

const refusedByResend = { statusCode: 422, name: "validation_error", message: "Invalid `to` field." };

/**
 * Answers in the provider's own form: an acceptance of both emails, or of the only one, and a refusal that blames the
 * emails where possible.
 */
const own: Readonly<Record<Name, { accepted: unknown; refused: unknown }>> = {
  resend: {
    accepted: { data: [{ id: "a" }, { id: "b" }] },
    refused: refusedByResend,
  },
  "resend, alone": { accepted: { id: "a" }, refused: refusedByResend },
  postmark: {
    accepted: [
      { ErrorCode: 0, Message: "OK", MessageID: "a" },
      { ErrorCode: 0, Message: "OK", MessageID: "b" },
    ],
    refused: { ErrorCode: 300, Message: "Invalid email request." },
  },
};
const ownBody = (name: Name, status: number) =>
  JSON.stringify(status < 300 ? own[name].accepted : own[name].refused);

/** The bytes that the server answers to every request; the connection is closed after them. */
let answer: string | Uint8Array = "";
let server: HttpServer;
beforeAll(() => {
  server = listenHttp(
    {},
    () => true,
    (_, reply) => reply.close(answer),
  );
});
afterAll(() => server.stop());

async function outcomeOf(name: Name, bytes: string | Uint8Array): Promise<string> {
  answer = bytes;
  const baseUrl = `http://127.0.0.1:${server.port}`;
  const provider =
    name === "postmark"
      ? createPostmark({ serverToken: "fake-token", baseUrl, messageStream: "outbound" })
      : createResend({ apiKey: "re_fake", baseUrl });
  const batch = name === "resend, alone" ? outgoingWithFile() : outgoing();
  return describeResult((await send(provider, batch)).result);
}

function describeResult(result: SendResult): string {
  if (result.kind === "each") return `each: ${result.outcomes.map(classOf).join(", ")}`;
  const { outcome } = result;
  return "own" in outcome ? `${outcome.kind}, ${outcome.own ? "own" : "not own"}` : classOf(outcome);
}

async function all(name: Name, bytesOf: (status: number) => string | Uint8Array) {
  const outcomes: Record<number, string> = {};
  for (const status of statuses) outcomes[status] = await outcomeOf(name, bytesOf(status));
  return outcomes;
}

/** Answers of something in front of the provider. Four statuses of Cloudflare mean that it did not reach the origin. */
const gateways = Object.fromEntries(
  statuses.map((status) => [
    status,
    [521, 523, 525, 526].includes(status) ? "unavailable, not own" : "unknown, not own",
  ]),
);
/** The form of Postmark's own 429 is undocumented: it counts as its own if it is empty or JSON. */
const gatewaysExcept429 = { ...gateways, 429: "throttled" };
/** An incomplete answer says nothing, whatever its status. */
const lost = Object.fromEntries(statuses.map((status) => [status, "unknown, not own"]));

const inOwnForm = {
  301: "accountRefused",
  400: "rejected, stable",
  401: "accountRefused",
  403: "accountRefused",
  404: "accountRefused",
  406: "rejected",
  408: "unknown, own",
  413: "rejected, stable",
  415: "accountRefused",
  422: "rejected, stable",
  425: "unavailable, own",
  429: "throttled",
  500: "unknown, own",
  502: "unknown, own",
  503: "unavailable, own",
  504: "unknown, own",
  520: "unknown, own",
  521: "unknown, own",
  522: "unknown, own",
  523: "unknown, own",
  524: "unknown, own",
  525: "unknown, own",
  526: "unknown, own",
  527: "unknown, own",
  530: "unknown, own",
};

const html = (status: number) =>
  encodeAnswer({ status, headers: { "content-type": "text/html" }, body: "<html>no</html>" });
const json = (status: number, value: unknown) => encodeAnswer({ status, body: JSON.stringify(value) });

describe.each(names)("%s:", (name) => {
  test("in the provider's own form", async () => {
    const accepted = `each: accepted${name === "resend, alone" ? "" : ", accepted"}`;
    const successes = { 200: accepted, 201: accepted, 202: accepted, 207: accepted };
    expect(await all(name, (status) => encodeAnswer({ status, body: ownBody(name, status) }))).toEqual({
      ...successes,
      ...inOwnForm,
    });
  });

  test("in HTML", async () => {
    expect(await all(name, html)).toEqual(gateways);
  });

  test("empty", async () => {
    expect(await all(name, (status) => encodeAnswer({ status }))).toEqual(
      name === "postmark" ? gatewaysExcept429 : gateways,
    );
  });

  test("with a message in JSON", async () => {
    for (const value of [
      { message: "No." },
      { Message: "No." },
      { error: { name: "n", message: "m" } },
      [],
      {},
    ]) {
      expect(await all(name, (status) => json(status, value))).toEqual(
        name === "postmark" ? gatewaysExcept429 : gateways,
      );
    }
  });

  test("in the other provider's form", async () => {
    const other = name === "postmark" ? "resend" : "postmark";
    expect(await all(name, (status) => encodeAnswer({ status, body: ownBody(other, status) }))).toEqual(
      name === "postmark" ? gatewaysExcept429 : gateways,
    );
  });

  test("with fields of other types", async () => {
    const values =
      name === "postmark"
        ? [{ ErrorCode: "300", Message: "No." }, { ErrorCode: 300 }]
        : [{ name: 1, message: "No." }, { name: "validation_error", message: null }, { id: 7 }];
    for (const value of values) {
      expect(await all(name, (status) => json(status, value))).toEqual(
        name === "postmark" ? gatewaysExcept429 : gateways,
      );
    }
  });

  test("in half of the provider's own form, as if it were whole", async () => {
    const half = (status: number) => ownBody(name, status).slice(0, status < 300 ? 7 : 20);
    expect(await all(name, (status) => encodeAnswer({ status, body: half(status) }))).toEqual(gateways);
  });

  test("broken off", async () => {
    const cut = (status: number) => encodeAnswer({ status, body: ownBody(name, status) }).slice(0, -1);
    expect(await all(name, cut)).toEqual(lost);
  });

  test("longer than any answer of the provider's, though in its own form", async () => {
    const padding = " ".repeat(8 * 1024 * 1024);
    const long = (status: number) => encodeAnswer({ status, body: ownBody(name, status) + padding });
    expect(await all(name, long)).toEqual(lost);
  });
});
