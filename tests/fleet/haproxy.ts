// HAProxy with deploy/haproxy.cfg, whose paths, user and log become those of a test.

import { readFileSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";

/** The file as it is shipped. */
export const shipped = readFileSync(resolve(import.meta.dir, "../../deploy/haproxy.cfg"), "utf8");

export interface HaproxyFiles {
  /** The command that runs it, as Debian's unit does. */
  readonly command: readonly string[];
  /** Sends a command to its socket, and returns the answer. */
  ask(command: string): Promise<string>;
}

/**
 * Writes its configuration and a certificate.
 * @param folder an empty one
 * @param change what else to change
 */
export function writeHaproxyFiles(folder: string, change = (config: string) => config): HaproxyFiles {
  const certificate = join(folder, "certificate.pem");
  const socket = join(folder, "admin.sock");
  const file = join(folder, "haproxy.cfg");
  const request = ["req", "-x509", "-newkey", "ed25519", "-nodes", "-subj", "/CN=mail.example.com"];
  const made = Bun.spawnSync(["openssl", ...request, "-keyout", certificate, "-out", "-"]);
  writeFileSync(certificate, made.stdout, { flag: "a" });
  const config = shipped
    .replace("/etc/haproxy/mail.example.com.pem", certificate)
    .replace("/run/haproxy/admin.sock", socket)
    .replace(/^ +(?:user|group|chroot|log) .*\n/gm, "");
  writeFileSync(file, change(config));
  return { command: ["haproxy", "-W", "-f", file], ask: (command) => ask(socket, command) };
}

async function ask(socket: string, command: string): Promise<string> {
  let answer = "";
  const { promise, resolve: end } = Promise.withResolvers<void>();
  await Bun.connect({
    unix: socket,
    socket: {
      open: (one) => void one.write(`${command}\n`),
      data: (_, bytes) => void (answer += bytes.toString()),
      close: () => end(),
      error: () => end(),
    },
  });
  await promise;
  return answer;
}
