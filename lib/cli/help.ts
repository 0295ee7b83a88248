// What `--help` says: enough for somebody who has nothing but the executable to send a first email.

import { type Command, wordOf } from "./command.ts";

export function helpOf(commands: readonly Command[]): string {
  return [
    "reliable-email takes emails over HTTP, stores them, and delivers them through",
    "Resend or Postmark. Whatever is killed meanwhile, none of them is lost.",
    "",
    "Usage: reliable-email <command> [options]",
    "",
    "Commands:",
    ...commands.map((command) => `  ${wordOf(command).padEnd(8)} ${command.summary}`),
    "",
    "Options:",
    "  --help     this; after a command, what is to know about it",
    "  --version  the version, the commit and the version of Bun",
    "",
    "To try it, run `reliable-email dev`, which needs no settings and sends nothing.",
    "Then send an email:",
    "",
    "  curl -d subject=Hi -d body=Hello -d to=jane@example.org http://127.0.0.1:3000",
    "",
    "For real, run `server` and `worker` with settings in the environment:",
    "",
    "  RESEND_API_KEY, POSTMARK_SERVER_TOKEN   one of them at least, for the worker",
    "  DEFAULT_FROM                            the sender, where an email names none",
    "  REDIS_URL                               where the queue is; without it, in",
    "  DATA_DIR                                this folder, ./data by default",
    "  HOST, PORT                              where the server listens, by default",
    "                                          127.0.0.1 and 3000",
    "",
    "`config --check` tries what the settings lead to, and `queue stats` tells how it",
    "goes.",
    "",
    "All settings, the API, the log and what happens when something fails are in",
    "README.md.",
    "",
    "Exit codes: 0 done, 1 failed, 2 wrong usage or a wrong setting.",
  ].join("\n");
}
