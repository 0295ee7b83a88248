// The identity of this program: its version, the commit it was built from, and its version of Bun.

import manifest from "../../package.json" with { type: "json" };

/** Defined by deploy/build.ts; not defined when running from the sources. */
declare const BUILD_COMMIT: string | undefined;

export const build = {
  name: manifest.name,
  version: manifest.version,
  commit: typeof BUILD_COMMIT === "undefined" ? undefined : BUILD_COMMIT,
  bun: Bun.version,
} as const;
