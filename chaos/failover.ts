// A failover of Redis behind one address: the standby is promoted, and the address leads to it from then on.

import { eventually } from "../tests/support/eventually.ts";
import type { Struck } from "./inject.ts";
import type { Fault } from "./scenario.ts";
import type { Redis, Deployment } from "./deployment.ts";

/** Makes a node the replica of another and waits until it is in sync. */
export async function follow(node: Redis, primary: Redis): Promise<void> {
  const { name } = node.component;
  await eventually(`${name} answers`, () => isOk(node.cli("REPLICAOF", "127.0.0.1", String(primary.port))));
  await eventually(
    `${name} replicates ${primary.component.name}`,
    () => node.cli("INFO", "replication").includes("master_link_status:up"),
    60_000,
  );
}

const isOk = (answer: string) => answer.startsWith("OK");

/** Fails over to the standby; the old primary finally returns as the standby. */
export function failOver(
  deployment: Deployment,
  { old: fate }: Extract<Fault, { do: "failOver" }>,
  forMs: number,
): Promise<Struck> {
  return deployment.exclusively(async () => {
    const [old, next] = [deployment.redis!, deployment.standby!];
    if (fate === "hung") old.component.signal("SIGSTOP");
    if (fate === "dead") await old.component.kill();
    next.cli("REPLICAOF", "NO", "ONE");
    deployment.switchPrimary();
    if (fate === "demoted") await follow(old, next);
    await Bun.sleep(forMs);
    if (fate === "hung") old.component.signal("SIGCONT");
    if (fate === "dead") old.component.start();
    if (fate !== "demoted") await follow(old, next);
    return { killed: fate === "dead" ? [old.component.name] : [] };
  });
}
