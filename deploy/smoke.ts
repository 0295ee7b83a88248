// Whether an executable that was just built does what it is for: says what it is, and delivers an email.

import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

/** Long: an emulated processor takes its time. */
const stepMs = 60_000;

const cleanups = new Set<() => void>();
process.on("exit", () => {
  for (const clean of cleanups) clean();
});

/** Throws what is wrong. @param command how it is run: itself, perhaps behind an emulator */
export async function smoke(command: readonly string[], versionLine: string): Promise<void> {
  const version = await output([...command, "--version"]);
  if (version !== `${versionLine}\n`) {
    throw new Error(`--version says ${JSON.stringify(version)} and not ${JSON.stringify(versionLine)}`);
  }
  const help = await output([...command, "--help"]);
  if (!help.includes("\nUsage: ")) throw new Error(`--help says ${JSON.stringify(help)}`);
  await deliver(command);
}

async function output(command: readonly string[]): Promise<string> {
  const child = start(command, tmpdir(), {});
  const code = await within(`${command.join(" ")} ends`, child.exited);
  if (code !== 0) throw new Error(`${command.join(" ")}: exit code ${code}\n${await child.stderr.text()}`);
  return child.stdout.text();
}

/** One email, all the way from a request to a file, with nothing around that could help. */
async function deliver(command: readonly string[]): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), "reliable-email-smoke-"));
  const clean = () => rmSync(folder, { recursive: true, force: true });
  cleanups.add(clean);
  const env = { PROVIDERS: "sandbox", DATA_DIR: folder, PORT: "0", ADMIN_PORT: "0" };
  const children = ["server", "worker"].map((name) => ({
    name,
    ...watched([...command, name], folder, env),
  }));
  try {
    const { port } = await children[0]!.event("server-listening");
    const response = await within(
      "the server answers",
      fetch(`http://127.0.0.1:${String(port)}/`, {
        method: "POST",
        body: new URLSearchParams({
          subject: "Smoke",
          body: "Fire",
          to: "jane@example.org",
          from: "me@example.org",
        }),
      }),
    );
    const answer = await response.text();
    if (response.status !== 200) throw new Error(`the server answers ${response.status} ${answer}`);

    const { id } = JSON.parse(answer) as { id: string };
    const outbox = join(folder, "outbox");
    let file: string | undefined;
    await until("the email is delivered", () => {
      for (const { name, child } of children) {
        const how = child.exitCode ?? child.signalCode;
        if (how !== null) throw new Error(`the ${name} has ended by itself (${how})`);
      }
      try {
        file = readdirSync(outbox).find((name) => name.startsWith(`${id}.`));
      } catch {
        return false;
      }
      return file !== undefined;
    });
    const email = readFileSync(join(outbox, file!), "latin1");
    if (!/^Subject: Smoke\r?$/m.test(email)) throw new Error(`the email is ${JSON.stringify(email)}`);

    for (const { name, child } of children) {
      child.kill("SIGTERM");
      const code = await within(`the ${name} ends`, child.exited);
      if (code !== 0) throw new Error(`the ${name} exits with ${child.signalCode ?? code}`);
    }
  } catch (error) {
    const said = children.map(({ name, said }) => `${name}:\n${said()}`).join("\n");
    throw new Error(`${error instanceof Error ? error.message : String(error)}\n${said}`);
  } finally {
    for (const { child } of children) child.kill("SIGKILL");
    await Promise.all(children.map(({ child }) => child.exited));
    clean();
    cleanups.delete(clean);
  }
}

function start(command: readonly string[], cwd: string, env: Record<string, string>) {
  const child = Bun.spawn([...command], { cwd, env, stdin: "ignore", stdout: "pipe", stderr: "pipe" });
  const kill = () => child.kill("SIGKILL");
  cleanups.add(kill);
  void child.exited.then(() => cleanups.delete(kill));
  return child;
}

function watched(command: readonly string[], cwd: string, env: Record<string, string>) {
  const child = start(command, cwd, env);
  let said = "";
  for (const stream of [child.stdout, child.stderr]) {
    void (async () => {
      for await (const text of stream.pipeThrough(new TextDecoderStream())) said += text;
    })();
  }
  return {
    child,
    said: () => said,
    event: (name: string) =>
      until(`it says ${name}`, () => {
        if (child.exitCode !== null)
          throw new Error(`it exits with ${child.exitCode} before it says ${name}`);
        const line = said.split("\n").find((one) => one.includes(`"event":"${name}"`) && one.endsWith("}"));
        return line === undefined ? undefined : (JSON.parse(line) as Readonly<Record<string, unknown>>);
      }),
  };
}

async function until<T>(what: string, condition: () => T): Promise<NonNullable<T>> {
  const endMs = performance.now() + stepMs;
  for (;;) {
    const value = condition();
    if (value) return value;
    if (performance.now() > endMs) throw new Error(`not within ${stepMs / 1000} s: ${what}`);
    await Bun.sleep(20);
  }
}

function within<T>(what: string, promise: Promise<T>): Promise<T> {
  const { promise: late, reject } = Promise.withResolvers<never>();
  const timer = setTimeout(() => reject(new Error(`not within ${stepMs / 1000} s: ${what}`)), stepMs);
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}
