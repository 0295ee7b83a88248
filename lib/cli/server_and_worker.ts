// The commands `server` and `worker`: the two entry points.

import { type Config, readConfig, type Role } from "../config/config.ts";
import { runProcess, type StartService } from "../runtime/service.ts";
import { defineCommand } from "./command.ts";

export const serverCommand = serviceCommand(
  "server",
  "accepts emails over HTTP, and answers once they are stored",
  `\
Accepts emails over HTTP and puts them into the queue. The answer is 200 once an email is on disk. Several servers may share a port.

The most important settings: HOST, PORT, DEFAULT_FROM, and REDIS_URL or DATA_DIR.`,
  async () => (await import("../../server.ts")).startServer,
);

export const workerCommand = serviceCommand(
  "worker",
  "delivers the stored emails through the providers",
  `\
Takes emails out of the queue and hands them to the providers. There may be any number of workers.

The most important settings: RESEND_API_KEY, POSTMARK_SERVER_TOKEN, PROVIDERS, and REDIS_URL or DATA_DIR.`,
  async () => (await import("../../worker.ts")).startWorker,
);

/** @param load called only when the command runs, so that other commands start quickly */
function serviceCommand(
  name: Role,
  summary: string,
  about: string,
  load: () => Promise<StartService<Config>>,
) {
  return defineCommand({
    name,
    summary,
    about: `${about}

After SIGTERM, SIGINT or SIGHUP it finishes what it has begun and exits with 0. A second signal ends it at once. Under nohup it ignores SIGHUP. The log goes to stdout, as lines of JSON.`,
    options: {},
    async run() {
      await runProcess(readConfig(process.env, name), await load());
      return undefined;
    },
  });
}
