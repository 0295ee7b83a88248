// Which program this is: its version, the commit that it was built from, and the Bun inside.

import manifest from "../../package.json" with { type: "json" };

/** Put in by deploy/build.ts; there is none when it runs from the sources. */
declare const BUILD_COMMIT: string | undefined;

export function versionLine(): string {
  const origin = typeof BUILD_COMMIT === "undefined" ? "from sources" : `commit ${BUILD_COMMIT}`;
  return `${manifest.name} ${manifest.version} (${origin}, bun ${Bun.version})`;
}
