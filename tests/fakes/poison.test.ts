// Poisoned emails: every request that contains one fails at the provider where it is poison, and no other request does.

import { afterAll, beforeEach, expect, test } from "bun:test";
import { type Poison, poisonIn, poisonKinds, type PoisonedRequest, poisonWord } from "../../fakes/poison.ts";
import { startFakePostmark } from "../../fakes/postmark.ts";
import { startFakeResend } from "../../fakes/resend.ts";

const poisoned: PoisonedRequest[] = [];
const onPoison = (request: PoisonedRequest) => poisoned.push(request);
const resend = startFakeResend({ onPoison });
const postmark = startFakePostmark({ onPoison });
afterAll(() => {
  resend.stop();
  postmark.stop();
});
beforeEach(() => {
  resend.clear();
  postmark.clear();
  poisoned.length = 0;
});

const everywhere = { after: false, at: undefined } as const;

/** Sends a batch of two emails, the second with this subject. */
async function send(provider: "resend" | "postmark", subject: string, patienceMs = 60_000) {
  const subjects = ["Hello", subject];
  const isResend = provider === "resend";
  const url = isResend ? `${resend.url}/emails/batch` : `${postmark.url}/email/batch`;
  const response = await fetch(url, {
    method: "POST",
    headers: {
      authorization: "Bearer re_fake",
      "x-postmark-server-token": "fake-token",
      accept: "application/json",
      "content-type": "application/json",
    },
    body: JSON.stringify(
      subjects.map((text, i) =>
        isResend
          ? {
              from: "Me <a@b.example>",
              to: "c@example.org",
              subject: text,
              text: "t",
              tags: [{ name: "email_id", value: `e${i}` }],
            }
          : {
              From: "a@b.example",
              To: "c@example.org",
              Subject: text,
              TextBody: "t",
              Metadata: { email_id: `e${i}` },
            },
      ),
    ),
    signal: AbortSignal.timeout(patienceMs),
  });
  return { status: response.status, text: await response.text() };
}

test("poison: a word in the subject describes it", () => {
  for (const kind of poisonKinds) {
    for (const after of [false, true]) {
      for (const at of [undefined, "resend", "postmark"] as const) {
        const poison: Poison = { kind, after, at };
        expect(poisonIn(`1-2 words ${poisonWord(poison)} and more`)).toEqual(poison);
      }
    }
  }
  for (const text of ["poison", "poison:nothing", "poison:hang@nobody", "poison:hangs"]) {
    expect(poisonIn(text)).toBeUndefined();
  }
});

const answers: [provider: "resend" | "postmark", kind: Poison["kind"], status: number, text: RegExp][] = [
  ["resend", "error", 500, /"name":"application_error","message":/],
  ["resend", "nonsense", 200, /^\{"data":\[\{"id":$/],
  ["resend", "sender", 403, /The b\.example domain is not verified/],
  ["resend", "key", 403, /This API key is not authorized to send emails from b\.example"/],
  ["postmark", "error", 500, /"ErrorCode":101,"Message":/],
  ["postmark", "nonsense", 200, /^\{"data"/],
  ["postmark", "sender", 422, /"ErrorCode":400,"Message":.*a@b\.example/],
  ["postmark", "key", 422, /"ErrorCode":401,"Message":.*a@b\.example/],
];
test.each(answers)("poison: %s answers a request with poison:%s", async (provider, kind, status, text) => {
  const answer = await send(provider, poisonWord({ ...everywhere, kind }));
  expect(answer.status).toBe(status);
  expect(answer.text).toMatch(text);
  expect(poisoned).toMatchObject([{ provider, emailIds: ["e0", "e1"] }]);
  expect(resend.acceptances.length + postmark.acceptances.length).toBe(0);
});

test.each(["resend", "postmark"] as const)(
  "poison: %s hangs or resets, at every attempt",
  async (provider) => {
    for (let attempt = 0; attempt < 2; attempt += 1) {
      const hang = send(provider, poisonWord({ ...everywhere, kind: "hang" }), 300);
      await expect(hang).rejects.toMatchObject({ name: "TimeoutError" });
      const reset = send(provider, poisonWord({ ...everywhere, kind: "reset" }));
      await expect(reset).rejects.toMatchObject({ code: "ECONNRESET" });
    }
    expect(poisoned).toHaveLength(4);
  },
);

test("poison: it can strike after accepting, and at one provider only", async () => {
  expect((await send("resend", "poison:error-after")).status).toBe(500);
  expect(resend.acceptances.map(({ emailId }) => emailId)).toEqual(["e0", "e1"]);
  expect((await send("postmark", "poison:error@resend")).status).toBe(200);
  expect((await send("resend", "poison:error@postmark")).status).toBe(200);
  expect((await send("postmark", "poison:error@postmark")).status).toBe(500);
  expect(poisoned).toHaveLength(2);
});
