import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { bodyReader, readBody } from "../../lib/http/body/body.ts";
import { textNames } from "../../lib/email/fields.ts";
import type { SubmittedFields } from "../../lib/http/submitted_fields.ts";

function read(body: string | Uint8Array, contentType: string): SubmittedFields {
  const result = tryRead(body, contentType);
  if (typeof result === "string") throw new Error(result);
  return result;
}

/** Returns the fields, or the reason for the refusal. */
function tryRead(body: string | Uint8Array, contentType: string): SubmittedFields | string {
  const reader = bodyReader(new Headers({ "content-type": contentType }));
  if (typeof reader === "string") return reader;
  return readBody(reader, typeof body === "string" ? new TextEncoder().encode(body) : body);
}

const form = (body: string | Uint8Array) => tryRead(body, "application/x-www-form-urlencoded");
const json = (body: string | Uint8Array) => tryRead(body, "application/json");
const multipart = (body: string | Uint8Array) => tryRead(body, "multipart/form-data; boundary=XX");

function fields(values: SubmittedFields["values"], faults: SubmittedFields["faults"] = {}): SubmittedFields {
  return { values, faults };
}

/** Encodes each of `\u0080`–`\u00ff` as one byte, which is not valid UTF-8. */
const latin1 = (text: string) => new Uint8Array(Buffer.from(text, "latin1"));

describe("content type", () => {
  test.each([
    ["application/x-www-form-urlencoded", "form"],
    ["application/x-www-form-urlencoded; charset=UTF-8", "form"],
    ['Application/X-WWW-Form-URLencoded;charset="utf-8"', "form"],
    ["application/json;", "json"],
    ["application/json; charset=utf8", "json"],
    ["application/x-www-form-urlencoded; charset=US-ASCII", "form"],
    ["application/json; q=1", "json"],
    ['multipart/form-data; boundary="a b"', "multipart"],
  ] as const)("body: %j is read", (contentType, kind) => {
    const body = {
      form: "to=a",
      json: '{"to":"a"}',
      multipart: `${named("to", "a")}${end}`.replaceAll("XX", "a b"),
    }[kind];
    expect(tryRead(body, contentType)).toEqual(fields({ to: "a" }));
  });

  test.each([
    "text/plain",
    "application/jsonx",
    "application/problem+json",
    "application/json, application/json",
    "application/json; charset=iso-8859-1",
    "application/json; charset=utf-16",
    "application/json; charset=utf-8; charset=latin1",
    "application/json; charset",
    "application/json; charset='utf-8'",
    'application/json; charset="utf-8',
    "multipart/form-data",
    "multipart/form-data; boundary=",
    "multipart/form-data; boundary=a; boundary=b",
    `multipart/form-data; boundary=${"a".repeat(71)}`,
    'multipart/form-data; boundary="a "',
    'multipart/form-data; boundary="ä"',
    "multipart/mixed; boundary=a",
    ";",
  ])("body: %j is refused", (contentType) => {
    expect(bodyReader(new Headers({ "content-type": contentType }))).toBeString();
  });

  test("body: a missing content type is refused", () => {
    expect(bodyReader(new Headers())).toBeString();
  });

  test("body: a content encoding other than identity is refused", () => {
    const headers = new Headers({ "content-type": "application/json", "content-encoding": "gzip" });
    expect(bodyReader(headers)).toBeString();
    headers.set("content-encoding", "identity");
    expect(bodyReader(headers)).toBeFunction();
  });
});

