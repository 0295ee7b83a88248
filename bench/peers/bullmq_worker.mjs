// BullMQ's worker with the provider's SDK, on Node and on Bun: one email per job and request, CONCURRENCY at a time.

import { Worker } from "bullmq";
import { Redis } from "ioredis";
import { Resend } from "resend";
import { name, url } from "./queue.mjs";

const resend = new Resend("re_fake", { baseUrl: process.env.RESEND_BASE_URL });

async function send({ id, data: { from, to, subject, body } }) {
  const tags = [{ name: "email_id", value: id }];
  const { error } = await resend.emails.send({ from, to, subject, text: body, tags }, { idempotencyKey: id });
  if (error !== null) throw new Error(error.message);
}

const worker = new Worker(name, send, {
  connection: new Redis(url, { enableAutoPipelining: true, maxRetriesPerRequest: null }),
  concurrency: Number(process.env.CONCURRENCY),
  autorun: false,
});
await worker.waitUntilReady();
console.log(JSON.stringify({ event: "worker-started" }));
await worker.run();
