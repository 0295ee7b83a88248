// The current faults of the sandboxes in use.

import { isSandbox } from "../../lib/providers/registry.ts";
import { noFaults, type SandboxFaults } from "../../lib/providers/sandbox/faults.ts";
import { faultsFile, readFaults } from "../../lib/providers/sandbox/faults_file.ts";
import type { Config } from "../../lib/config/config.ts";

/** Returns the faults by the names of the sandboxes. */
export function faultsOf({
  dataDir,
  providers,
  sandboxFaults = noFaults,
}: Config): Readonly<Record<string, SandboxFaults>> {
  const names = providers.map(({ name }) => name).filter(isSandbox);
  return Object.fromEntries(
    names.map((name) => {
      const initial = name === "sandbox" ? sandboxFaults : noFaults;
      return [name, readFaults(faultsFile(dataDir, name)) ?? initial];
    }),
  );
}
