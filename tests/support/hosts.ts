// A network of several hosts on one machine: each host is a network namespace with one cable to a common switch. Files,
// and so Unix sockets, are shared with the machine; addresses and ports are not. Everything ends with the test.

import { eventually } from "./eventually.ts";

interface Way {
  /** Creates the first namespace. */
  readonly create: readonly string[];
  /** Options of nsenter besides the network. */
  readonly enter: readonly string[];
}

/** How to create namespaces, in order of preference. */
const ways: readonly Way[] = [
  // A user namespace, which any user can create. The kernel refuses it in a chroot.
  {
    create: ["unshare", "--map-root-user", "--net"],
    enter: ["--user", "--preserve-credentials"],
  },
  // For root.
  { create: ["unshare", "--net"], enter: [] },
];

const createsCable = "ip link add name a type veth peer name b && ip link add name c type bridge";

const way = ways.find(
  ({ create }) => Bun.spawnSync([...create, "sh", "-c", createsCable], { stderr: "ignore" }).success,
);

export const hasNetwork = way !== undefined;

/** Suffix for the names of tests that need a network of their own: the reason, if they are skipped. */
export const orWhyNot = hasNetwork
  ? ""
  : " (skipped: to create a network, run as root with CAP_NET_ADMIN or allow user namespaces, with iproute2 and veth)";

export interface Host {
  readonly address: string;
  /** The command that runs another one on this host. It has the same process id. */
  command(command: readonly string[]): string[];
  /** Cuts or mends its cable. While it is cut, whatever is sent to or by the host is lost without an error. */
  cut(): void;
  mend(): void;
}

export interface Network {
  /** A new host with this address, in 10.0.0.0/24. */
  addHost(address: string): Promise<Host>;
  stop(): void;
}

export async function startNetwork(): Promise<Network> {
  const holders: Bun.Subprocess[] = [];
  /** Creates a namespace that lasts as long as this process. */
  async function create(command: readonly string[]): Promise<{ pid: number; enter: readonly string[] }> {
    const holder = Bun.spawn([...command, "sh", "-c", "ip link set lo up && echo up && exec cat"], {
      // It reads the end of its input when this process ends.
      stdin: "pipe",
      stdout: "pipe",
      stderr: "inherit",
    });
    holders.push(holder);
    const { value } = await holder.stdout.getReader().read();
    if (value === undefined) throw new Error(`${command.join(" ")}: no namespace`);
    const { pid } = holder;
    return { pid, enter: ["nsenter", `--target=${pid}`, ...way!.enter, "--net"] };
  }
  const { enter: atSwitch } = await create(way!.create);
  run([...atSwitch, "ip", "link", "add", "name", "switch", "type", "bridge"]);
  run([...atSwitch, "ip", "link", "set", "switch", "up"]);
  let cables = 0;

  return {
    async addHost(address) {
      cables += 1;
      const cable = `cable-${cables}`;
      const { pid, enter: atHost } = await create([...atSwitch, "unshare", "--net"]);
      const lines = [
        `ip link add name ${cable} type veth peer name eth0 netns ${pid}`,
        `ip link set ${cable} master switch up`,
      ];
      run([...atSwitch, "sh", "-ec", lines.join("\n")]);
      run([...atHost, "sh", "-ec", `ip address add ${address}/24 dev eth0\nip link set eth0 up`]);
      const turn = (state: "up" | "down") => run([...atSwitch, "ip", "link", "set", cable, state]);
      await eventually(`${address} has a carrier`, () =>
        read([...atHost, "ip", "-brief", "link", "show", "eth0"]).includes(" UP "),
      );
      return {
        address,
        command: (command) => [...atHost, ...command],
        cut: () => turn("down"),
        mend: () => turn("up"),
      };
    },
    stop() {
      for (const holder of holders.toReversed()) holder.kill("SIGKILL");
    },
  };
}

function read(command: readonly string[]): string {
  const { exitCode, stdout, stderr } = Bun.spawnSync([...command]);
  if (exitCode !== 0) throw new Error(`${command.join(" ")}: ${stderr.toString().trim()}`);
  return stdout.toString();
}

const run = (command: readonly string[]): void => void read(command);
