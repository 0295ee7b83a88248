// The commands `server` and `worker`: the two entry points, as they are.

import { type Command, readOptions } from "./command.ts";

const untilStdinCloses = "until-stdin-closes";

export const serverCommand = service({
  name: "server",
  summary: "takes emails over HTTP, and answers once they are stored",
  about: [
    "Takes emails over HTTP and puts them into the queue. The answer is 200 once an",
    "email is on disk. Servers may share a port.",
    "",
    "Settings that matter most: HOST, PORT, DEFAULT_FROM, and REDIS_URL or DATA_DIR.",
  ],
  load: () => import("../../server.ts"),
});

export const workerCommand = service({
  name: "worker",
  summary: "delivers what is stored, through the providers",
  about: [
    "Takes emails out of the queue and hands them to the providers. There may be any",
    "number of workers.",
    "",
    "Settings that matter most: RESEND_API_KEY, POSTMARK_SERVER_TOKEN, PROVIDERS,",
    "and REDIS_URL or DATA_DIR.",
  ],
  load: () => import("../../worker.ts"),
});

function service({
  name,
  summary,
  about,
  load,
}: {
  name: string;
  summary: string;
  about: readonly string[];
  /** Starts it: nothing of it is loaded before, so that other commands start quickly. */
  load: () => Promise<unknown>;
}): Command {
  return {
    name,
    summary,
    help: [
      `Usage: reliable-email ${name} [--${untilStdinCloses}]`,
      "",
      ...about,
      "",
      "SIGTERM, SIGINT and SIGHUP make it finish what it has begun, then it exits with",
      "0; a second signal ends it at once. Under nohup it does not react to SIGHUP. The",
      "log goes to stdout, as lines of JSON.",
      "",
      "Options:",
      `  --${untilStdinCloses}   the end of standard input is as good as SIGTERM: for a`,
      "                         parent that must not leave it behind when it is killed",
    ].join("\n"),
    async run(args) {
      const read = readOptions(args, { [untilStdinCloses]: { type: "boolean" } });
      if (!read.ok) return { kind: "wrongUsage", usageError: read.usageError };
      if (read.values[untilStdinCloses]) stopWithStdin();
      await load();
      return { kind: "running" };
    },
  };
}

function stopWithStdin(): void {
  const stop = () => process.kill(process.pid, "SIGTERM");
  process.stdin.on("end", stop).on("error", stop).resume();
}