describe("form", () => {
  test.each([
    ["", {}],
    ["&&=&=x&", {}],
    ["to=a", { to: "a" }],
    ["to", { to: "" }],
    ["to=", { to: "" }],
    ["to=a=b", { to: "a=b" }],
    ["to=a+b%20c%2B", { to: "a b c+" }],
    ["t%6F=a", { to: "a" }],
    ["to=100%&body=%zz%2&from=%", { to: "100%", body: "%zz%2", from: "%" }],
    ["to=%26%3D", { to: "&=" }],
    ["subject=%C3%A9%F0%9F%98%80&body=é😀", { subject: "é😀", body: "é😀" }],
    ["body=%EF%BB%BFa", { body: "\ufeffa" }],
    ["\ufeffto=a", { to: "a" }],
    ["\ufeff\ufeffto=a", {}],
    ["To=a&TO=b&to[]=c&toto=d&__proto__=e&toString=f", {}],
    ["unknown=1&unknown=2&to=a", { to: "a" }],
    ["body=a%00b", { body: "a\0b" }],
  ] as const)("body: the form %j holds %j", (text, values) => {
    expect(form(text)).toEqual(fields(values));
  });

  test.each(["to=%FF", "to=%C3", "to=%C3&subject=%A9", "%FF=1", "x=%ED%A0%80", "to=%C0%AF", "to=%C3&=%A9"])(
    "body: the form %j is not valid UTF-8",
    (text) => {
      expect(form(text)).toBe("the form is not valid UTF-8");
    },
  );

  test("body: a form with a raw byte that is not valid UTF-8 is refused", () => {
    expect(form(latin1("to=caf\xe9"))).toBe("the form is not valid UTF-8");
  });

  test("body: a known field given twice is an error, whether equal, empty or escaped", () => {
    for (const text of ["to=a&to=a", "to=&to=a", "to&t%6f", "to=a&to=b&to=c"]) {
      expect(form(text)).toMatchObject({ faults: { to: "is given twice" } });
    }
  });

  test("body: forms are parsed according to the URL Standard", () => {
    const piece = fc.constantFrom("to", "body", "=", "&", "%", "%4", "%41", "%26", "+", "a", "é", "%C3%A9");
    fc.assert(
      fc.property(fc.array(piece, { maxLength: 12 }), (pieces) => {
        const text = pieces.join("");
        const params = new URLSearchParams(text);
        const result = form(text);
        if (typeof result === "string") return expect(params.toString()).toContain("%EF%BF%BD");
        for (const name of textNames) {
          const all = params.getAll(name);
          if (all.length > 1) expect(result.faults[name]).toBe("is given twice");
          else expect(result.values[name]).toBe(all[0] as string);
        }
      }),
    );
  });
});

