// BullMQ's queue with the settings of its documentation for production. With ADD=bulk, the jobs of one turn of the event
// loop are added together, which saves fsyncs; otherwise, the commands of one turn are sent together.

import { Queue } from "bullmq";
import { Redis } from "ioredis";

export const url = process.env.REDIS_URL;
export const name = "emails";

/** Ten attempts with backoff, and no trace of an email that was sent: the closest to what the service does. */
const defaultJobOptions = {
  attempts: 10,
  backoff: { type: "exponential", delay: 1000 },
  removeOnComplete: true,
};

export function openQueue() {
  const connection = new Redis(url, { enableAutoPipelining: true, maxRetriesPerRequest: null });
  return new Queue(name, { connection, defaultJobOptions });
}

/** Returns a function that adds one email, and resolves to its job once that is stored. */
export function openAdd() {
  const queue = openQueue();
  if (process.env.ADD !== "bulk") return (data) => queue.add("email", data);

  let waiting = [];
  async function flush() {
    const group = waiting;
    waiting = [];
    try {
      const jobs = await queue.addBulk(group.map(({ data }) => ({ name: "email", data })));
      group.forEach(({ resolve }, i) => resolve(jobs[i]));
    } catch (error) {
      for (const { reject } of group) reject(error);
    }
  }
  return (data) =>
    new Promise((resolve, reject) => {
      if (waiting.length === 0) setImmediate(flush);
      waiting.push({ data, resolve, reject });
    });
}
