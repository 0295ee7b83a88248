// What REDIS_URL may be, how it is shown, and how ioredis takes it.

const form =
  "is not of the form redis://[user:password@]host[:port][/number], rediss://… or redis+unix://[user:password@localhost]/path[?db=number]";
const unescapedHint =
  "a special character in its password must be percent-encoded: / is %2F, ? is %3F, # is %23, @ is %40, % is %25";

/** Bytes of a socket's path that Linux takes: `sun_path` without its NUL. */
const socketPathMax = 107;

/** What is wrong with it; nothing of it is quoted. */
export function redisUrlError(text: string): string | undefined {
  if (/^rediss?\+(cluster|sentinel):/i.test(text)) {
    return "is of a Redis Cluster or Sentinel, which this version does not support";
  }
  const isSocket = text.startsWith("redis+unix://");
  // A special character ends the user and the password early: the "@" that ends them comes after it.
  if (!isSocket && /^rediss?:\/\/[^/?#]*[/?#][^]*@/.test(text)) return `cannot be read: ${unescapedHint}`;
  const url = URL.parse(text);
  // To the letter: URL.parse puts right what the driver takes as it stands, and would then connect without TLS.
  if (url === null || !/^(rediss?|redis\+unix):\/\/[\x21-\x7e]+$/.test(text)) {
    return text.includes("@") ? `${form}; ${unescapedHint}` : form;
  }
  try {
    decodeURIComponent(url.username + url.password);
  } catch {
    return `has a user or password that is not percent-encoded UTF-8: ${unescapedHint}`;
  }
  return isSocket ? socketMistake(url) : hostMistake(url);
}

function hostMistake({ hostname, pathname, search, hash }: URL): string | undefined {
  if (hostname === "") return form;
  if (!/^(\/\d*)?$/.test(pathname)) return "names a database that is not a number";
  if (search !== "" || hash !== "") return "has options behind the address: none are supported";
  return undefined;
}

function socketMistake({ host, pathname, search, hash }: URL): string | undefined {
  if (host !== "" && host !== "localhost") return "names another host than localhost for a socket";
  const path = decoded(pathname);
  if (path === undefined || !/^\/[^\0?]+$/s.test(path)) return "names no path of a socket";
  if (Buffer.byteLength(path) > socketPathMax) return `has a path of over ${socketPathMax} bytes`;
  if (!/^(\?db=\d+)?$/.test(search) || hash !== "") {
    return "has other options behind the path than ?db=number";
  }
  return undefined;
}

function decoded(text: string): string | undefined {
  try {
    return decodeURIComponent(text);
  } catch {
    return undefined;
  }
}

/** Host and port, or the path of the socket. @param url without a mistake */
export function redisAddress(url: string): string {
  const { protocol, hostname, port, pathname } = new URL(url);
  return protocol === "redis+unix:" ? decodeURIComponent(pathname) : `${hostname}:${port || "6379"}`;
}

/** As ioredis takes it: it knows sockets by their path alone. @param url without a mistake */
export function driverUrl(url: string): string {
  const { protocol, username, password, pathname, searchParams } = new URL(url);
  if (protocol !== "redis+unix:") return url;
  const options = new URLSearchParams({
    ...(username !== "" && { username: decodeURIComponent(username) }),
    ...(password !== "" && { password: decodeURIComponent(password) }),
    ...(searchParams.has("db") && { db: searchParams.get("db")! }),
  });
  return `${decodeURIComponent(pathname)}?${options}`;
}

/** Not by the parts of a URL: what is shown is what was written. */
export function withoutPassword(url: string): string {
  return url.replace(/^([\w+]+:\/\/[^/?#]*?:)[^/?#]*@/, "$1[secret]@");
}

/** The password as it is written, and as it is meant. */
export function passwordsOf(url: string): string[] {
  const [, written] = /^[\w+]+:\/\/[^/?#]*?:([^/?#]*)@/.exec(url) ?? [];
  if (written === undefined) return [];
  return [written, decoded(written) ?? written];
}
