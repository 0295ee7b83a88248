// The forms of REDIS_URL: how they are checked, shown without a password, and passed to ioredis.

const formText =
  "is not of the form redis://[user:password@]host[:port][/number], rediss://… or redis+unix://[user:password@localhost]/path[?db=number]";
const escapingText =
  "a special character in its password must be percent-encoded: / is %2F, ? is %3F, # is %23, @ is %40, % is %25";

/** Longest path of a socket on Linux, bytes: `sun_path` without its NUL. */
const socketPathMax = 107;

/** Returns the reason why a URL is invalid, without quoting any of it. */
export function redisUrlError(text: string): string | undefined {
  if (/^rediss?\+(cluster|sentinel):/i.test(text)) {
    return "is of a Redis Cluster or Sentinel, which this version does not support";
  }
  const isSocket = text.startsWith("redis+unix://");
  // A special character ends user and password too early: then the "@" that should end them comes after it.
  if (!isSocket && /^rediss?:\/\/[^/?#]*[/?#][^]*@/.test(text)) return `cannot be read: ${escapingText}`;
  const url = URL.parse(text);
  // URL.parse corrects what the driver takes literally: the driver would then connect without TLS.
  if (url === null || !/^(rediss?|redis\+unix):\/\/[\x21-\x7e]+$/.test(text)) {
    return text.includes("@") ? `${formText}; ${escapingText}` : formText;
  }
  if (decode(url.username + url.password) === undefined) {
    return `has a user or password that is not percent-encoded UTF-8: ${escapingText}`;
  }
  return isSocket ? socketError(url) : hostError(url);
}

function hostError({ hostname, pathname, search, hash }: URL): string | undefined {
  if (hostname === "") return formText;
  if (!/^(\/\d*)?$/.test(pathname)) return "names a database that is not a number";
  if (search !== "" || hash !== "") return "has options after the address: none are supported";
  return undefined;
}

function socketError({ host, pathname, search, hash }: URL): string | undefined {
  if (host !== "" && host !== "localhost") return "names another host than localhost for a socket";
  const path = decode(pathname);
  if (path === undefined || !/^\/[^\0?]+$/s.test(path)) return "names no path of a socket";
  if (Buffer.byteLength(path) > socketPathMax) return `has a path of over ${socketPathMax} bytes`;
  if (!/^(\?db=\d+)?$/.test(search) || hash !== "") return "has other options after the path than ?db=number";
  return undefined;
}

function decode(text: string): string | undefined {
  try {
    return decodeURIComponent(text);
  } catch {
    return undefined;
  }
}

/** Host and port, or the path of the socket. @param url without errors */
export function redisAddress(url: string): string {
  const { protocol, hostname, port, pathname } = new URL(url);
  return protocol === "redis+unix:" ? decodeURIComponent(pathname) : `${hostname}:${port || "6379"}`;
}

/** Returns a URL as ioredis takes it, which expects only the path of a socket. @param url without errors */
export function driverUrl(url: string): string {
  const { protocol, username, password, pathname, searchParams } = new URL(url);
  if (protocol !== "redis+unix:") return url;
  if (username !== "") searchParams.set("username", decodeURIComponent(username));
  if (password !== "") searchParams.set("password", decodeURIComponent(password));
  return `${decodeURIComponent(pathname)}?${searchParams}`;
}

/** The rest stays as it was written. */
export function withoutPassword(url: string): string {
  return url.replace(/^([\w+]+:\/\/[^/?#]*?:)[^/?#]*@/, "$1[secret]@");
}

/** The password as it is written, and decoded. */
export function passwordsOf(url: string): string[] {
  const [, written] = /^[\w+]+:\/\/[^/?#]*?:([^/?#]*)@/.exec(url) ?? [];
  return written === undefined ? [] : [written, decode(written) ?? written];
}
