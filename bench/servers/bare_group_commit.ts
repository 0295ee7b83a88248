// The limit of group commit: a handler that checks nothing, or with FORM=1 the least, and a store that knows no ids.
// Everything that arrives during a write goes into the next one: one RPUSH with REDIS_URL, otherwise one transaction in
// DATA_DIR/bare.db.

import { Database } from "bun:sqlite";
import { join } from "node:path";
import { Redis } from "ioredis";
import { readEmail } from "./form.ts";

const { REDIS_URL, DATA_DIR = ".", FORM } = process.env;
const write = REDIS_URL === undefined ? openFile(join(DATA_DIR, "bare.db")) : openList(REDIS_URL);

function openList(url: string) {
  const redis = new Redis(url);
  return (texts: string[]) => redis.rpush("emails", ...texts);
}

function openFile(path: string) {
  const file = new Database(path);
  file.run("PRAGMA journal_mode = WAL");
  file.run("PRAGMA synchronous = FULL");
  file.run("CREATE TABLE emails (text TEXT)");
  const insert = file.query("INSERT INTO emails VALUES (?)");
  const all = file.transaction((texts: string[]) => {
    for (const text of texts) insert.run(text);
  });
  return async (texts: string[]) => void all.immediate(texts);
}

let texts: string[] = [];
let next: Promise<unknown> | undefined;
let underWay: Promise<unknown> = Promise.resolve();

/** Resolves once the text is stored. */
function store(text: string): Promise<unknown> {
  texts.push(text);
  next ??= commit();
  return next;
}

async function commit(): Promise<void> {
  await underWay;
  // Not a microtask: those run before the next socket of the same turn is read.
  await new Promise(setImmediate);
  const group = texts;
  texts = [];
  next = undefined;
  underWay = write(group);
  await underWay;
}

const server = Bun.serve({
  hostname: "127.0.0.1",
  port: 0,
  development: false,
  async fetch(request) {
    const body = await request.text();
    const email = FORM === undefined ? body : readEmail(body);
    if (email === undefined) return Response.json({ ok: false }, { status: 400 });
    await store(typeof email === "string" ? email : JSON.stringify(email));
    return Response.json({ ok: true, id: Bun.randomUUIDv7() });
  },
});
console.log(JSON.stringify({ event: "server-listening", port: server.port }));
