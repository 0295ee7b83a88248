// Sends one command to a Redis on this machine and waits for the reply without a process: redis-cli takes 7 ms of CPU
// time to start, and the tests of several nodes ask for their state all the time.

import { dlopen, ptr } from "bun:ffi";

const { symbols: libc } = dlopen("libc.so.6", {
  socket: { args: ["i32", "i32", "i32"], returns: "i32" },
  connect: { args: ["i32", "ptr", "u32"], returns: "i32" },
  send: { args: ["i32", "ptr", "u64", "i32"], returns: "i32" },
  recv: { args: ["i32", "ptr", "u64", "i32"], returns: "i32" },
  close: { args: ["i32"], returns: "i32" },
});
const [AF_INET, SOCK_STREAM, MSG_NOSIGNAL] = [2, 1, 0x4000];

/** @returns the reply as redis-cli prints it into a pipe; empty if there is no connection */
export function askRedis(port: number, command: readonly string[], password = ""): string {
  const socket = libc.socket(AF_INET, SOCK_STREAM, 0);
  try {
    const address = Buffer.from([AF_INET, 0, port >> 8, port & 0xff, 127, 0, 0, 1, ...Array(8).fill(0)]);
    if (libc.connect(socket, ptr(address), address.length) !== 0) return "";
    if (password !== "") exchange(socket, ["AUTH", password]);
    return textOf(exchange(socket, command)).trim();
  } finally {
    libc.close(socket);
  }
}

type Reply = string | readonly Reply[];

function exchange(socket: number, words: readonly string[]): Reply {
  const lengths = words.map((word) => `$${Buffer.byteLength(word)}\r\n${word}\r\n`);
  let left = Buffer.from(`*${words.length}\r\n${lengths.join("")}`);
  while (left.length > 0) {
    const sent = libc.send(socket, ptr(left), left.length, MSG_NOSIGNAL);
    if (sent < 0) return "";
    left = left.subarray(sent);
  }
  const part = Buffer.alloc(65_536);
  let received = Buffer.alloc(0);
  for (;;) {
    const reply = parse(received, 0);
    if (reply !== undefined) return reply[0];
    const count = libc.recv(socket, ptr(part), part.length, 0);
    if (count <= 0) return "";
    received = Buffer.concat([received, part.subarray(0, count)]);
  }
}

/** Returns the reply at an offset and where it ends, or undefined if it has not arrived whole. */
function parse(bytes: Buffer, from: number): [Reply, number] | undefined {
  const lineEnd = bytes.indexOf("\r\n", from);
  if (lineEnd < 0) return undefined;
  const kind = bytes.toString("latin1", from, from + 1);
  const line = bytes.toString("utf8", from + 1, lineEnd);
  let at = lineEnd + 2;
  if (kind === "$") {
    const end = at + Number(line);
    if (line === "-1") return ["", at];
    return end + 2 > bytes.length ? undefined : [bytes.toString("utf8", at, end), end + 2];
  }
  if (kind !== "*") return [line, at];
  const items: Reply[] = [];
  for (let index = 0; index < Number(line); index += 1) {
    const item = parse(bytes, at);
    if (item === undefined) return undefined;
    items.push(item[0]);
    at = item[1];
  }
  return [items, at];
}

function textOf(reply: Reply): string {
  return typeof reply === "string" ? reply : reply.map(textOf).join("\n");
}