describe("json", () => {
  test.each([
    ["{}", {}],
    [' {"to":"a"}\n', { to: "a" }],
    ['\ufeff{"to":"a"}', { to: "a" }],
    ['{"t\\u006f":"a\\u00e9"}', { to: "aé" }],
    ['{"to":null}', { to: "" }],
    ['{"x":{"to":"inner"},"y":[{"to":"inner"}],"to":"a"}', { to: "a" }],
    ['{"x":"\\"to\\":","to":"a\\\\"}', { to: "a\\" }],
    ['{"__proto__":{"to":"x"},"constructor":{"prototype":{"to":"x"}}}', {}],
    ['{"x":1,"x":2}', {}],
    ['{"subject":"\\ud800"}', { subject: "\ud800" }],
  ] as const)("body: the JSON %j holds %j", (text, values) => {
    expect(json(text)).toEqual(fields(values));
  });

  test.each([
    '{"to":"a","to":"b"}',
    '{"to":"a","to":"a"}',
    '{"to":"a","t\\u006f":"b"}',
    '{"to":null,"to":null}',
    '{"to":1,"to":"a"}',
    '{"to":"a","x":["]","{"],"to":1}',
    '{"x":"\\\\","to":"a","y":"\\\\\\"","to":"b"}',
  ])("body: the JSON %j has a field twice", (text) => {
    expect(json(text)).toMatchObject({ faults: { to: "is given twice" } });
  });

  test.each(["1", "true", "[]", '["a"]', "{}"])("body: the JSON value %s is not a string", (value) => {
    expect(json(`{"to":${value}}`)).toEqual(fields({}, { to: "is not a string" }));
  });

  test.each(["", " ", "{", '{"to":"a"', '{"to":"a",}', "{'to':'a'}", '{"to":"a\nb"}', '{"to":"a"} x', "NaN"])(
    "body: %j is not valid JSON",
    (text) => {
      expect(json(text)).toBe("the body is not valid JSON");
    },
  );

  test.each(["[]", "null", '"a"', "1"])("body: the JSON %s is not an object", (text) => {
    expect(json(text)).toBe("the body is not a JSON object");
  });

  test("body: JSON that is not valid UTF-8 is refused", () => {
    expect(json(latin1('{"to":"\xe9"}'))).toBe("the body is not valid UTF-8");
  });

  test("body: JSON nested deeper than the limit is refused", () => {
    for (const depth of [300, 10_000, 250_000]) {
      expect(json(`{"x":${"[".repeat(depth)}${"]".repeat(depth)}}`)).toBe("the body is nested too deeply");
      expect(json(`{"x":${'{"a":'.repeat(depth)}1${"}".repeat(depth)}}`)).toBe(
        "the body is nested too deeply",
      );
    }
    expect(json(`{"x":${"[".repeat(250)}${"]".repeat(250)},"to":"a"}`)).toEqual(fields({ to: "a" }));
  });

  test("body: JSON with too many values is refused before it is parsed", () => {
    const refused = "the body has over 65536 values";
    for (const value of ["1", "[]", "{}", '{"a":1}']) {
      expect(json(`{"x":[${`${value},`.repeat(70_000)}1],"to":"a"}`)).toBe(refused);
    }
    expect(json(`{"x":[${"1,".repeat(60_000)}1],"to":"a"}`)).toEqual(fields({ to: "a" }));
    expect(json(`{"x":"${"[,{".repeat(70_000)}","to":"a"}`)).toEqual(fields({ to: "a" }));
  });

  test.each(['{"a', '{"a\\"', '{"to":"a', '{"to":"a"', '{"\\u00":1}'])(
    "body: %j is not valid JSON",
    (text) => {
      expect(json(text)).toBe("the body is not valid JSON");
    },
  );

  test("body: repeated members are detected whatever the others contain", () => {
    const member = fc.tuple(
      fc.constantFrom("to", "body", "x", "{", '"', "\\"),
      fc.oneof(fc.jsonValue(), fc.string()),
    );
    fc.assert(
      fc.property(fc.array(member, { maxLength: 6 }), (members) => {
        const text = `{${members.map(([key, value]) => `${JSON.stringify(key)}:${JSON.stringify(value)}`).join()}}`;
        const result = json(text) as SubmittedFields;
        for (const name of ["to", "body"] as const) {
          const given = members.filter(([key]) => key === name);
          const twice = given.length > 1 ? "is given twice" : undefined;
          const [value] = given.map(([, it]) => it);
          if (twice) expect(result.faults[name]).toBe(twice);
          else if (typeof value === "string") expect(result.values[name]).toBe(value);
        }
      }),
    );
  });
});

/** A part, made of its head without the last line end, and its content. */
const part = (head: string, content: string) => `--XX\r\n${head}\r\n\r\n${content}\r\n`;
const named = (name: string, content: string) =>
  part(`Content-Disposition: form-data; name="${name}"`, content);
const end = "--XX--\r\n";

