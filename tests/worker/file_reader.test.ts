import { expect, test } from "bun:test";
import type { DecodedEmail } from "../../lib/policy/batch.ts";
import { readFiles } from "../../lib/worker/file_reader.ts";
import { email } from "../policy/fixtures.ts";

const first = Buffer.from("first");
const second = Buffer.from([0, 255]);
const both = Buffer.concat([first, second]);
const withFiles = emailWith(first, second);

function emailWith(...contents: readonly Uint8Array[]): DecodedEmail {
  const attachments = contents.map((content) => ({
    filename: "a.pdf",
    content_type: "application/pdf",
    size: content.byteLength,
    sha256: new Bun.CryptoHasher("sha256").update(content).digest("hex"),
  }));
  return email("a", { attachments });
}

const readFrom = (stored: Uint8Array | undefined) =>
  readFiles({ readFiles: async () => stored }, [withFiles, email("b")]);

test("file reader: the files of an email are cut by their sizes", async () => {
  const { emails, lost } = await readFrom(both);
  expect(emails.map(({ id, files }) => [id, files?.map((file) => Buffer.from(file))])).toEqual([
    ["a", [first, second]],
    ["b", undefined],
  ]);
  expect(lost.size).toBe(0);
});

test.each([
  ["missing", undefined],
  ["empty", new Uint8Array()],
  ["too short", both.subarray(0, -1)],
  ["too long", Buffer.concat([both, second])],
  ["altered", Buffer.from("First\u0000ÿ", "latin1")],
  ["in another order", Buffer.concat([second, first])],
])("file reader: files that are %s are lost", async (_, stored) => {
  const { emails, lost } = await readFrom(stored);
  expect([...lost]).toEqual(["a"]);
  expect(emails.filter(({ files }) => files !== undefined)).toEqual([]);
});
