// A fleet on a network of its own, as docs/high-availability.md describes it: HAProxy with deploy/haproxy.cfg, two hosts
// with two servers each, a worker, a store, a fake of Resend, and clients.

import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import type { Acceptance } from "../../fakes/ledger.ts";
import { eventually } from "../support/eventually.ts";
import { type Host, type Network, startNetwork } from "../support/hosts.ts";
import { startCommand } from "../support/service.ts";
import type { Answer } from "./clients.ts";
import { writeHaproxyFiles } from "./haproxy.ts";
import { Member } from "./member.ts";
import { createRedis, createSentinel, type Store } from "./store.ts";

/** The folder of this release's sources. */
export const root = resolve(import.meta.dir, "../..");

const bun = [process.execPath, "--no-install"];
const emailsPerSecond = 100;
const addresses = {
  clients: "10.0.0.1",
  worker: "10.0.0.2",
  resend: "10.0.0.3",
  haproxy: "10.0.0.10",
  a: "10.0.0.11",
  b: "10.0.0.12",
  store1: "10.0.0.21",
  store2: "10.0.0.22",
  store3: "10.0.0.23",
};
const settings = { DEFAULT_FROM: "shop@example.com", ALLOW_ANONYMOUS: "1" };
const workerSettings = {
  ...settings,
  ADMIN_PORT: "",
  RESEND_API_KEY: "re_fake",
  RESEND_BASE_URL: `http://${addresses.resend}`,
  PROVIDER_TIMEOUT: "10s",
  LEASE: "20s",
};

export interface FleetOptions {
  /** The folder of the sources that it runs first; this release's by default. */
  readonly sources?: string;
  /** Whether the store has replicas and Sentinels. */
  readonly hasSentinel?: boolean;
}

export type ServerName = "a1" | "a2" | "b1" | "b2";

export class Fleet {
  /** The folder of the sources that servers and the worker run when they are started next. */
  sources: string;
  readonly store: Store;
  readonly worker: Member;
  readonly haproxy: Member;
  /** By their names in deploy/haproxy.cfg: a1 and a2 are on one host, b1 and b2 on the other. */
  readonly servers: Readonly<Record<ServerName, Member>>;
  /** Sends a command to HAProxy, and returns its answer. */
  readonly ask: (command: string) => Promise<string>;
  readonly #resend: Member;
  readonly #clientsHost: Host;
  readonly #network: Network;
  readonly #folder: string;

