import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { crossSiteReason, isLoopback, createGate } from "../../lib/http/auth.ts";

const old = "old-token-0123456789";
const current = "current-token-abcdef";
const gate = createGate([old, current]);

test.each([
  `Bearer ${old}`,
  `Bearer ${current}`,
  `bearer ${current}`,
  `BEARER ${current}`,
  `Bearer   ${current}`,
])("auth: %j is accepted", (header) => {
  expect(gate(header)).toBe(true);
});

test.each([
  null,
  "",
  "Bearer",
  "Bearer ",
  current,
  `Basic ${current}`,
  `Bearer${current}`,
  `Bearer\t${current}`,
  `Bearer ${current.toUpperCase()}`,
  `Bearer ${current.slice(0, -1)}`,
  `Bearer ${current}x`,
  `Bearer ${current} `,
  `Bearer ${current},`,
  `Bearer ${current} ${old}`,
  `Bearer ${old},${current}`,
  `Bearer ${current}, Bearer ${current}`,
  `Bearer "${current}"`,
  `Bearer ${current}é`,
  `Bearer token=${current}`,
])("auth: %j is rejected", (header) => {
  expect(gate(header)).toBe(false);
});

test("auth: without tokens every header is rejected", () => {
  expect(createGate([])(`Bearer ${current}`)).toBe(false);
});

test("auth: any header other than a known token is rejected without an exception", () => {
  const shown = fc.oneof(fc.string({ unit: "binary" }), fc.constantFrom(old, current, `${current}\0`, ""));
  const scheme = fc.constantFrom("Bearer ", "bearer  ", "Bearer", "Basic ", "");
  fc.assert(
    fc.property(scheme, shown, (before, token) => {
      const known = token === old || token === current;
      expect(gate(before + token)).toBe(known && /^bearer +$/i.test(before));
    }),
  );
});

describe("browsers", () => {
  const refused = (headers: Record<string, string>, onLoopback = true) =>
    crossSiteReason(new Headers(headers), onLoopback)?.split(":")[0];

  test.each([
    [{ host: "localhost:3000" }],
    [{ host: "evil.example" }],
    [{ host: "localhost:3000", "sec-fetch-site": "none" }],
    [{ host: "localhost:3000", "sec-fetch-site": "same-origin", origin: "http://localhost:3000" }],
    [{ host: "LocalHost:80", origin: "http://localhost" }],
    [{ host: "127.0.0.1:3000", origin: "http://127.0.0.1:3000" }],
    [{ host: "[::1]:3000", origin: "http://[::1]:3000" }],
    [{ host: "app.localhost:3000", origin: "http://app.localhost:3000" }],
  ])("auth: %j is accepted", (headers) => {
    expect(refused(headers)).toBeUndefined();
  });

  test.each([
    [{ host: "localhost:3000", "sec-fetch-site": "cross-site" }, "Sec-Fetch-Site"],
    [{ host: "localhost:3000", "sec-fetch-site": "same-site" }, "Sec-Fetch-Site"],
    [{ host: "localhost:3000", "sec-fetch-site": "same-origin, cross-site" }, "Sec-Fetch-Site"],
    [{ host: "localhost:3000", "sec-fetch-site": "" }, "Sec-Fetch-Site"],
    [{ host: "localhost:3000", origin: "http://localhost:3001" }, "Origin"],
    [{ host: "localhost:3000", origin: "https://localhost:3000" }, "Origin"],
    [{ host: "localhost:3000", origin: "null" }, "Origin"],
    [{ host: "localhost:3000", origin: "" }, "Origin"],
    [{ host: "", origin: "null" }, "Origin"],
    [{ origin: "http://localhost" }, "Origin"],
    [{ host: "evil.example", origin: "http://evil.example" }, "Host"],
    [{ host: "evil.example", "sec-fetch-site": "none" }, "Host"],
    [{ host: "127.0.0.1.evil.example", origin: "http://127.0.0.1.evil.example" }, "Host"],
  ] as const)("auth: %j is refused for its %s", (headers, name) => {
    expect(refused({ ...headers })).toBe(name);
  });

  test("auth: a server that is not on loopback can have any name", () => {
    expect(refused({ host: "mail.example", origin: "http://mail.example" }, false)).toBeUndefined();
    expect(refused({ host: "mail.example", origin: "http://other.example" }, false)).toBe("Origin");
  });

  test("auth: only names that DNS cannot redirect count as loopback", () => {
    for (const host of ["127.0.0.1", "127.9.9.9", "localhost", "::1", "[::1]"])
      expect(isLoopback(host)).toBe(true);
    for (const host of ["0.0.0.0", "::", "10.0.0.1", "localhost.example"])
      expect(isLoopback(host)).toBe(false);
  });
});
