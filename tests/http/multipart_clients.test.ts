// Multipart forms as clients write them, byte for byte: captured from curl and Python's requests, and for the others written
// as their sources do. Each has a text with letters outside ASCII, and files with and without such a name.

import { expect, test } from "bun:test";
import { bodyReader, readBody } from "../../lib/http/body/body.ts";
import { checkSubmission } from "../../lib/http/submission.ts";

interface Golden {
  readonly boundary: string;
  /** Each with its lines; the last is the content. */
  readonly parts: readonly (readonly string[])[];
  /** Names of the attachments, their types, and their content ids. */
  readonly files: readonly (readonly [filename: string, type: string, id?: string])[];
}

const csv = "text/csv";
const png = "image/png";
const text = (name: string, value: string) => [`Content-Disposition: form-data; name="${name}"`, "", value];
const required = [
  ["subject", "Grüße"],
  ["body", "é\r\n😀"],
  ["to", "ada@example.org"],
] as const;
const plain = required.map(([name, value]) => text(name, value));
const listed = [
  ["cc", "a@example.org"],
  ["cc", "b@example.org"],
  ["headers[List-Unsubscribe]", "<https://example.com/u>"],
] as const;
/** Some libraries name the length of each text. */
const withLengths = required.map(([name, value]) => {
  const [head = "", ...rest] = text(name, value);
  return [head, `Content-Length: ${Buffer.byteLength(value)}`, ...rest];
});

