// A running service, for pages that assume one.

import type { Machine } from "./machine.ts";

export const bothReady =
  "curl --fail-with-body localhost:3001/readyz && curl --fail-with-body localhost:3002/readyz";

/**
 * Installs the units as docs/deploy-systemd.md does, but from the sources.
 * @param settings lines of their environment
 */
export async function installUnits({ run }: Machine, ...settings: string[]): Promise<void> {
  await run(`
    install -D -m 644 -t /etc/systemd/system deploy/systemd/*.service
    cp -r deploy/systemd/from-sources/. /etc/systemd/system/
    install -D -m 600 deploy/systemd/env.example /etc/reliable-email/env
    systemd-sysusers "$PWD/deploy/systemd/sysusers.d/reliable-email.conf"`);
  await run("cat >> /etc/reliable-email/env", { typed: `${settings.join("\n")}\n` });
  await run("systemctl daemon-reload");
}

/** The same, and starts a server and a worker. */
export async function installService(machine: Machine, ...settings: string[]): Promise<void> {
  await installUnits(machine, ...settings);
  await machine.run("systemctl enable --now reliable-email-server reliable-email-worker");
  await machine.until(bothReady);
}

/**
 * Starts the service by hand, with a fake of Resend. Its settings apply to every command in the folder of the sources.
 */
export async function startService({ open, run, until }: Machine): Promise<void> {
  await run("cat > .env", {
    typed: "DEFAULT_FROM=shop@example.com\nRESEND_API_KEY=re_fake\nRESEND_BASE_URL=http://127.0.0.1:7210\n",
  });
  await open("npx bun fakes/main.ts --resend-port 7210").shows(/postmarkServerToken/);
  open("npm run server");
  open("npm run worker");
  await until(bothReady);
}

/** Waits until the worker's queue has this many emails in a state. */
export async function untilCounted({ until }: Machine, state: string, count: number): Promise<void> {
  await until(
    `curl localhost:3002/metrics | grep '^reliable_email_queue_emails{state="${state}"} ${count}$'`,
  );
}

export async function submit({ run }: Machine, subject = "Hi"): Promise<string> {
  const answer = JSON.parse(
    await run(`curl -d subject=${subject} -d body=Hello -d to=jane@example.org localhost:3000`),
  );
  if (answer.ok !== true) throw new Error(answer.error_message);
  return answer.id;
}

/**
 * Waits for the first dead letter of the queue, whose sender Resend refused, and returns its id. After that, the sender
 * is accepted.
 */
export async function makeDeadLetter(machine: Machine): Promise<string> {
  const refuse = (domains: string) =>
    machine.run(`curl -d '{"unverifiedDomains":[${domains}]}' localhost:7210/_fake/settings`);
  await refuse('"example.com"');
  const id = await submit(machine);
  await untilCounted(machine, "dead", 1);
  await refuse("");
  return id;
}