describe("multipart", () => {
  test.each([
    [end, {}],
    ["--XX--", {}],
    [named("to", "a") + end, { to: "a" }],
    [`${named("to", "a")}--XX-- \r\n\r\n`, { to: "a" }],
    [named("to", "") + end, { to: "" }],
    [named("body", "a\r\n\r\n") + end, { body: "a\r\n\r\n" }],
    [named("body", "a--XX--\r\n--X\r\n--YY\r\n -- XX") + end, { body: "a--XX--\r\n--X\r\n--YY\r\n -- XX" }],
    [`\ufeff${named("to", "a")}${end}`, { to: "a" }],
    [
      part('Content-Disposition: form-data; name="to"\r\nContent-Type: text/plain; charset="us-ascii"', "a") +
        end,
      { to: "a" },
    ],
    [named("body", "\ufeffé\0\n\r") + end, { body: "\ufeffé\0\n\r" }],
    [part("CONTENT-DISPOSITION:form-data;NAME=to", "a") + end, { to: "a" }],
    [part('Content-Type: text/plain\r\nContent-Disposition: form-data; name="to"', "a") + end, { to: "a" }],
    [
      part('Content-Disposition: form-data; name="to"\r\nContent-Type: text/plain; charset=UTF-8', "a") + end,
      { to: "a" },
    ],
    [
      part('Content-Disposition: form-data; name="to"\r\nContent-Transfer-Encoding: 8bit', "a") + end,
      { to: "a" },
    ],
    [
      part("Content-Transfer-Encoding: \t 7bit \t\r\nContent-Disposition: form-data;\tname=to \t;", "a") +
        end,
      { to: "a" },
    ],
    [`--XX \t\r\n${named("to", "a").slice(6)}${end}`, { to: "a" }],
    [named('x\\"; name=\\"to', "a") + end, {}],
    [named("to%22", "a") + end, {}],
    [part('Content-Disposition: form-data; name="x"; filename=""', "") + end, {}],
  ] as const)("body: the multipart form %j holds %j", (text, values) => {
    expect(multipart(text)).toEqual(fields(values));
  });

  test("body: a file is an error under the name of a text, and is never ignored under any other, whatever its bytes", () => {
    for (const parameter of ['filename="a.txt"', "filename=a", "filename*=UTF-8''a"]) {
      const head = (name: string) => `Content-Disposition: form-data; name="${name}"; ${parameter}`;
      expect(multipart(part(head("to"), "a") + end)).toEqual(fields({}, { to: "is a file" }));
      const bytes = latin1(part(`${head("x")}\r\nContent-Type: image/png`, "\x89PNG\xff") + end);
      const fault = 'is a file under the unknown name "x": name it attachment or inline';
      expect(multipart(bytes)).toEqual(fields({ attachments: [{ fault }] }));
    }
  });

  test("body: a known field given twice in a multipart form is an error", () => {
    const file = part('Content-Disposition: form-data; name="to"; filename="a"', "a");
    for (const text of [
      named("to", "a") + named("to", "a"),
      file + named("to", "a"),
      named("to", "a") + file,
    ]) {
      expect(multipart(text + end)).toMatchObject({ faults: { to: "is given twice" } });
    }
  });

  test.each([
    "",
    "--XX",
    "--XX\r\n",
    "to=a",
    named("to", "a"),
    named("to", "a").slice(0, -2),
    `${named("to", "a")}--XX`,
    `${named("to", "a")}--XX\r\n${'Content-Disposition: form-data; name="body"'}\r\n\r\ncut of`,
    `preamble\r\n${named("to", "a")}${end}`,
    `${named("to", "a")}${end}epilogue`,
    named("body", "a\r\n--XXY") + end,
    `${named("to", "a")}${end}${named("to", "b")}${end}`,
    (named("to", "a") + end).replaceAll("\r\n", "\n"),
    part("Content-Disposition: form-data", "a") + end,
    part('Content-Disposition: attachment; name="to"', "a") + end,
    part('Content-Disposition: form-data; name="to"; name="x"', "a") + end,
    part('Content-Disposition: form-data; name="to', "a") + end,
    part('Content-Disposition: form-data; name="x"\r\nContent-Disposition: form-data; name="to"', "a") + end,
    part('Content-Disposition: form-data;\r\n name="to"', "a") + end,
    part('Content-Disposition : form-data; name="to"', "a") + end,
    part('X: y\nContent-Disposition: form-data; name="to"', "a") + end,
    part("X: y", "a") + end,
    part('Content-Disposition: form-data; name="to"\r\nContent-Type: text/plain; charset=latin1', "a") + end,
    part('Content-Disposition: form-data; name="to"\r\nContent-Transfer-Encoding: base64', "YQ==") + end,
    part(`Content-Disposition: form-data; name="to"\r\nX: ${"y".repeat(9000)}`, "a") + end,
    "--XX\r\n\r\na\r\n--XX--\r\n",
    "--XX\r\n--XX--\r\n",
  ])("body: the multipart form %j is refused", (text) => {
    expect(multipart(text)).toBeString();
  });

  test("body: a multipart form that is not valid UTF-8 is refused", () => {
    expect(multipart(latin1(named("to", "\xe9") + end))).toBe("the form is not valid UTF-8");
    expect(multipart(latin1(named("x", "\xe9") + end))).toBe("the form is not valid UTF-8");
    expect(multipart(latin1(named("\xe9", "a") + end))).toBe("the form is not valid UTF-8");
  });

  test("body: a multipart form of nothing but boundaries is refused quickly", () => {
    const startMs = performance.now();
    for (const piece of ["--XX\r\n", "\r\n--X", "\r\n--XX", "\r\n", "--XX\r\nA: b\r\n\r\n\r\n"]) {
      multipart(`--XX\r\n${piece.repeat(150_000)}`);
    }
    expect(performance.now() - startMs).toBeLessThan(2000);
  });
});