const goldens: Record<string, Golden> = {
  "curl 7.88": {
    boundary: "------------------------8e2ff0433dd2965e",
    parts: [
      ...plain,
      [
        'Content-Disposition: form-data; name="attachment"; filename="r%22é.csv"',
        "Content-Type: application/octet-stream",
        "",
        "a,b\r\n",
      ],
      [
        'Content-Disposition: form-data; name="attachment"; filename="b.png"',
        "Content-Type: image/png",
        "",
        "\x89PNG",
      ],
      [
        'Content-Disposition: form-data; name="inline"; filename="logo.png"',
        "Content-Type: image/png",
        "",
        "\x89PNG",
      ],
      ...listed.map(([name, value]) => text(name, value)),
    ],
    files: [
      ["r%22é.csv", csv],
      ["b.png", png],
      ["logo.png", png, "logo.png"],
    ],
  },
  "curl --form-escape, and before 7.81": {
    boundary: "------------------------d74496d66958873e",
    parts: [
      ...plain,
      [
        'Content-Disposition: form-data; name="attachment"; filename="r\\"é.csv"',
        "Content-Type: text/csv",
        "",
        "a",
      ],
      ...listed.map(([name, value]) => text(name, value)),
    ],
    files: [['r"é.csv', csv]],
  },
  "a browser": {
    boundary: "----WebKitFormBoundary7MA4YWxkTrZu0gW",
    parts: [
      ...plain,
      text("cc[]", "a@example.org"),
      text("cc[]", "b@example.org"),
      text("bcc[]", ""),
      text("headers[List-Unsubscribe]", "<https://example.com/u>"),
      [
        'Content-Disposition: form-data; name="attachments[]"; filename="r%22é.csv"',
        "Content-Type: application/vnd.ms-excel",
        "",
        "a",
      ],
      [
        'Content-Disposition: form-data; name="attachments[]"; filename="no extension"',
        "Content-Type: application/octet-stream",
        "",
        "\0",
      ],
      [
        'Content-Disposition: form-data; name="photo"; filename=""',
        "Content-Type: application/octet-stream",
        "",
        "",
      ],
    ],
    files: [
      ["r%22é.csv", csv],
      ["no extension", "application/octet-stream"],
    ],
  },
  "Python's requests and httpx": {
    boundary: "8b7f6cdd39eeb7b73d89c950c3a2539d",
    parts: [
      ...plain,
      ...listed.map(([name, value]) => text(name, value)),
      ['Content-Disposition: form-data; name="attachment"; filename="r%22é.csv"', "", "a,b\r\n"],
      [
        'Content-Disposition: form-data; name="attachment"; filename="b.png"',
        "Content-Type: image/png",
        "",
        "\x89PNG",
      ],
    ],
    files: [
      ["r%22é.csv", csv],
      ["b.png", png],
    ],
  },
  "Python's requests on urllib3 before 1.25": {
    boundary: "ef3a0e6c6d1c4d7f8f4b7c1c7f2b9a10",
    parts: [
      ...plain,
      ...listed.map(([name, value]) => text(name, value)),
      ["Content-Disposition: form-data; name=\"attachment\"; filename*=utf-8''r%C3%A9.csv", "", "a"],
    ],
    files: [["ré.csv", csv]],
  },
  "PHP's curl, with names in brackets": {
    boundary: "------------------------6a2ed5d3b0ed4e0f",
    parts: [
      ...plain,
      text("cc[0]", "a@example.org"),
      text("cc[1]", "b@example.org"),
      text("headers[List-Unsubscribe]", "<https://example.com/u>"),
      [
        'Content-Disposition: form-data; name="attachments[0]"; filename="ré.csv"',
        "Content-Type: text/csv",
        "",
        "a",
      ],
      [
        'Content-Disposition: form-data; name="attachments[1]"; filename="b.png"',
        "Content-Type: image/png",
        "",
        "b",
      ],
    ],
    files: [
      ["ré.csv", csv],
      ["b.png", png],
    ],
  },
  "PHP's Guzzle, which gives every part its length": {
    boundary: "4bb4e5a7c2b1f0a9d8c7b6a5f4e3d2c1b0a99887",
    parts: [
      ...withLengths,
      ['Content-Disposition: form-data; name="cc[]"', "Content-Length: 13", "", "a@example.org"],
      ['Content-Disposition: form-data; name="cc[]"', "Content-Length: 13", "", "b@example.org"],
      text("headers[List-Unsubscribe]", "<https://example.com/u>"),
      [
        'Content-Disposition: form-data; name="attachments[]"; filename="ré.csv"',
        "Content-Length: 1",
        "Content-Type: text/csv",
        "",
        "a",
      ],
    ],
    files: [["ré.csv", csv]],
  },
  ".NET's HttpClient": {
    boundary: "5f6b7c5e-2a4c-4a3e-9a1f-3c0c0c1f2d11",
    parts: [
      ...[...required, ...listed].map(([name, value]) => [
        "Content-Type: text/plain; charset=utf-8",
        `Content-Disposition: form-data; name=${name}`,
        "",
        value,
      ]),
      [
        "Content-Type: text/csv",
        "Content-Disposition: form-data; name=attachments; filename=\"=?utf-8?B?csOpLmNzdg==?=\"; filename*=utf-8''r%C3%A9.csv",
        "",
        "a",
      ],
      [
        'Content-Disposition: form-data; name="attachments[]"; filename="a b.png"; filename*=utf-8\'\'a%20b.png',
        "",
        "b",
      ],
    ],
    files: [
      ["ré.csv", csv],
      ["a b.png", png],
    ],
  },
  "Apache HttpClient for Java": {
    boundary: "httpclient_boundary_7b3f2a1c-6d5e-4f3a",
    parts: [
      ...[...required, ...listed].map(([name, value]) => [
        `Content-Disposition: form-data; name="${name}"`,
        "Content-Type: text/plain; charset=UTF-8",
        "Content-Transfer-Encoding: 8bit",
        "",
        value,
      ]),
      [
        'Content-Disposition: form-data; name="attachments"; filename="ré.csv"; filename*="UTF-8\'\'r%C3%A9.csv"',
        "Content-Type: text/csv; charset=ISO-8859-1",
        "Content-Transfer-Encoding: binary",
        "",
        "\xe9",
      ],
    ],
    files: [["ré.csv", csv]],
  },
  "OkHttp for Java": {
    boundary: "f2b1c7d0-8b2e-4f6e-9d53-1d4c2f3a7b90",
    parts: [
      ...withLengths,
      ...listed.map(([name, value]) => text(name, value)),
      [
        'Content-Disposition: form-data; name="attachment"; filename="r%22é.csv"',
        "Content-Type: text/csv; charset=utf-8",
        "Content-Length: 1",
        "",
        "a",
      ],
    ],
    files: [["r%22é.csv", csv]],
  },
};

/** Letters outside ASCII in heads and texts are UTF-8; those of files are bytes. */
function encode({ boundary, parts }: Golden): Buffer {
  const bytes = parts.flatMap((lines) => {
    const content = lines.at(-1)!;
    const isFile = lines.some((line) => /; filename/.test(line));
    return [
      Buffer.from(`--${boundary}\r\n${lines.slice(0, -1).join("\r\n")}\r\n`),
      Buffer.from(content, isFile ? "latin1" : "utf8"),
      Buffer.from("\r\n"),
    ];
  });
  return Buffer.concat([...bytes, Buffer.from(`--${boundary}--\r\n`)]);
}

