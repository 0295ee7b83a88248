import { expect, test } from "bun:test";
import { FileMemory } from "../../lib/worker/file_memory.ts";

const hourMs = 3_600_000;

test("file memory: requests wait for room, the first one before the others", async () => {
  const memory = new FileMemory(10);
  const taken: string[] = [];
  const take = async (name: string, bytes: number) => {
    const free = await memory.take(bytes, hourMs);
    taken.push(name);
    return free!;
  };
  const [a, b] = [await take("a", 6), await take("b", 4)];
  const c = take("c", 5);
  const d = take("d", 1);
  // There is room for "d", but "c" came first.
  b();
  await Promise.resolve();
  expect(taken).toEqual(["a", "b"]);
  a();
  await Promise.all([c, d]);
  expect(taken).toEqual(["a", "b", "c", "d"]);
});

test("file memory: one that waited too long gets none, and the next one may have it", async () => {
  const memory = new FileMemory(10);
  const free = await memory.take(8, hourMs);
  const [late, next] = [memory.take(5, 1), memory.take(2, hourMs)];
  expect(await late).toBeUndefined();
  expect(await next).toBeFunction();
  free!();
  expect(await memory.take(8, hourMs)).toBeFunction();
});

test("file memory: files larger than all of it have it alone", async () => {
  const memory = new FileMemory(10);
  const free = await memory.take(100, hourMs);
  expect(await memory.take(1, 1)).toBeUndefined();
  free!();
  expect(await memory.take(1, 1)).toBeFunction();
});

test("file memory: garbage is collected once a quarter of it has been given back", async () => {
  const collected = Promise.withResolvers<void>();
  let count = 0;
  const memory = new FileMemory(40, () => {
    count += 1;
    collected.resolve();
  });
  for (const bytes of [4, 5, 1, 9]) (await memory.take(bytes, hourMs))!();
  await collected.promise;
  expect(count).toBe(1);
});

test("file memory: the garbage of requests that end together is collected once", async () => {
  let count = 0;
  const memory = new FileMemory(40, () => (count += 1));
  const frees = await Promise.all([10, 10, 10].map((bytes) => memory.take(bytes, hourMs)));
  for (const free of frees) free!();
  await new Promise((resolve) => setTimeout(resolve, 1));
  expect(count).toBe(1);
});
