// One process of a fleet, on one of its hosts, which can be started again.

import { eventually } from "../support/eventually.ts";
import type { Host } from "../support/hosts.ts";
import { type Process, startCommand } from "../support/service.ts";

interface MemberOptions {
  readonly host: Host;
  /** Called at each start. */
  readonly command: () => readonly string[];
  readonly env?: Readonly<Record<string, string>>;
  /** Appears in its output once it is up. */
  readonly banner: string;
}

export class Member {
  readonly host: Host;
  readonly #options: MemberOptions;
  #process: Process | undefined;

  constructor(options: MemberOptions) {
    this.host = options.host;
    this.#options = options;
  }

  /** Starts it, and waits until it is up. */
  async start(): Promise<void> {
    const { command, env, banner } = this.#options;
    const all = { PATH: Bun.env["PATH"] ?? "", ...env };
    const started = startCommand(this.host.command(command()), { env: all });
    this.#process = started;
    let code: number | undefined;
    void started.exited.then((exitCode) => (code = exitCode));
    await eventually(
      () => `it is up (${this.output})`,
      () => {
        if (code !== undefined) throw new Error(`${command().join(" ")}: exit code ${code} (${this.output})`);
        return this.output.includes(banner);
      },
    );
  }

  /** Everything that it has written since its last start. */
  get output(): string {
    return `${this.#process?.stdout()}${this.#process?.stderr()}`;
  }

  signal(signal: NodeJS.Signals): void {
    this.#process?.signal(signal);
  }

  async kill(): Promise<void> {
    await this.#process?.kill();
  }

  /** Ends it with SIGTERM, and starts it again. */
  async restart(): Promise<void> {
    const code = await this.#process?.kill("SIGTERM");
    if (code !== 0) throw new Error(`exit code ${code} (${this.output})`);
    await this.start();
  }
}
