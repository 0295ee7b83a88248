// Protection of the process from answers, and the Retry-After header.

import { afterAll, beforeAll, describe, expect, setDefaultTimeout, spyOn, test } from "bun:test";
import { encodeAnswer, type HttpServer, listenHttp, type RequestHead } from "../../fakes/http.ts";
import { exchange, readRetryAfter } from "../../lib/providers/http.ts";
import { watchMemory } from "../support/process_memory.ts";

// The machine may be busy with something else.
setDefaultTimeout(60_000);

const mib = 1024 * 1024;

describe("transport: an answer", () => {
  let answer: Uint8Array;
  let asked: RequestHead | undefined;
  let server: HttpServer;
  beforeAll(() => {
    server = listenHttp(
      {},
      () => true,
      (request, reply) => {
        asked = request;
        reply.close(answer);
      },
    );
  });
  afterAll(() => server.stop());

  async function post(bytes: string | Uint8Array, port = server.port) {
    answer = typeof bytes === "string" ? Buffer.from(bytes) : bytes;
    return exchange(
      `http://127.0.0.1:${port}/`,
      { method: "POST", body: "Füße" },
      AbortSignal.timeout(30_000),
    );
  }

  test("is read up to 8 MiB, and not beyond", async () => {
    const most = `"${"x".repeat(8 * mib - 2)}"`;
    expect(await post(encodeAnswer({ status: 200, body: most }))).toMatchObject({
      kind: "answer",
      body: most.slice(1, -1),
    });
    expect(await post(encodeAnswer({ status: 200, body: `${most} ` }))).toEqual({
      kind: "unknown",
      reason: "200 answer too long",
      own: false,
    });
  });

  test("is JSON with or without a byte order mark, or empty, or not JSON", async () => {
    const bodies = { '{"a":"é"}': { a: "é" }, '\ufeff{"a":1}': { a: 1 }, "": null, "<html>": undefined };
    for (const [body, expected] of Object.entries(bodies)) {
      expect(await post(encodeAnswer({ status: 200, body }))).toMatchObject({
        kind: "answer",
        body: expected,
      });
    }
  });

  test("without an end is abandoned, and its connection closed", async () => {
    const closed = Promise.withResolvers<number>();
    const chunk = Buffer.alloc(mib, "x");
    const endless = Bun.listen<{ written: number; rest: Uint8Array }>({
      hostname: "127.0.0.1",
      port: 0,
      socket: {
        open(socket) {
          socket.data = { written: 0, rest: Buffer.from("HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n") };
        },
        data: pump,
        drain: pump,
        close(socket) {
          closed.resolve(socket.data.written);
        },
        error() {},
      },
    });
    function pump(socket: Bun.Socket<{ written: number; rest: Uint8Array }>): void {
      for (;;) {
        const { data } = socket;
        const written = Math.max(0, socket.write(data.rest));
        data.written += written;
        if (written < data.rest.length) {
          data.rest = data.rest.subarray(written);
          return;
        }
        data.rest = chunk;
      }
    }
    try {
      expect(await post("", endless.port)).toEqual({
        kind: "unknown",
        reason: "200 answer too long",
        own: false,
      });
      // Plus the bytes in the kernel's buffers.
      expect(await closed.promise).toBeLessThan(64 * mib);
    } finally {
      endless.stop(true);
    }
  });

  test("is never requested compressed, and never decompressed", async () => {
    // 512 MiB of spaces before the end of the JSON, in members of 16 MiB.
    const spaces = Bun.gzipSync(Buffer.alloc(16 * mib, " "));
    const body = Buffer.concat([
      ...Array.from({ length: 32 }, () => spaces),
      Bun.gzipSync(Buffer.from("{}")),
    ]);
    const head = `HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: ${body.length}\r\n\r\n`;
    const memory = watchMemory(process.pid);
    expect(await post(Buffer.concat([Buffer.from(head), body]))).toMatchObject({
      kind: "answer",
      body: undefined,
    });
    expect(memory.grownMiB()).toBeLessThan(100);
    expect(asked?.headers["accept-encoding"]).toBe("identity");
  });

  test("follows a request with the length of its body in bytes", async () => {
    await post(encodeAnswer({ status: 200 }));
    expect(asked).toMatchObject({ method: "POST", body: "Füße" });
    expect(asked?.headers).toMatchObject({ "content-length": "6" });
    expect(asked?.headers).not.toHaveProperty("transfer-encoding");
  });
});

describe("transport: an error of fetch", () => {
  const codes = ["EHOSTUNREACH", "ENETUNREACH", "ECONNREFUSED", "ECONNRESET", "EPROTO", "ERR_SOMETHING_NEW"];

  /** A fetch that fails before or after it has read the body. */
  async function failing(code: string, takesBody: boolean) {
    const mock = spyOn(globalThis, "fetch").mockImplementationOnce((async (_: unknown, init: RequestInit) => {
      if (takesBody) await new Response(init.body).text();
      throw Object.assign(new TypeError(code), { code });
    }) as unknown as typeof fetch);
    try {
      const request = { method: "POST", body: "body" };
      return await exchange("http://127.0.0.1/", request, AbortSignal.timeout(30_000));
    } finally {
      mock.mockRestore();
    }
  }

  test.each(codes)("%s itself means nothing: only whether the body was read counts", async (code) => {
    expect(await failing(code, false)).toEqual({
      kind: "unavailable",
      reason: `no connection: ${code}`,
      own: false,
    });
    expect(await failing(code, true)).toEqual({ kind: "unknown", reason: `no answer: ${code}`, own: false });
  });
});

describe("transport: Retry-After", () => {
  const nowMs = Date.UTC(2026, 0, 1);
  const inAMinute = "Thu, 01 Jan 2026 00:01:00 GMT";
  const inTwo = "Thu, 01 Jan 2026 00:02:00 GMT";
  const ago = "Wed, 31 Dec 2025 23:59:59 GMT";

  const table: [values: string[], expectedMs: number | undefined][] = [
    [[], undefined],
    [["3"], 3_000],
    [["0"], 0],
    [[" 3 "], 3_000],
    [["5, 5"], 5_000],
    [["5", "7"], 7_000],
    [["7", "5"], 7_000],
    [["1,2,3"], 3_000],
    [[inAMinute], 60_000],
    [[ago], undefined],
    [[ago, "4"], 4_000],
    [[inAMinute, inTwo], 120_000],
    [[`${inTwo}, ${inAMinute}`], 120_000],
    [["90", inAMinute], 90_000],
    [[inAMinute, "30"], 60_000],
    [["-1"], undefined],
    [["-1, 2"], 2_000],
    [["+1"], undefined],
    [["1.5"], undefined],
    [["1.5, 2.5"], undefined],
    [["1e3"], undefined],
    [["0x10"], undefined],
    [["soon"], undefined],
    [["soon, 6"], 6_000],
    [["5 s"], undefined],
    [["9".repeat(30)], undefined],
    [["2026-01-01T00:01:00Z"], undefined],
    [["Jan 1 2030"], undefined],
    [["2030"], 2_030_000],
    [["Thu, 99 Jan 2026 00:01:00 GMT"], undefined],
    [["Thu, 01 Jan 2026 00:01:00 PST"], undefined],
    [[""], undefined],
    [[",,"], undefined],
  ];
  test.each(table)("%p: %p ms", (values, expectedMs) => {
    const headers = new Headers();
    for (const value of values) headers.append("retry-after", value);
    expect(readRetryAfter(headers, nowMs).retryAfterMs).toBe(expectedMs);
  });
});
