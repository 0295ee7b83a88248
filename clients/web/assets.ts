// The page's files. The executable contains them bundled; run from source, they are bundled at the first request.

import page from "./page/index.html";

export interface Asset {
  readonly bytes: Uint8Array<ArrayBuffer>;
  readonly type: string;
}

/** Files by path; the page itself is at `/`. */
export type Assets = ReadonlyMap<string, Asset>;

let assets: Promise<Assets> | undefined;

export function loadAssets(): Promise<Assets> {
  assets ??= page.files === undefined ? bundle() : readBundled(page.files);
  return assets;
}

async function readBundled(files: NonNullable<typeof page.files>): Promise<Assets> {
  const entries = files.map(async ({ path, loader, headers }) => {
    const bytes = await Bun.file(path).bytes();
    return [pathOf(path, loader === "html"), { bytes, type: headers["content-type"] }] as const;
  });
  return new Map(await Promise.all(entries));
}

async function bundle(): Promise<Assets> {
  const { outputs } = await Bun.build({ entrypoints: [page.index], target: "browser" });
  const entries = outputs.map(async (output) => {
    const isPage = output.path.endsWith(".html");
    const bytes = new Uint8Array(await output.arrayBuffer());
    return [pathOf(output.path, isPage), { bytes, type: output.type }] as const;
  });
  return new Map(await Promise.all(entries));
}

/** Removes the folder: the page refers to its files without one. */
function pathOf(path: string, isPage: boolean): string {
  return isPage ? "/" : path.slice(path.lastIndexOf("/"));
}
