// The forms of REDIS_URL: how they are read and checked, and how they are shown without a password.

export interface RedisNode {
  /** A name or an address; IPv6 without its brackets. */
  readonly host: string;
  readonly port: number;
}

/** Where one Redis listens: a node, or the path of a socket. */
export type RedisAddress = RedisNode | { readonly path: string };

export interface RedisLogin {
  readonly username?: string;
  readonly password?: string;
}

/** How the primary is found. */
export type RedisTopology =
  | { readonly kind: "address"; readonly address: RedisAddress }
  /** `login` is for the Sentinels themselves. */
  | {
      readonly kind: "sentinel";
      readonly nodes: readonly RedisNode[];
      readonly name: string;
      readonly login: RedisLogin;
    }
  | { readonly kind: "cluster"; readonly nodes: readonly RedisNode[] };

/** A `REDIS_URL`, read. */
export interface RedisTarget {
  readonly topology: RedisTopology;
  readonly login: RedisLogin;
  /** Whether all connections use TLS, those to Sentinels included. */
  readonly tls: boolean;
  readonly db: number;
}

const formText =
  "is not of the form redis://[user:password@]host[:port][/number], rediss://…, redis+unix://[user:password@localhost]/path[?db=number], redis+sentinel://[user:password@]host[:port],…/name or redis+cluster://[user:password@]host[:port],…";
const escapingText =
  "a special character in its password must be percent-encoded: / is %2F, ? is %3F, # is %23, @ is %40, & is %26, % is %25";
const severalHostsText =
  "names several hosts: use redis+sentinel://host:port,…/name or redis+cluster://host:port,…";
const sentinelOptionsText =
  "has other options after the name than db=number, sentinel_username and sentinel_password";

const redisPort = 6379;
const sentinelPort = 26_379;

/** Longest path of a socket on Linux, bytes: `sun_path` without its NUL. */
const socketPathMax = 107;

/** Returns the reason why a URL is invalid, without quoting any of it. */
export function redisUrlError(text: string): string | undefined {
  const target = read(text);
  return typeof target === "string" ? target : undefined;
}

/** @param url without errors */
export function readRedisUrl(url: string): RedisTarget {
  const target = read(url);
  if (typeof target === "string") throw new Error(`REDIS_URL ${target}`);
  return target;
}

