// The worker that one would write in an hour: a list, eight loops, one email per request with the provider's SDK, and
// then its removal from the list of those in flight.

import { Redis } from "ioredis";
import { Resend } from "resend";

const concurrency = 8;
const url = process.env["REDIS_URL"] ?? "";
const resend = new Resend("re_fake", { baseUrl: process.env["RESEND_BASE_URL"] ?? "" });

async function loop(): Promise<void> {
  const redis = new Redis(url);
  for (;;) {
    const item = await redis.blmove("emails", "in-flight", "LEFT", "RIGHT", 0);
    if (item === null) continue;
    const { id, from, to, subject, body } = JSON.parse(item);
    const tags = [{ name: "email_id", value: id }];
    const { error } = await resend.emails.send(
      { from, to, subject, text: body, tags },
      { idempotencyKey: id },
    );
    if (error === null) await redis.lrem("in-flight", 1, item);
  }
}

console.log(JSON.stringify({ event: "worker-started" }));
await Promise.all(Array.from({ length: concurrency }, loop));