test("body: a header with thousands of blanks is parsed quickly, whatever follows them", () => {
  const blanks = " \t".repeat(4000);
  const startMs = performance.now();
  for (const last of ["", "x", ";", '"', "\0", "\r"]) {
    const type = `application/json;${blanks}${last}`.replace(/[\0\r]$/, "/");
    bodyReader(new Headers({ "content-type": `${type}"` }));
    for (const head of [
      `X:${blanks}${last}`,
      `X: x${blanks}${last}`,
      `Content-Disposition: a;${blanks}${last}`,
    ]) {
      multipart(named("to", "a") + part(head, "") + end);
    }
  }
  // Quadratic parsing would take seconds, cubic parsing hours.
  expect(performance.now() - startMs).toBeLessThan(1000);
});

test("body: every encoding gives the same fields", async () => {
  const value = fc.string({ unit: "binary" }).filter((text) => text.isWellFormed());
  await fc.assert(
    fc.asyncProperty(fc.dictionary(fc.constantFrom(...textNames), value), async (values) => {
      const expected = fields(values);
      expect(json(JSON.stringify(values))).toEqual(expected);
      expect(form(new URLSearchParams(values).toString())).toEqual(expected);

      const boundary = "----reliable-email-test-boundary-5f3a";
      const parts = Object.entries(values).map(
        ([name, text]) =>
          `--${boundary}\r\nContent-Disposition: form-data; name="${name}"\r\n\r\n${text}\r\n`,
      );
      const type = `multipart/form-data; boundary="${boundary}"`;
      expect(read(`${parts.join("")}--${boundary}--\r\n`, type)).toEqual(expected);
    }),
  );
});

test("body: a form written by Bun's FormData is read back", async () => {
  const data = new FormData();
  data.append("subject", "Grüße");
  data.append("body", "a\r\nb\r\n");
  data.append('odd"name', "x");
  const response = new Response(data);
  const bytes = await response.bytes();
  const boundary = /^--(\S+)/.exec(new TextDecoder().decode(bytes))?.[1];
  expect(read(bytes, `multipart/form-data; boundary=${boundary}`)).toEqual(
    fields({ subject: "Grüße", body: "a\r\nb\r\n" }),
  );
});

test("body: parsers never throw", () => {
  const types = ["application/x-www-form-urlencoded", "application/json", "multipart/form-data; boundary=XX"];
  const piece = fc.constantFrom(
    "--XX",
    "--",
    "\r\n",
    'Content-Disposition: form-data; name="to"',
    ": ;=\\",
    '{"to":',
    '"',
    "}",
    "%4",
    "\ud800",
  );
  const pieces = fc.array(piece, { maxLength: 15 }).map((all) => new TextEncoder().encode(all.join("")));
  fc.assert(
    fc.property(fc.oneof(pieces, fc.uint8Array()), fc.constantFrom(...types), (bytes, type) => {
      tryRead(bytes, type);
    }),
    { numRuns: 1000 },
  );
});