function read(text: string): RedisTarget | string {
  const isSocket = text.startsWith("redis+unix://");
  // A special character ends user and password too early: then the "@" that should end them comes after it.
  if (!isSocket && /^rediss?(\+\w+)?:\/\/[^/?#]*[/?#][^]*@/.test(text))
    return `cannot be read: ${escapingText}`;
  if (/^rediss?:\/\/[^/?#]*,[^@]*$/.test(text)) return severalHostsText;
  // URL.parse allows only one host.
  const [, start, hosts, rest] =
    /^(rediss?\+(?:sentinel|cluster):\/\/(?:[^/?#]*@)?)([^@/?#]*)([^]*)$/.exec(text) ?? [];
  const url = URL.parse(hosts === undefined ? text : `${start}host${rest}`);
  // URL.parse corrects what must be taken literally: a corrected scheme would be one without TLS.
  const isLiteral = /^(rediss?|redis\+unix|rediss?\+(sentinel|cluster)):\/\/[\x21-\x7e]+$/.test(text);
  if (url === null || !isLiteral) return text.includes("@") ? `${formText}; ${escapingText}` : formText;
  const login = loginOf(url.username, url.password);
  if (login === undefined) return `has a user or password that is not percent-encoded UTF-8: ${escapingText}`;
  const where = isSocket ? readSocket(url) : hosts === undefined ? readAddress(url) : readNodes(url, hosts);
  if (typeof where === "string") return where;
  return { login, tls: url.protocol.startsWith("rediss"), ...where };
}

type Where = Pick<RedisTarget, "topology" | "db"> | string;

function readAddress({ hostname, port, pathname, search, hash }: URL): Where {
  if (hostname === "") return formText;
  if (!/^(\/\d*)?$/.test(pathname)) return "names a database that is not a number";
  if (search !== "" || hash !== "") return "has options after the address: none are supported";
  const address = { host: withoutBrackets(hostname), port: Number(port || redisPort) };
  return { topology: { kind: "address", address }, db: Number(pathname.slice(1)) };
}

function readSocket({ host, pathname, search, hash }: URL): Where {
  if (host !== "" && host !== "localhost") return "names another host than localhost for a socket";
  const path = decode(pathname);
  if (path === undefined || !/^\/[^\0?]+$/s.test(path)) return "names no path of a socket";
  if (Buffer.byteLength(path) > socketPathMax) return `has a path of over ${socketPathMax} bytes`;
  if (!/^(\?db=\d+)?$/.test(search) || hash !== "") return "has other options after the path than ?db=number";
  return { topology: { kind: "address", address: { path } }, db: Number(search.slice("?db=".length)) };
}

function readNodes(url: URL, hosts: string): Where {
  const isCluster = url.protocol.endsWith("+cluster:");
  const nodes = hosts.split(",").map((host) => readNode(host, isCluster ? redisPort : sentinelPort));
  if (!nodes.every((node) => node !== undefined)) return "has a host that is not of the form host[:port]";
  if (url.hash !== "") return `has a part after #: ${escapingText}`;
  return isCluster ? readCluster(url, nodes) : readSentinel(url, nodes);
}

function readNode(text: string, defaultPort: number): RedisNode | undefined {
  const url = URL.parse(`redis://${text}`);
  if (url === null || url.hostname === "" || url.port === "0") return undefined;
  return { host: withoutBrackets(url.hostname), port: Number(url.port || defaultPort) };
}

function readCluster({ pathname, search }: URL, nodes: readonly RedisNode[]): Where {
  if (!/^\/?$/.test(pathname)) return "names a database, of which a cluster has only one";
  if (search !== "") return "has options after the hosts: none are supported for a cluster";
  return { topology: { kind: "cluster", nodes }, db: 0 };
}

function readSentinel({ pathname, search }: URL, nodes: readonly RedisNode[]): Where {
  const name = pathname.slice(1);
  if (!/^[\w.-]+$/.test(name))
    return "names no primary after the Sentinels, as in redis+sentinel://host:port,…/name";
  const given = new Map<string, string>();
  for (const option of search === "" ? [] : search.slice(1).split("&")) {
    const [, key = "", value = ""] = /^(db|sentinel_username|sentinel_password)=(.+)$/.exec(option) ?? [];
    if (key === "" || (key === "db" && !/^\d+$/.test(value))) return sentinelOptionsText;
    if (given.has(key)) return `gives ${key} twice`;
    given.set(key, value);
  }
  const [username, password] = [given.get("sentinel_username") ?? "", given.get("sentinel_password") ?? ""];
  if (username !== "" && password === "") return "gives sentinel_username without sentinel_password";
  const login = loginOf(username, password);
  if (login === undefined) return `has an option that is not percent-encoded UTF-8: ${escapingText}`;
  return { topology: { kind: "sentinel", nodes, name, login }, db: Number(given.get("db") ?? 0) };
}

/** Returns undefined if they cannot be decoded. */
function loginOf(username: string, password: string): RedisLogin | undefined {
  const [user, secret] = [decode(username), decode(password)];
  if (user === undefined || secret === undefined) return undefined;
  return { ...(user !== "" && { username: user }), ...(secret !== "" && { password: secret }) };
}

function decode(text: string): string | undefined {
  try {
    return decodeURIComponent(text);
  } catch {
    return undefined;
  }
}

function withoutBrackets(host: string): string {
  return host.replace(/^\[(.*)\]$/, "$1");
}

/** Host and port, with the brackets of IPv6; or the path. */
export function addressText(address: RedisAddress): string {
  if ("path" in address) return address.path;
  const { host, port } = address;
  return host.includes(":") ? `[${host}]:${port}` : `${host}:${port}`;
}

/** Host and port, the path of the socket, or all nodes and the name of the primary. @param url without errors */
export function redisAddress(url: string): string {
  const { topology } = readRedisUrl(url);
  switch (topology.kind) {
    case "address":
      return addressText(topology.address);
    case "sentinel":
      return `${topology.nodes.map(addressText).join(",")}/${topology.name}`;
    case "cluster":
      return topology.nodes.map(addressText).join(",");
  }
}

/** In a URL that cannot be read, everything that may belong to a password. */
const password = /^([\w+]+:\/\/[^/?#]*?:)([^/?#]*)@/;
const sentinelPassword = /([?&]sentinel_password=)(.*?)(?=&(?:db|sentinel_username)=|$)/gs;

/** The rest stays as it was written. */
export function withoutPassword(url: string): string {
  return url.replace(password, "$1[secret]@").replace(sentinelPassword, "$1[secret]");
}

/** The passwords as they are written, and decoded. */
export function passwordsOf(url: string): string[] {
  const written = [
    password.exec(url)?.[2],
    ...Array.from(url.matchAll(sentinelPassword), ([, , text]) => text),
  ];
  return written.flatMap((text) => (text === undefined ? [] : [text, decode(text) ?? text]));
}