function submit(body: Uint8Array, contentType: string) {
  const reader = bodyReader(new Headers({ "content-type": contentType }));
  if (typeof reader === "string") throw new Error(reader);
  const fields = readBody(reader, body);
  if (typeof fields === "string") throw new Error(fields);
  return checkSubmission(fields, { defaultFrom: "me@example.org" }, 0);
}

test.each(Object.entries(goldens))("multipart: a form written by %s is read whole", (_, golden) => {
  const result = submit(encode(golden), `multipart/form-data; boundary="${golden.boundary}"`);
  if (!result.ok) throw new Error(result.message);
  const { attachments = [], ...email } = result.email;
  expect(email).toEqual({
    subject: "Grüße",
    body: "é\r\n😀",
    to: "ada@example.org",
    from: "me@example.org",
    cc: ["a@example.org", "b@example.org"],
    headers: [["List-Unsubscribe", "<https://example.com/u>"]],
  });
  expect(
    attachments.map(({ filename, content_type, content_id }) => [filename, content_type, content_id]),
  ).toEqual(golden.files.map(([filename, type, id]) => [filename, type, id]));
  const contents = golden.parts
    .filter((lines) => lines.some((line) => /; filename(?!="")/.test(line)))
    .map((lines) => lines.at(-1)!);
  expect(result.files!.map((bytes) => Buffer.from(bytes).toString("latin1"))).toEqual(contents);
});

test("multipart: a backslash escapes only a quote and a backslash", () => {
  const nameOf = (filename: string) => {
    const disposition = `Content-Disposition: form-data; name="attachment"; filename=${filename}`;
    const golden = { boundary: "X", parts: [...plain, [disposition, "", "a"]], files: [] };
    const result = submit(encode(golden), "multipart/form-data; boundary=X");
    return result.ok ? result.email.attachments![0]!.filename : result.message;
  };
  expect(nameOf('"a\\"b.txt"')).toBe('a"b.txt');
  for (const name of ['"C:\\data\\a.txt"', '"a\\\\b.txt"', '"a\\nb.txt"'])
    expect(nameOf(name)).toBe("attachments[0].filename: has a slash or a backslash");
  expect(nameOf("a[1].txt")).toBe("a[1].txt");
  expect(nameOf("\"a.txt\"; filename*=UTF-8'en'%e2%82%ac.txt")).toBe("€.txt");
  expect(nameOf("\"a.txt\"; filename*=utf-8''")).toBe("attachments[0].filename: is required");
  for (const name of ["iso-8859-1''%e9.txt", "utf-8''%e9.txt", "utf-8''%4.txt", "a.txt"])
    expect(nameOf(`"a.txt"; filename*=${name}`)).toBe("attachments[0].filename: is not valid UTF-8");
});

test("multipart: a name that ends in a backslash, as browsers of long ago wrote the path of a folder, is refused", () => {
  const disposition = 'Content-Disposition: form-data; name="attachment"; filename="C:\\data\\"';
  const golden = { boundary: "X", parts: [...plain, [disposition, "", "a"]], files: [] };
  expect(() => submit(encode(golden), "multipart/form-data; boundary=X")).toThrow(
    "the form has a part without a name",
  );
});

test("multipart: what this machine's curl sends is read, under names that curl escapes", async () => {
  const seen = Promise.withResolvers<ReturnType<typeof submit>>();
  await using server = Bun.serve({
    hostname: "127.0.0.1",
    port: 0,
    async fetch(request) {
      seen.resolve(submit(await request.bytes(), request.headers.get("content-type")!));
      return new Response();
    },
  });
  const form = ["-F", "subject=Grüße", "--form-string", "body=@é", "-F", "to=ada@example.org"];
  const file = ["-F", 'attachment=@-;filename="ré.csv"', "-F", "cc[]=a@example.org"];
  const tags = ["-F", "tags[kind]=welcome", "-H", "Expect:"];
  const curl = Bun.spawn(["curl", "-sS", ...form, ...file, ...tags, server.url.href], {
    stdin: Buffer.from("a,b\r\n"),
  });
  expect(await curl.exited).toBe(0);
  const result = await seen.promise;
  if (!result.ok) throw new Error(result.message);
  expect(result.email).toMatchObject({
    body: "@é",
    cc: ["a@example.org"],
    tags: [["kind", "welcome"]],
    attachments: [{ filename: "ré.csv", content_type: csv, size: 5 }],
  });
});
