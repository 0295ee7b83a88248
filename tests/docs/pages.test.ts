// Every page that shows a command has a test that runs it.

import { expect, test } from "bun:test";
import { existsSync, readFileSync } from "node:fs";
import { basename, join } from "node:path";
import { notRun } from "./not_run.ts";
import { commandsOf, commandsToRun, pages } from "./page.ts";

const root = join(import.meta.dir, "../..");
const read = (path: string) => readFileSync(join(root, path), "utf8");

/** Pages whose blocks are run by another test, with that test. */
const elsewhere: Readonly<Record<string, string>> = {
  "docs/clients.md": "tests/clients/examples.test.ts",
};

test("docs: every page with commands has a test that walks through them", () => {
  const withCommands = pages.filter((path) => commandsToRun(path).length > 0);
  expect(withCommands.length).toBeGreaterThan(10);
  const missing = withCommands.filter((path) => {
    const file = elsewhere[path] ?? `tests/docs/${basename(path, ".md").toLowerCase()}.test.ts`;
    return !existsSync(join(root, file)) || !read(file).includes(path);
  });
  expect(missing).toEqual([]);
});

test("docs: the commands in not_run.ts are on their pages", () => {
  const gone = Object.entries(notRun).flatMap(([path, listed]) => {
    const texts = commandsOf(read(path)).map(({ text }) => text);
    return Object.keys(listed).filter((command) => !texts.includes(command));
  });
  expect(gone).toEqual([]);
});

test("docs: each line of a shell block is a command, with its continuation lines", () => {
  const block = [
    "```sh",
    "# why",
    "one \\",
    "  two",
    "cat <<'END'",
    "text",
    "END",
    "for a in b",
    "do",
    "done",
    "```",
    "",
    "Or `curl x` and `npm test`.",
  ];
  expect(commandsOf(block.join("\n")).map(({ line, text }) => [line, text])).toEqual([
    [3, "one \\\n  two"],
    [5, "cat <<'END'\ntext\nEND"],
    [8, "for a in b\ndo\ndone"],
    [13, "curl x"],
  ]);
});
