// Connections that never come about, break, hang or say nothing that can be read: the same at both providers.

import { afterAll, beforeEach, describe, expect, test } from "bun:test";
import { type Fault, faults } from "../../fakes/faults.ts";
import { isNeverConnected } from "../../lib/providers/transport.ts";
import { eventually, freePort } from "../support/eventually.ts";
import { type Side, outgoing, send, startPostmark, startResend, wholeOf } from "./sides.ts";

const sides: Side[] = [startResend(), startPostmark()];
afterAll(() => {
  for (const { fake } of sides) fake.stop();
});
beforeEach(() => {
  for (const { fake } of sides) fake.clear();
});

/** What the fault leaves accepted, and what the provider must say of it. */
const table: [name: keyof typeof faults, accepted: boolean, expected: string][] = [
  ["resetBeforeReading", false, "unknown"],
  ["resetBeforeAccepting", false, "unknown"],
  ["resetAfterAccepting", true, "unknown"],
  ["closeBeforeAccepting", false, "unknown"],
  ["closeAfterAccepting", true, "unknown"],
  ["closeInHead", true, "unknown"],
  ["closeInBody", true, "unknown"],
  ["resetInBody", true, "unknown"],
  ["emptySuccess", false, "unknown"],
  ["emptySuccessAfterAccepting", true, "unknown"],
  ["htmlSuccess", false, "unknown"],
  ["oneShort", true, "unknown"],
  ["nonsense", true, "unknown"],
  ["serverError", false, "unknown"],
  ["serverErrorAfterAccepting", true, "unknown"],
  ["badGateway", false, "unknown"],
  ["badGatewayAfterAccepting", true, "unknown"],
  ["redirect", false, "unknown"],
];

describe.each(sides.map((side) => [side.name, side] as const))("%s:", (_, { fake, provider, at }) => {
  test.each(table)("%s (accepted: %p): %s", async (name, accepted, expected) => {
    fake.faults.next(faults[name]);
    expect(await wholeOf(send(provider))).toBe(expected);
    expect(fake.acceptances).toHaveLength(accepted ? 2 : 0);
  });

  const hangs: [name: string, fault: Fault, accepted: boolean][] = [
    ["before accepting", faults.hangBeforeAccepting, false],
    ["after accepting", faults.hangAfterAccepting, true],
  ];
  test.each(hangs)("a hang %s, ended by the signal: unknown", async (_name, fault, accepted) => {
    fake.faults.next(fault);
    const giveUp = new AbortController();
    const sending = send(provider, outgoing(), giveUp.signal);
    await eventually(
      "the request arrived",
      () => fake.requests.length === 1 && (!accepted || fake.acceptances.length === 2),
    );
    giveUp.abort();
    expect(await wholeOf(sending)).toBe("unknown");
  });

  test("a request that is accepted after its sender has given up: unknown", async () => {
    fake.faults.next({ stage: "working", delayMs: 60, effect: "nothing" });
    const giveUp = new AbortController();
    const sending = send(provider, outgoing(), giveUp.signal);
    await eventually("the request arrived", () => fake.requests.length === 1);
    giveUp.abort();
    expect(await wholeOf(sending)).toBe("unknown");
    await eventually("it was accepted all the same", () => fake.acceptances.length === 2);
  });

  test("an abort before the request began: certainly not sent", async () => {
    expect(await wholeOf(send(provider, outgoing(), AbortSignal.abort()))).toBe("unavailable");
    expect(fake.requests).toHaveLength(0);
  });

  test("a refused connection: certainly not sent", async () => {
    expect(await wholeOf(send(at(`http://127.0.0.1:${await freePort()}`)))).toBe("unavailable");
  });

  test("a handshake of TLS that fails: certainly not sent", async () => {
    const plain = Bun.listen({
      hostname: "127.0.0.1",
      port: 0,
      socket: {
        data(socket) {
          socket.end("HTTP/1.1 400 Bad Request\r\n\r\n");
        },
      },
    });
    try {
      expect(await wholeOf(send(at(`https://127.0.0.1:${plain.port}`)))).toBe("unavailable");
    } finally {
      plain.stop(true);
    }
  });

  test("an outage and its end: nothing, then everything is sent", async () => {
    expect(await wholeOf(send(provider))).toBe("each");
    fake.goDown();
    // The first request may still meet the connection that the outage broke.
    await eventually(
      "connections are refused",
      async () => (await wholeOf(send(provider))) === "unavailable",
    );
    fake.comeUp();
    expect(await wholeOf(send(provider))).toBe("each");
  });

  test("one broken exchange of several at once says nothing about the others", async () => {
    fake.faults.next(faults.resetAfterAccepting);
    const said = await Promise.all(Array.from({ length: 8 }, () => wholeOf(send(provider))));
    expect(said.toSorted()).toEqual([...Array.from({ length: 7 }, () => "each"), "unknown"]);
  });

  test.each(["/", "/some/where", "/some/where/"])("a base URL may end in %s", async (path) => {
    const url = `${fake.url}${path}`;
    await send(at(url));
    const [request] = fake.requests;
    expect(request?.target).toBe(
      path.replace(/\/$/, "") + (at(url).name === "resend" ? "/emails/batch" : "/email/batch"),
    );
  });

  test("a base URL that is none is refused when it is opened", () => {
    for (const url of ["nowhere", "ftp://127.0.0.1/", ""]) expect(() => at(url)).toThrow();
  });
});

describe("transport: an error of fetch", () => {
  const never = [
    "ECONNREFUSED",
    "ENOTFOUND",
    "EAI_AGAIN",
    "EHOSTUNREACH",
    "ENETUNREACH",
    "EHOSTDOWN",
    "ENETDOWN",
    "EADDRNOTAVAIL",
    "ENODATA",
    "ESERVFAIL",
    "DEPTH_ZERO_SELF_SIGNED_CERT",
    "SELF_SIGNED_CERT_IN_CHAIN",
    "UNABLE_TO_VERIFY_LEAF_SIGNATURE",
    "CERT_HAS_EXPIRED",
    "ERR_TLS_CERT_ALTNAME_INVALID",
  ];
  test.each(never)("%s: there was no connection", (code) => {
    expect(isNeverConnected(Object.assign(new TypeError(code), { code }))).toBe(true);
  });

  const perhaps = [
    "ECONNRESET",
    "ETIMEDOUT",
    "EPIPE",
    "EPROTO",
    "ZlibError",
    "UnexpectedRedirect",
    "ERR_SOMETHING_NEW",
  ];
  test.each(perhaps)("%s: there may have been one", (code) => {
    expect(isNeverConnected(Object.assign(new TypeError(code), { code }))).toBe(false);
  });

  test("without a code: there may have been a connection", () => {
    for (const error of [AbortSignal.abort().reason, new Error("what"), "text", null, undefined]) {
      expect(isNeverConnected(error)).toBe(false);
    }
  });
});
