// Which program this is: its version, the commit that it was built from, and the Bun inside.

import manifest from "../../package.json" with { type: "json" };

/** Put in by deploy/build.ts; there is none when it runs from the sources. */
declare const BUILD_COMMIT: string | undefined;

export const build = {
  name: manifest.name,
  version: manifest.version,
  commit: typeof BUILD_COMMIT === "undefined" ? undefined : BUILD_COMMIT,
  bun: Bun.version,
} as const;
