// Smoke test of a freshly built executable: it prints its version and help, and delivers an email.

import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

/** Generous, because an emulated processor is slow. */
const stepMs = 60_000;

const cleanups = new Set<() => void>();
process.on("exit", () => {
  for (const clean of cleanups) clean();
});

/**
 * Throws if something is wrong.
 * @param command how to run the executable, perhaps with an emulator in front
 */
export async function smoke(command: readonly string[], versionLine: string): Promise<void> {
  const version = await output([...command, "--version"]);
  if (version !== `${versionLine}\n`) {
    throw new Error(`--version printed ${JSON.stringify(version)} instead of ${JSON.stringify(versionLine)}`);
  }
  const help = await output([...command, "--help"]);
  if (!help.startsWith("Usage: ")) throw new Error(`--help printed ${JSON.stringify(help)}`);
  await deliver(command);
}

async function output(command: readonly string[]): Promise<string> {
  const child = start(command, tmpdir(), {});
  const code = await within(`${command.join(" ")} ends`, child.exited);
  if (code !== 0) throw new Error(`${command.join(" ")}: exit code ${code}\n${await child.stderr.text()}`);
  return child.stdout.text();
}

/** Sends one email all the way from a request to a file, in an empty environment. */
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
    if (response.status !== 200) throw new Error(`the server answered ${response.status} ${answer}`);

    const { id } = JSON.parse(answer) as { id: string };
    const outbox = join(folder, "outbox");
    let file: string | undefined;
    await until("the email is delivered", () => {
      for (const { name, child } of children) {
        const how = child.exitCode ?? child.signalCode;
        if (how !== null) throw new Error(`the ${name} exited on its own (${how})`);
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
      const code = await within(`the ${name} exits`, child.exited);
      if (code !== 0) throw new Error(`the ${name} exited with ${child.signalCode ?? code}`);
    }
  } catch (error) {
    const output = children.map(({ name, output }) => `${name}:\n${output()}`).join("\n");
    throw new Error(`${error instanceof Error ? error.message : String(error)}\n${output}`);
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
  let output = "";
  for (const stream of [child.stdout, child.stderr]) {
    void (async () => {
      for await (const text of stream.pipeThrough(new TextDecoderStream())) output += text;
    })();
  }
  return {
    child,
    output: () => output,
    event: (name: string) =>
      until(`it logs ${name}`, () => {
        if (child.exitCode !== null)
          throw new Error(`it exited with ${child.exitCode} before it logged ${name}`);
        const line = output.split("\n").find((one) => one.includes(`"event":"${name}"`) && one.endsWith("}"));
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
