// The commands of a page, which a test takes in their order on the page without leaving any out. A command is a line of
// a shell block (with its continuation lines), any other block as a whole, or a code span in a sentence that begins
// with the name of a program.

import { test } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { hasMachine, type Machine, orWhyNot, startMachine } from "./machine.ts";
import { notRun } from "./not_run.ts";

const root = join(import.meta.dir, "../..");
const program =
  /^(?:npm|npx|runuser|node_modules\/\S+|bun|git|reliable-email|curl|openssl|sqlite3|redis-\w+|redis-check-aof|systemctl|journalctl|sysctl|apt-get|cp|chown|pkill|nohup) \S/;
/** A mere mention: docs.test.ts checks that the script exists. */
const mention = /^npm (?:run )?[a-z]+$/;

/** The pages for users, operators and contributors. */
export const pages: readonly string[] = [
  "README.md",
  "CONTRIBUTING.md",
  "SECURITY.md",
  ...new Bun.Glob("docs/**/*.md").scanSync({ cwd: root }),
].toSorted();

export interface Command {
  /** 1-based. */
  readonly line: number;
  readonly text: string;
  /** Empty for a span, and for a block without a language. */
  readonly language: string;
  /** The first line of its block, or its own line for a span. */
  readonly block: number;
}

/** Every command of a document, in order. */
export function commandsOf(document: string): Command[] {
  const lines = document.split("\n");
  const commands: Command[] = [];
  for (let at = 0; at < lines.length; at += 1) {
    const [, indent = "", language] = /^( *)```(\w*)$/.exec(lines[at]!) ?? [];
    if (language === undefined) {
      for (const [, text = ""] of lines[at]!.matchAll(/`([^`]+)`/g)) {
        if (!program.test(text) || mention.test(text)) continue;
        commands.push({ line: at + 1, text, language: "", block: at + 1 });
      }
      continue;
    }
    const end = lines.indexOf(`${indent}\`\`\``, at + 1);
    if (end === -1) throw new Error(`line ${at + 1}: the block has no end`);
    const block = lines.slice(at + 1, end).map((line) => line.slice(indent.length));
    const parts = language === "sh" ? linesOfShell(block) : [{ offset: 0, text: block.join("\n") }];
    for (const { offset, text } of parts)
      commands.push({ line: at + 2 + offset, text, language, block: at + 1 });
    at = end;
  }
  return commands;
}

const closers: Readonly<Record<string, string>> = { for: "done", while: "done", if: "fi", case: "esac" };

function linesOfShell(block: readonly string[]): { offset: number; text: string }[] {
  const found: { offset: number; text: string }[] = [];
  let part: string[] = [];
  let until: string | undefined;
  for (const [offset, line] of block.entries()) {
    if (part.length === 0 && /^\s*(?:#|$)/.test(line)) continue;
    part.push(line.replace(/ +# .*$/, ""));
    until ??= /<<'?(\w+)'?/.exec(line)?.[1] ?? closers[/^\w+/.exec(line)?.[0] ?? ""];
    if (until !== undefined ? line !== until : line.endsWith("\\")) continue;
    found.push({ offset: offset - part.length + 1, text: part.join("\n") });
    part = [];
    until = undefined;
  }
  return found;
}

export interface Page {
  /** The next command, which must begin like this. */
  next(start: string): string;
  /** The next command, which must begin like this, and the rest of its block. */
  block(start: string): string;
}

/** The commands that are not listed in not_run.ts. */
export function commandsToRun(path: string): Command[] {
  const listed = notRun[path] ?? {};
  return commandsOf(readFileSync(join(root, path), "utf8")).filter(({ text }) => !(text in listed));
}

/** The page, and a check that no command of it is left. */
function openPage(path: string): { page: Page; end: () => void } {
  const rest = commandsToRun(path);
  const advice = `Run it in the test of the page, or list it in tests/docs/not_run.ts`;

  function take(start: string): Command {
    const command = rest.shift();
    if (command?.text.startsWith(start) === true) return command;
    const found = command === undefined ? "nothing" : `${path}:${command.line}: ${command.text}`;
    throw new Error(`The next command begins with ${start} in the test, but is ${found}. ${advice}`);
  }

  return {
    page: {
      next: (start) => take(start).text,
      block(start) {
        const { text, block } = take(start);
        const texts = [text];
        while (rest[0]?.block === block) texts.push(rest.shift()!.text);
        return texts.join("\n");
      },
    },
    end() {
      const [left] = rest;
      if (left !== undefined) throw new Error(`${path}:${left.line} is not run: ${left.text}. ${advice}`);
    },
  };
}

/** Declares a test that walks through a page on its own machine. */
export function testPage(path: string, walk: (page: Page, machine: Machine) => Promise<void>): void {
  test.if(hasMachine)(`docs: the commands of ${path} do what it says${orWhyNot}`, async () => {
    const { page, end } = openPage(path);
    const machine = await startMachine();
    try {
      await walk(page, machine);
      end();
    } catch (error) {
      console.error(await machine.run("journalctl --no-pager --lines 40").catch(String));
      throw error;
    } finally {
      await machine.stop();
    }
  });
}
