// Connections that are never made, break, hang or carry unreadable answers: both providers behave alike.

import { afterAll, beforeEach, describe, expect, setDefaultTimeout, test } from "bun:test";
import { type Fault, faults } from "../../fakes/faults.ts";
import type { Provider } from "../../lib/providers/provider.ts";
import { eventually, freePort } from "../support/eventually.ts";
import { type Side, outgoing, send, startPostmark, startResend, wholeOf } from "./adapters.ts";

// The machine may be busy with something else.
setDefaultTimeout(60_000);

const sides: Side[] = [startResend(), startPostmark()];
afterAll(() => {
  for (const { fake } of sides) fake.stop();
});
beforeEach(() => {
  for (const { fake } of sides) fake.clear();
});

/** Whether the fault leaves the emails accepted, and the outcome that the adapter must report. */
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
      "the request has arrived",
      () => fake.requests.length === 1 && (!accepted || fake.acceptances.length === 2),
    );
    giveUp.abort();
    expect(await wholeOf(sending)).toBe("unknown");
  });

  test("a request that is accepted after its sender gave up: unknown", async () => {
    fake.faults.next({ stage: "working", delayMs: 60, effect: "nothing" });
    const giveUp = new AbortController();
    const sending = send(provider, outgoing(), giveUp.signal);
    await eventually("the request has arrived", () => fake.requests.length === 1);
    giveUp.abort();
    expect(await wholeOf(sending)).toBe("unknown");
    await eventually("it was accepted nevertheless", () => fake.acceptances.length === 2);
  });

  test("an abort before the request began: certainly not sent", async () => {
    expect(await wholeOf(send(provider, outgoing(), AbortSignal.abort()))).toBe("unavailable");
    expect(fake.requests).toHaveLength(0);
  });

  test("a refused connection: certainly not sent", async () => {
    expect(await wholeOf(send(at(`http://127.0.0.1:${await freePort()}`)))).toBe("unavailable");
  });

  test("an outage and its end: nothing is sent, then everything", async () => {
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

  test("a broken exchange does not affect concurrent ones", async () => {
    fake.faults.next(faults.resetAfterAccepting);
    const classes = await Promise.all(Array.from({ length: 8 }, () => wholeOf(send(provider))));
    expect(classes.toSorted()).toEqual([...Array.from({ length: 7 }, () => "each"), "unknown"]);
  });

  test.each(["/", "/some/where", "/some/where/"])("a base URL can end in %s", async (path) => {
    const url = `${fake.url}${path}`;
    await send(at(url));
    const [request] = fake.requests;
    expect(request?.target).toBe(
      path.replace(/\/$/, "") + (at(url).name === "resend" ? "/emails/batch" : "/email/batch"),
    );
  });

  test("an invalid base URL is refused when the provider is created", () => {
    for (const url of ["nowhere", "ftp://127.0.0.1/", ""]) expect(() => at(url)).toThrow();
  });
});

/** A server that is not the API. */
interface OtherServer {
  readonly port: number;
  received(): string;
  stop(): void;
}

/** @param answers reaction to the first bytes on each connection; "hang": none, ever */
function startOtherServer(answers: "hang" | "reset" | "close" | { readonly bytes: string }): OtherServer {
  let received = "";
  const listener = Bun.listen({
    hostname: "127.0.0.1",
    port: 0,
    socket: {
      data(socket, bytes) {
        received += bytes.toString("latin1");
        if (answers === "reset") socket.terminate();
        else if (answers === "close") socket.end();
        else if (answers !== "hang") socket.write(answers.bytes);
      },
    },
  });
  return { port: listener.port, received: () => received, stop: () => listener.stop(true) };
}

/** The result of a request without an answer, as the adapter reports it. The request is aborted once `until` holds. */
async function endOf(provider: Provider, until: () => boolean = () => false): Promise<object> {
  const giveUp = new AbortController();
  const sending = send(provider, outgoing(), giveUp.signal);
  let hasEnded = false;
  void sending.finally(() => (hasEnded = true));
  await eventually("it got that far, or ended", () => hasEnded || until());
  giveUp.abort();
  const { result } = await sending;
  return result.kind === "whole" ? result.outcome : result;
}