  constructor(
    network: Network,
    hosts: Readonly<Record<keyof typeof addresses, Host>>,
    { sources = root, hasSentinel = false }: FleetOptions,
  ) {
    this.sources = sources;
    const folder = mkdtempSync(join(tmpdir(), "reliable-email-fleet-"));
    this.#folder = folder;
    this.#network = network;
    this.#clientsHost = hosts.clients;
    const { store1, store2, store3 } = hosts;
    this.store = hasSentinel ? createSentinel([store1, store2, store3], folder) : createRedis(store1, folder);
    const fakes = ["--quiet", `--host=${addresses.resend}`, "--resend-port=80", `--journal=${this.#journal}`];
    this.#resend = new Member({
      host: hosts.resend,
      command: () => [...bun, join(root, "fakes/main.ts"), ...fakes],
      banner: "resendApiKey",
    });
    this.worker = new Member({
      host: hosts.worker,
      command: () => [...bun, join(this.sources, "worker.ts")],
      env: { ...workerSettings, ...this.store.settings },
      banner: "worker-started",
    });
    const server = (host: Host, PORT: string, ADMIN_PORT: string) =>
      new Member({
        host,
        command: () => [...bun, join(this.sources, "server.ts")],
        env: {
          ...settings,
          ...this.store.settings,
          HOST: host.address,
          PORT,
          ADMIN_HOST: host.address,
          ADMIN_PORT,
        },
        banner: "server-listening",
      });
    this.servers = {
      a1: server(hosts.a, "3000", "3001"),
      a2: server(hosts.a, "3010", "3011"),
      b1: server(hosts.b, "3000", "3001"),
      b2: server(hosts.b, "3010", "3011"),
    };
    const { command, ask } = writeHaproxyFiles(folder);
    this.haproxy = new Member({ host: hosts.haproxy, command: () => command, banner: "Loading success" });
    this.ask = ask;
  }

  get #journal(): string {
    return join(this.#folder, "acceptances.jsonl");
  }

  async start(): Promise<void> {
    await Promise.all([this.store.start(), this.#resend.start()]);
    await Promise.all([this.worker, ...Object.values(this.servers)].map((member) => member.start()));
    await this.haproxy.start();
  }

  async stop(): Promise<void> {
    const { store, worker, haproxy, servers } = this;
    const all = [store, worker, haproxy, this.#resend, ...Object.values(servers)];
    await Promise.all(all.map((one) => one.kill()));
    this.#network.stop();
    rmSync(this.#folder, { recursive: true, force: true });
  }

  /** Begins to submit emails, and waits until some are acknowledged. */
  async startClients(): Promise<Clients> {
    const clients = new Clients(this.#clientsHost);
    await clients.succeed();
    return clients;
  }

  /** Waits until HAProxy has found that a server is ready, or is not. */
  async becomes(server: ServerName, state: "UP" | "DOWN"): Promise<void> {
    await eventually(
      `${server} is ${state}`,
      async () => (await this.#statistic(server, "status")) === state,
    );
  }

  /** The requests of clients that a server has under way. */
  async load(server: ServerName): Promise<number> {
    return Number(await this.#statistic(server, "scur"));
  }

  /** A column of HAProxy's statistics of a server, as one that is chosen by its readiness. */
  async #statistic(server: ServerName, column: string): Promise<string> {
    const [head = "", ...rows] = (await this.ask("show stat")).split("\n");
    const row = rows.find((one) => one.startsWith(`ready,${server},`));
    return row?.split(",")[head.split(",").indexOf(column)] ?? "";
  }

  /** Waits until the queue is empty, and returns every email that Resend has accepted. */
  async drains(): Promise<readonly Acceptance[]> {
    const command = [...bun, join(root, "lib/cli/main.ts"), "queue", "stats", "--json"];
    await eventually("the queue is empty", async () => {
      const { stdout } = Bun.spawn(this.worker.host.command(command), {
        cwd: this.#folder,
        env: { PATH: Bun.env["PATH"] ?? "", ...settings, ...this.store.settings },
        stderr: "inherit",
      });
      const { waiting, retrying, sending, "in-doubt": inDoubt } = JSON.parse(await stdout.text());
      return waiting + retrying + sending + inDoubt === 0;
    });
    const lines = readFileSync(this.#journal, "utf8").trim().split("\n");
    return lines.map((line) => JSON.parse(line) as Acceptance);
  }
}

export async function startFleet(options: FleetOptions = {}): Promise<Fleet> {
  const network = await startNetwork();
  const hosts = await Promise.all(
    Object.entries(addresses).map(async ([name, address]) => [name, await network.addHost(address)] as const),
  );
  const fleet = new Fleet(
    network,
    Object.fromEntries(hosts) as Record<keyof typeof addresses, Host>,
    options,
  );
  try {
    await fleet.start();
    return fleet;
  } catch (error) {
    await fleet.stop();
    throw error;
  }
}

export class Clients {
  readonly #process;

  constructor(host: Host) {
    const script = join(import.meta.dir, "clients.ts");
    const command = [...bun, script, `https://${addresses.haproxy}/`, String(emailsPerSecond)];
    this.#process = startCommand(host.command(command));
  }

  get #answers(): readonly Answer[] {
    return this.#process.lines as readonly unknown[] as readonly Answer[];
  }

  /** Waits for this many more answers of 200. */
  async succeed(count = 50): Promise<void> {
    const stored = () => this.#answers.filter(({ status }) => status === 200).length;
    const before = stored();
    await eventually(`${count} more emails are acknowledged`, () => stored() - before >= count);
  }

  /** Stops submitting, and returns the answers to all emails. */
  async finish(): Promise<readonly Answer[]> {
    const code = await this.#process.kill("SIGTERM");
    if (code !== 0) throw new Error(`the clients exited with ${code}: ${this.#process.stderr()}`);
    return this.#answers;
  }
}
