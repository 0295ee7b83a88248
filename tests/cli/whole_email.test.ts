// What the operator's commands show of copies, headers, tags, attachments and scheduled emails.

import { afterAll, describe, expect, test } from "bun:test";
import { jsonOfCli, runCli } from "../support/cli.ts";
import { useProcesses } from "../support/processes.ts";
import { type ShapedQueue, shapeQueue } from "../support/queue_states.ts";

const stack = useProcesses();
const sha256 = (content: Uint8Array) => new Bun.CryptoHasher("sha256").update(content).digest("hex");

const files = [
  new TextEncoder().encode("first"),
  Uint8Array.from({ length: 700_000 }, (_, i) => (i * 31 + (i >> 9)) & 0xff),
  new Uint8Array([0, 255]),
];
const attachments = [
  { filename: "report.pdf", content_type: "application/pdf" },
  { filename: "../../evil\u001b[2J\u202e.png", content_type: "image/png", content_id: "logo.png" },
  { filename: "x.bin", content_type: "application/octet-stream" },
].map((given, i) => ({ ...given, size: files[i]!.length, sha256: sha256(files[i]!) }));

const email = {
  cc: ["copy@example.org", "other@example.net"],
  bcc: ["hidden@example.org", "secret@example.com"],
  headers: [
    ["List-Id", "<news.example.com>"],
    ["X-Odd", "a: b, c"],
  ],
  tags: [
    ["campaign", "welcome"],
    ["__proto__", "x"],
  ],
} as const;

describe.each([
  ["the embedded queue", () => stack.embedded()],
  ["Redis", () => stack.settings()],
])("queue: on %s", (_, settings) => {
  const opened: ShapedQueue[] = [];
  afterAll(async () => {
    await Promise.all(opened.map((one) => one.close()));
  });
  async function open() {
    const env = settings();
    const queue = await shapeQueue(env);
    opened.push(queue);
    return { env, queue };
  }

  test("show prints copies, headers, tags and attachments, and escapes hostile names", async () => {
    const { env, queue } = await open();
    const [id = ""] = await queue.submit(1, { ...email, attachments }, files);
    const shown = await jsonOfCli(env, ["queue", "show", id]);
    expect(shown).toMatchObject({ cc: email.cc, bcc: email.bcc, attachments });
    expect(Object.entries(shown.headers)).toEqual(email.headers.map((pair) => [...pair]));
    expect(Object.entries(shown.tags)).toEqual(email.tags.map((pair) => [...pair]));
    const { stdout } = await runCli(env, "queue", "show", id);
    for (const line of [
      /^Cc +copy@example\.org, other@example\.net$/m,
      /^Bcc +hidden@example\.org, secret@example\.com$/m,
      /^Headers +List-Id: <news\.example\.com>\n +X-Odd: a: b, c$/m,
      /^Tags +campaign: welcome\n +__proto__: x$/m,
      /^Attachments +1\. report\.pdf \(application\/pdf, 5 bytes\)$/m,
      /^ +2\. \.\.\/\.\.\/evil\\x1b\[2J\\u202e\.png \(image\/png, 684 KiB, cid:logo\.png\)$/m,
    ])
      expect(stdout).toMatch(line);
  });

  test("Bcc is in no list, whatever state the email is in", async () => {
    const { env, queue } = await open();
    await queue.dead(1, "no", {}, email);
    await queue.submit(1, email);
    for (const state of ["dead", "waiting"]) {
      const [listed] = await jsonOfCli(env, ["queue", "list", state]);
      expect(listed).toMatchObject({ cc: email.cc });
      const { stdout } = await runCli(env, "queue", "list", state);
      expect(JSON.stringify(listed) + stdout).not.toMatch(/bcc|hidden|secret/);
    }
  });
});
