// The limit of delivery: the provider's SDK sends EMAILS emails in batches of 100, eight at a time, out of memory.

import { Resend } from "resend";
import { completeEmail } from "../email.ts";

const batchMax = 100;
const concurrency = 8;

const { RESEND_BASE_URL = "", EMAILS } = process.env;
const resend = new Resend("re_fake", { baseUrl: RESEND_BASE_URL });
const { to, from, subject, body } = completeEmail;
let left = Number(EMAILS);

async function loop(): Promise<void> {
  while (left > 0) {
    const count = Math.min(batchMax, left);
    left -= count;
    const batch = Array.from({ length: count }, () => {
      const tags = [{ name: "email_id", value: Bun.randomUUIDv7() }];
      return { to, from, subject, text: body, tags };
    });
    const { error } = await resend.batch.send(batch, { idempotencyKey: Bun.randomUUIDv7() });
    if (error !== null) throw new Error(error.message);
  }
}

console.log(JSON.stringify({ event: "worker-started" }));
await Promise.all(Array.from({ length: concurrency }, loop));
// Its CPU time is read while it exists.
setInterval(() => {}, 60_000);
