// Queues EMAILS copies of the email in EMAIL.

import { openQueue } from "./queue.mjs";

const queue = openQueue();
const data = JSON.parse(process.env.EMAIL);
for (let left = Number(process.env.EMAILS); left > 0; left -= 1000) {
  await queue.addBulk(Array.from({ length: Math.min(1000, left) }, () => ({ name: "email", data })));
}
process.exit(0);
