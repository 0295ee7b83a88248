// The providers, one entry each: its credential, and how it is created from the settings. An adapter and its SDK are
// loaded when they are first needed.

import { join } from "node:path";
import { obstacleIn } from "../runtime/durable_dir.ts";
import type { CheckResult, Provider } from "./provider.ts";
import { noFaults, type SandboxFaults } from "./sandbox/faults.ts";

/** The settings that the providers use, by their names in `Config`. */
export interface ProviderSettings {
  readonly resendApiKey: string | undefined;
  readonly resendBaseUrl: string | undefined;
  readonly postmarkServerToken: string | undefined;
  readonly postmarkBaseUrl: string | undefined;
  readonly postmarkMessageStream: string;
  readonly postmarkSearchWaitMs: number;
  readonly dataDir: string;
  readonly sandboxFaults: SandboxFaults | undefined;
}

export interface Registration {
  /** The setting with its credential. A provider without one is used only if `PROVIDERS` names it. */
  readonly credential: string | undefined;
  /** Requires that the credential is set. */
  create(settings: ProviderSettings): Promise<Provider>;
  /** Checks it without creating or changing anything, for a provider whose own check does. */
  inspect?(settings: ProviderSettings): CheckResult;
}

export const registry = {
  resend: {
    credential: "RESEND_API_KEY",
    async create({ resendApiKey, resendBaseUrl }) {
      const { createResend } = await import("./resend.ts");
      return createResend({ apiKey: resendApiKey!, baseUrl: resendBaseUrl });
    },
  },
  postmark: {
    credential: "POSTMARK_SERVER_TOKEN",
    async create(settings) {
      const { createPostmark } = await import("./postmark.ts");
      return createPostmark({
        serverToken: settings.postmarkServerToken!,
        baseUrl: settings.postmarkBaseUrl,
        messageStream: settings.postmarkMessageStream,
        searchWaitMs: settings.postmarkSearchWaitMs,
      });
    },
  },
  sandbox: {
    credential: undefined,
    create: ({ dataDir, sandboxFaults }) => startSandbox("sandbox", dataDir, sandboxFaults),
    inspect: inspectOutbox,
  },
  // With two, a failover can be watched without any account. They share the outbox; each has faults of its own.
  "sandbox-2": {
    credential: undefined,
    create: ({ dataDir }) => startSandbox("sandbox-2", dataDir),
    inspect: inspectOutbox,
  },
} as const satisfies Record<string, Registration>;

export type ProviderName = keyof typeof registry;

/** The names that `PROVIDERS` may have. */
export const providerNames = Object.keys(registry) as ProviderName[];

/** The providers that deliver into files. */
export const sandboxNames = ["sandbox", "sandbox-2"] as const satisfies readonly ProviderName[];

export function isSandbox(name: string): boolean {
  return sandboxNames.some((one) => one === name);
}

/** The folder of the sandboxes. */
export function outboxIn(dataDir: string): string {
  return join(dataDir, "outbox");
}

async function startSandbox(name: string, dataDir: string, faults = noFaults): Promise<Provider> {
  const [{ createSandbox }, { faultsFile, removeFaults }] = await Promise.all([
    import("./sandbox/sandbox.ts"),
    import("./sandbox/faults_file.ts"),
  ]);
  const file = faultsFile(dataDir, name);
  removeFaults(file);
  return createSandbox({ name, outbox: outboxIn(dataDir), faults, faultsFile: file });
}

function inspectOutbox({ dataDir }: ProviderSettings): CheckResult {
  const outbox = outboxIn(dataDir);
  const obstacle = obstacleIn(outbox);
  return obstacle === undefined
    ? { ok: true, answered: true, detail: `${outbox} can be written to` }
    : { ok: false, answered: true, reason: `${outbox} cannot be written to (${obstacle})` };
}
