// REDIS_URL in all its forms: what it means, what is refused, and what is hidden.

import { describe, expect, test } from "bun:test";
import {
  passwordsOf,
  readRedisUrl,
  redisAddress,
  redisUrlError,
  withoutPassword,
} from "../../lib/runtime/redis_url.ts";

const plain = { login: {}, tls: false, db: 0 };
const address = (host: string, port = 6379) => ({ kind: "address" as const, address: { host, port } });

describe("redis url: a valid one is read as", () => {
  test.each([
    ["redis://host", { ...plain, topology: address("host") }],
    ["redis://host/", { ...plain, topology: address("host") }],
    ["redis://[::1]:6380/2", { ...plain, db: 2, topology: address("::1", 6380) }],
    [
      "rediss://mail:p%40ss@host",
      { ...plain, tls: true, login: { username: "mail", password: "p@ss" }, topology: address("host") },
    ],
    ["redis://:p@ss@host", { ...plain, login: { password: "p@ss" }, topology: address("host") }],
    [
      "redis+unix://:pw@localhost/run/redis%201.sock?db=3",
      {
        login: { password: "pw" },
        tls: false,
        db: 3,
        topology: { kind: "address", address: { path: "/run/redis 1.sock" } },
      },
    ],
    [
      "redis+cluster://a,b:7001,[fe80::1]",
      {
        ...plain,
        topology: {
          kind: "cluster",
          nodes: [
            { host: "a", port: 6379 },
            { host: "b", port: 7001 },
            { host: "fe80::1", port: 6379 },
          ],
        },
      },
    ],
    [
      "rediss+cluster://mail:p%2Cw@a/",
      {
        tls: true,
        db: 0,
        login: { username: "mail", password: "p,w" },
        topology: { kind: "cluster", nodes: [{ host: "a", port: 6379 }] },
      },
    ],
    [
      "rediss+sentinel://mail:pw@a,b:5/my-master?db=2&sentinel_username=u+v&sentinel_password=x%26y",
      {
        tls: true,
        db: 2,
        login: { username: "mail", password: "pw" },
        topology: {
          kind: "sentinel",
          name: "my-master",
          login: { username: "u+v", password: "x&y" },
          nodes: [
            { host: "a", port: 26_379 },
            { host: "b", port: 5 },
          ],
        },
      },
    ],
    [
      "redis+sentinel://a/m",
      {
        ...plain,
        topology: { kind: "sentinel", name: "m", login: {}, nodes: [{ host: "a", port: 26_379 }] },
      },
    ],
  ] as const)("%s", (url, target) => {
    expect(redisUrlError(url)).toBeUndefined();
    expect<object>(readRedisUrl(url)).toEqual(target);
  });
});

describe("redis url: an invalid one is refused, without a quotation of it", () => {
  test.each([
    ["redis://a:1,b:2", "names several hosts"],
    ["redis://u:p@a,b/1", "names several hosts"],
    ["redis+cluster://", "host[:port]"],
    ["redis+cluster://a,,b", "host[:port]"],
    ["redis+cluster://a:x,b", "host[:port]"],
    ["redis+cluster://a:0", "host[:port]"],
    ["redis+cluster://a:70000", "host[:port]"],
    ["redis+cluster://::1", "host[:port]"],
    ["redis+cluster://a/1", "names a database"],
    ["redis+cluster://a?db=1", "none are supported for a cluster"],
    ["redis+cluster://:p/w@a", "/ is %2F"],
    ["redis+cluster://:p%w@a", "% is %25"],
    ["Redis+Cluster://a", "not of the form"],
    ["redis+clusters://a", "not of the form"],
    ["redis+sentinel://a", "names no primary"],
    ["redis+sentinel://a/", "names no primary"],
    ["redis+sentinel://a/n/1", "names no primary"],
    ["redis+sentinel://a/n?db=x", "other options"],
    ["redis+sentinel://a/n?role=slave", "other options"],
    ["redis+sentinel://a/n?db=1&db=2", "gives db twice"],
    ["redis+sentinel://a/n?sentinel_username=u", "without sentinel_password"],
    ["redis+sentinel://a/n?sentinel_password=p%w", "% is %25"],
    ["redis+sentinel://a/n?sentinel_password=p&w", "other options"],
    ["redis+sentinel://a/n?sentinel_password=p#w", "# is %23"],
    ["redis+sentinel://a/n?sentinel_password=p@w", "@ is %40"],
    ["redis+sentinel://a b/n", "not of the form"],
  ])("%s", (url, text) => {
    expect(redisUrlError(url)).toContain(text);
  });
});

test("redis url: passwords are masked and known, as written and decoded", () => {
  const url = "redis+sentinel://mail:p%2Cw-1@a:1,b/n?sentinel_password=s%26-2&db=1&sentinel_username=u";
  expect(withoutPassword(url)).toBe(
    "redis+sentinel://mail:[secret]@a:1,b/n?sentinel_password=[secret]&db=1&sentinel_username=u",
  );
  expect(passwordsOf(url)).toEqual(["p%2Cw-1", "p,w-1", "s%26-2", "s&-2"]);
  expect(withoutPassword("redis+cluster://:pw@a:1,b:2")).toBe("redis+cluster://:[secret]@a:1,b:2");
  expect(passwordsOf("redis+cluster://a:1,b:2")).toEqual([]);
  // An "&" that was not encoded ends no password: the URL is refused, but may be shown.
  expect(withoutPassword("redis+sentinel://a/n?sentinel_password=p&w")).toBe(
    "redis+sentinel://a/n?sentinel_password=[secret]",
  );
});

test("redis url: an address is shown with its ports, without credentials", () => {
  expect(redisAddress("redis://u:p@[::1]")).toBe("[::1]:6379");
  expect(redisAddress("redis+unix:///run/a%20b.sock")).toBe("/run/a b.sock");
  expect(redisAddress("redis+cluster://u:p@a,[::1]:7000")).toBe("a:6379,[::1]:7000");
  expect(redisAddress("redis+sentinel://u:p@a,b:1/n?sentinel_password=x")).toBe("a:26379,b:1/n");
});
