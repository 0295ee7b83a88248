// The operator's commands show copies, headers, tags, attachments and scheduled emails.

import { describe, expect, test } from "bun:test";
import { tmpdir } from "node:os";
import { encodeRecord, noHistory } from "../../lib/policy/history.ts";
import { cliCommand, cliInTerminal, jsonOfCli, runCli } from "../support/cli.ts";
import { useProcesses } from "../support/processes.ts";
import { useShapedQueues } from "../support/queue_states.ts";

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

/** Runs `queue show --attachment`, whose output is not text. */
async function attachmentOf(env: Readonly<Record<string, string>>, id: string, number: string) {
  const child = Bun.spawn(cliCommand("queue", "show", id, "--attachment", number), {
    env: { PATH: process.env["PATH"] ?? "", ...env },
    cwd: tmpdir(),
    stdin: "ignore",
    stdout: "pipe",
    stderr: "pipe",
  });
  const [stdout, stderr] = await Promise.all([child.stdout.bytes(), child.stderr.text()]);
  return { code: await child.exited, stdout: Buffer.from(stdout), stderr };
}

describe.each([
  ["the embedded queue", () => stack.embedded()],
  ["Redis", () => stack.settings()],
])("queue: on %s", (_, settings) => {
  const open = useShapedQueues(settings);

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
    await queue.dead(1, "refused: HIDDEN@example.org", {}, email);
    await queue.submit(1, email);
    const stats = await runCli(env, "queue", "stats");
    expect(stats.stdout).toContain("refused: (a Bcc address)");
    for (const state of ["dead", "waiting"]) {
      const [listed] = await jsonOfCli(env, ["queue", "list", state]);
      expect(listed).toMatchObject({ cc: email.cc });
      const { stdout } = await runCli(env, "queue", "list", state);
      expect(JSON.stringify(listed) + stdout).not.toMatch(/"bcc|hidden|secret/i);
    }
  });

  test("show --attachment writes the bytes of one attachment, and nothing else", async () => {
    const { env, queue } = await open();
    const [id = ""] = await queue.submit(1, { attachments }, files);
    for (const [i, content] of files.entries()) {
      const ran = await attachmentOf(env, id, `${i + 1}`);
      expect({ ...ran, stdout: ran.stdout.equals(content) }).toEqual({ code: 0, stdout: true, stderr: "" });
    }
    expect(await attachmentOf(env, id, "4")).toMatchObject({ code: 1, stderr: `${id} has 3 attachments\n` });
    const [plain = ""] = await queue.submit(1);
    expect(await attachmentOf(env, plain, "1")).toMatchObject({
      code: 1,
      stderr: `${plain} has 0 attachments\n`,
    });
    for (const [args, reason] of [
      [["--attachment", "0"], "--attachment 0 is not a whole number of at least 1"],
      [["--attachment", "1", "--json"], "Use either --attachment or --json, not both"],
    ] as const)
      expect(await runCli(env, "queue", "show", id, ...args)).toMatchObject({
        code: 2,
        stderr: expect.stringContaining(reason),
      });
    const child = cliInTerminal(env, ["queue", "show", id, "--attachment", "1"]);
    expect(await child.exited).toBe(2);
    expect(child.shown()).toContain("does not write to a terminal: add > FILE");
    expect(child.shown()).not.toContain("first");
  });

  test("show --attachment says that the content is gone with a sent or deleted email", async () => {
    const { env, queue } = await open();
    const [sent = ""] = await queue.sent(1, { attachments }, files);
    const shown = await jsonOfCli(env, ["queue", "show", sent]);
    expect(shown).toMatchObject({ state: "sent", attachments });
    expect(await attachmentOf(env, sent, "1")).toMatchObject({
      code: 1,
      stderr: `${sent} was sent: its content is no longer kept\n`,
    });
    const [deleted = ""] = await queue.submit(1, { attachments }, files);
    await runCli(env, "queue", "delete", deleted);
    expect(await attachmentOf(env, deleted, "1")).toMatchObject({
      code: 1,
      stderr: `${deleted} was deleted: nothing of it is kept\n`,
    });
    expect((await queue.admin.stats()).fileBytes).toBe(0);
  });

  test("show --attachment reports content that is not what was submitted", async () => {
    const { env, queue } = await open();
    const altered = files.map((content, i) => (i === 1 ? new Uint8Array(content.length) : content));
    const [id = ""] = await queue.submit(1, { attachments }, altered);
    expect(await attachmentOf(env, id, "1")).toMatchObject({ code: 0, stderr: "" });
    const { code, stdout, stderr } = await attachmentOf(env, id, "2");
    expect({ code, stderr }).toEqual({
      code: 1,
      stderr: `Attachment 2 of ${id} is damaged: its SHA-256 is not that of the submitted file\n`,
    });
    expect(stdout.equals(altered[1]!)).toBe(true);
  });

  test("show has the note of a provider about an email that it accepted", async () => {
    const { env, queue } = await open();
    const { ids, batch } = await queue.sending();
    const reason = "Postmark does not deliver it to jane@example.org: inactive after a bounce or a complaint";
    const noted = { provider: "postmark", atMs: 1_700_000_000_000, outcome: "accepted", reason } as const;
    const record = encodeRecord({
      batchId: batch.id,
      provider: "postmark",
      providerMessageId: "the-message",
      atMs: 1_700_000_000_000,
      history: { ...noHistory, attempts: { kept: [noted], total: 1 } },
    });
    const fates = ids.map((id) => ({ id, kind: "sent", record }) as const);
    await queue.consumer.settle(batch, { fates, counts: {} });
    const { stdout } = await runCli(env, "queue", "show", ids[0]!);
    expect(stdout).toMatch(/^State +sent: /m);
    expect(stdout).toContain(`accepted  ${reason}`);
  });

  test("stats counts the bytes of attachments until their emails are sent or deleted", async () => {
    const { env, queue } = await open();
    expect((await runCli(env, "queue", "stats")).stdout).not.toContain("Attachments");
    const [id = ""] = await queue.dead(1, "no", {}, { attachments }, files);
    expect(await jsonOfCli(env, ["queue", "stats"])).toMatchObject({ file_bytes: 700_007 });
    expect((await runCli(env, "queue", "stats")).stdout).toMatch(
      /^Attachments +684 KiB of emails that are not sent$/m,
    );
    await runCli(env, "queue", "delete", id);
    expect(await jsonOfCli(env, ["queue", "stats"])).toMatchObject({ file_bytes: 0 });
  });

  test("a scheduled email is counted, listed and shown with its time, and deleting it cancels it", async () => {
    const { env, queue } = await open();
    const send_at = new Date(Date.now() + 3 * 24 * 3_600_000 + 60_000).toISOString();
    const [id = ""] = await queue.submit(1, { send_at, subject: "Later" });
    expect(await jsonOfCli(env, ["queue", "stats"])).toMatchObject({ scheduled: 1, waiting: 0 });
    const shown = await jsonOfCli(env, ["queue", "show", id]);
    expect(shown).toMatchObject({ state: "scheduled", send_at, due_at: send_at });
    expect(await jsonOfCli(env, ["queue", "list", "scheduled"])).toMatchObject([{ id, due_at: send_at }]);
    const { stdout } = await runCli(env, "queue", "list", "scheduled");
    expect(stdout).toMatch(/^ID +DUE +SUBMITTED +TO +SUBJECT$/m);
    expect(stdout).toMatch(new RegExp(`^${id} +in 3d +.*jane@example\\.org +Later$`, "m"));
    const detailed = (await runCli(env, "queue", "show", id)).stdout;
    expect(detailed).toMatch(/^State +scheduled: not to be sent before its time$/m);
    expect(detailed).toContain(`Due       ${send_at} (in 3d)`);
    expect(await jsonOfCli(env, ["queue", "retry", id], 1)).toMatchObject({
      failed: [{ id, problem: "scheduled" }],
    });
    expect(await jsonOfCli(env, ["queue", "delete", id])).toMatchObject({ deleted: 1 });
    expect(await jsonOfCli(env, ["queue", "stats"])).toMatchObject({ scheduled: 0 });
  });

  test("retry sends a dead letter at once whose time to send is over, with its files", async () => {
    const { env, queue } = await open();
    const email = { attachments, send_at: "2026-01-02T03:04:05.000Z" };
    const [id = ""] = await queue.dead(1, "no", {}, email, files);
    expect(await jsonOfCli(env, ["queue", "retry", id])).toMatchObject({ retried: [id] });
    const batch = await queue.reclaim();
    expect(batch.emails.map((one) => one.id)).toEqual([id]);
    expect(Buffer.concat(files).equals((await queue.consumer.readFiles(id))!)).toBe(true);
  });

  test("clear deletes scheduled emails too", async () => {
    const { env, queue } = await open();
    await queue.submit(2, { send_at: new Date(Date.now() + 3_600_000).toISOString() });
    await queue.submit(1);
    expect((await runCli(env, "queue", "clear")).stderr).toContain(
      "Delete 3 scheduled, waiting or retrying emails permanently",
    );
    expect(await jsonOfCli(env, ["queue", "clear", "--yes"])).toMatchObject({ deleted: 3 });
    expect((await queue.admin.stats()).states).toMatchObject({ scheduled: 0, waiting: 0 });
  });
});
