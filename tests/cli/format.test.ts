import { describe, expect, test } from "bun:test";
import { type Column, Table, tableOf } from "../../lib/cli/table.ts";
import { paint, type Terminal, terminalOf } from "../../lib/cli/terminal.ts";
import {
  formatAge,
  formatBytes,
  formatCount,
  formatNumber,
  jsonOf,
  visible,
  visibleLines,
} from "../../lib/cli/format.ts";

const plain: Terminal = { width: undefined, hasColors: false, canAsk: false, showsProgress: false };

describe("text: an email", () => {
  // Clears the screen, sets the title, uses a C1 byte, ends a line twice, and changes the text direction.
  const hostile = "a\u001b[2J\u001b]0;x\u0007\u009b31m\u0085\u2028\u202eb\u2066\u007f\r";

  test("cannot control the terminal that shows it", () => {
    expect(visible(`${hostile}\n\t`)).toBe(
      "a\\x1b[2J\\x1b]0;x\\x07\\x9b31m\\x85\\u2028\\u202eb\\u2066\\x7f\\x0d\\x0a\\x09",
    );
    expect(visibleLines("a\r\nb\n\tc\rd\u001b")).toBe("a\nb\n\tc\\x0dd\\x1b");
    expect(visible("Grüße, 伯爵 👋")).toBe("Grüße, 伯爵 👋");
  });

  test("cannot do so as JSON either, which keeps its text", () => {
    const json = jsonOf({ subject: hostile });
    // oxlint-disable-next-line no-control-regex
    expect(json).toMatch(/^[\u0020-\u007e]+$/);
    expect(JSON.parse(json)).toEqual({ subject: hostile });
  });
});

test.each([
  [0, "0"],
  [999, "999"],
  [1000, "1,000"],
  [-100_000, "-100,000"],
  [1_234_567, "1,234,567"],
])("text: the number %i is %s", (count, text) => {
  expect(formatNumber(count)).toBe(text);
});

test.each([
  [0, "now"],
  [999, "now"],
  [1000, "1s ago"],
  [90_000, "90s ago"],
  [180_000, "3m ago"],
  [7_200_000, "2h ago"],
  [26 * 3_600_000, "26h ago"],
  [50 * 3_600_000, "2d ago"],
  [-180_500, "in 3m"],
])("text: %i ms ago is %s", (ms, text) => {
  expect(formatAge(1_000_000_000 - ms, 1_000_000_000)).toBe(text);
});

test("text: numbers are formatted for people", () => {
  expect([formatCount(1, "email"), formatCount(0, "email"), formatCount(1024, "email")]).toEqual([
    "1 email",
    "0 emails",
    "1,024 emails",
  ]);
  expect([512, 1024, 10 * 1024, 5 * 1024 ** 3].map(formatBytes)).toEqual([
    "512 bytes",
    "1.0 KiB",
    "10 KiB",
    "5.0 GiB",
  ]);
});

describe("a table", () => {
  interface Row {
    readonly id: string;
    readonly count: number;
    readonly text: string;
  }
  const columns: Column<Row>[] = [
    ["ID", ({ id }) => id],
    ["COUNT", ({ count }) => count],
    ["TEXT", ({ text }) => text],
  ];
  const rows: Row[] = [
    { id: "a", count: 1, text: "short" },
    { id: "bb", count: 20_000, text: "a text that is longer than there is room" },
  ];

  test("is aligned, and not shortened without a width", () => {
    expect(tableOf(columns, rows, plain)).toEqual([
      "ID   COUNT  TEXT",
      "a        1  short",
      "bb  20,000  a text that is longer than there is room",
    ]);
  });

  test.each([20, 24, 30, 40, 52])("fits into %i columns", (width) => {
    const lines = tableOf(columns, rows, { ...plain, width });
    // Columns that cannot be cut keep their width, and others keep at least ten characters.
    expect(Math.max(...lines.map((line) => Bun.stringWidth(line)))).toBeLessThanOrEqual(Math.max(width, 21));
    expect(lines[2]).toEndWith(width >= 52 ? "room" : "…");
  });

  test("cuts a column in the middle at a third of the terminal, so that the last one stays in sight", () => {
    const wide: Column<Row>[] = [columns[0]!, columns[2]!, columns[1]!];
    expect(tableOf(wide, rows, { ...plain, width: 30 })).toEqual([
      "ID  TEXT         COUNT",
      "a   short            1",
      "bb  a text th…  20,000",
    ]);
  });

  test("measures terminal columns, not characters, and never cuts a character", () => {
    const wide = [{ id: "伯爵", count: 1, text: "👨‍👩‍👧 é 伯爵伯爵伯爵伯爵" }];
    const [titles, line] = tableOf(columns, wide, { ...plain, width: 24 });
    expect(titles).toBe("ID    COUNT  TEXT");
    expect(line).toStartWith("伯爵      1  👨‍👩‍👧 é");
    expect(Bun.stringWidth(line!)).toBeLessThanOrEqual(24);
  });

  test("printed page by page has its titles once, and keeps its column widths", () => {
    const table = new Table(columns, plain);
    expect(table.lines([rows[1]!])).toHaveLength(2);
    expect(table.lines([rows[0]!])).toEqual(["a        1  short"]);
  });

  test("has no line that an email adds", () => {
    expect(tableOf(columns, [{ id: "a", count: 1, text: "one\ntwo" }], plain)).toHaveLength(2);
  });
});

test("a terminal: without one there are no colors, questions or progress", () => {
  const here = terminalOf({});
  if (here.width !== undefined) return;
  expect(here).toMatchObject({ hasColors: false, canAsk: false });
  expect(paint(here, "text", "red")).toBe("text");
  const painted = paint({ ...here, hasColors: true }, "text", "bold", "red");
  expect(painted).toStartWith("\x1b[1m\x1b[31mtext\x1b[");
  expect(Bun.stripANSI(painted)).toBe("text");
});