describe.each(sides.map((side) => [side.name, side] as const))("%s: without a connection", (_, { at }) => {
  const certain = { kind: "unavailable", own: false, reason: expect.stringMatching(/^no connection: \w+$/) };
  const perhaps = { kind: "unknown", own: false, reason: expect.stringMatching(/^no answer: \w+$/) };
  const plainHttp = { bytes: "HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n" };

  test("a host without an address: certainly not sent", async () => {
    expect(await endOf(at("http://nowhere.invalid"))).toEqual(certain);
  });

  test("a firewall that drops connection requests: certainly not sent", async () => {
    // A listener with a backlog of one that accepts nothing: the kernel drops the next SYN.
    const program = [
      "import socket",
      "s = socket.socket()",
      "s.bind(('127.0.0.1', 0))",
      "s.listen(0)",
      "c = socket.create_connection(s.getsockname())",
      "print(s.getsockname()[1], flush=True)",
      "input()",
    ].join("\n");
    const full = Bun.spawn(["python3", "-c", program], { stdin: "pipe", stdout: "pipe" });
    try {
      const { value } = await full.stdout.getReader().read();
      const provider = at(`http://127.0.0.1:${Number(new TextDecoder().decode(value))}`);
      const { result } = await send(provider, outgoing(), AbortSignal.timeout(300));
      expect(result.kind === "whole" && (result.outcome as object)).toEqual(certain);
    } finally {
      full.kill();
      await full.exited;
    }
  });

  const otherServers: [what: string, answers: Parameters<typeof startOtherServer>[0]][] = [
    ["answers in plain HTTP", plainHttp],
    ["hangs up", "close"],
    ["resets", "reset"],
    ["says nothing", "hang"],
  ];
  test.each(otherServers)("TLS to a port that %s: certainly not sent", async (_what, answers) => {
    const server = startOtherServer(answers);
    try {
      const hello = () => server.received().length > 0;
      expect(
        await endOf(at(`https://127.0.0.1:${server.port}`), () => answers === "hang" && hello()),
      ).toEqual(certain);
      expect(hello()).toBe(true);
    } finally {
      server.stop();
    }
  });

  test.each(otherServers)("plain HTTP to a port that %s: perhaps sent", async (_what, answers) => {
    const server = startOtherServer(answers);
    try {
      const whole = () => server.received().includes("to-1@example.org");
      const end = await endOf(at(`http://127.0.0.1:${server.port}`), () => answers === "hang" && whole());
      expect(end).toEqual(
        answers === plainHttp
          ? { kind: "unknown", own: false, reason: "400 not the provider's own answer" }
          : perhaps,
      );
    } finally {
      server.stop();
    }
  });

  const refusals: [what: string, answers: Parameters<typeof startOtherServer>[0]][] = [
    ...[403, 407, 502, 503].map(
      (status) =>
        [
          `refuses the tunnel with ${status}`,
          { bytes: `HTTP/1.1 ${status} No\r\ncontent-length: 0\r\n\r\n` },
        ] as [string, { bytes: string }],
    ),
    ["hangs up", "close"],
    ["resets", "reset"],
    ["says nothing", "hang"],
  ];
  test.each(refusals)("a proxy that %s: certainly not sent", async (_what, answers) => {
    const proxy = startOtherServer(answers);
    const before = process.env["HTTPS_PROXY"];
    process.env["HTTPS_PROXY"] = `http://127.0.0.1:${proxy.port}`;
    try {
      const tunnel = () => proxy.received().startsWith("CONNECT provider.test:443 ");
      expect(await endOf(at("https://provider.test"), () => answers === "hang" && tunnel())).toEqual(certain);
      expect(tunnel()).toBe(true);
    } finally {
      if (before === undefined) delete process.env["HTTPS_PROXY"];
      else process.env["HTTPS_PROXY"] = before;
      proxy.stop();
    }
  });
});
