// Unguessable paths for what the browser requests without the token: the HTML of an email for a frame, and files to save.

/** Most paths that are valid at a time; the oldest expires first. */
const pathsMax = 100;

type Open = () => Promise<Response | undefined>;

export class SecretPaths {
  readonly #opens = new Map<string, Open>();

  /** @param open answers each request for the path; undefined once there is nothing any more */
  issue(open: Open): string {
    const path = `/mail/${Buffer.from(crypto.getRandomValues(new Uint8Array(24))).toString("base64url")}`;
    const [oldest] = this.#opens.keys();
    if (this.#opens.size >= pathsMax && oldest !== undefined) this.#opens.delete(oldest);
    this.#opens.set(path, open);
    return path;
  }

  /** Resolves to undefined for a path that was not issued. */
  async open(path: string): Promise<Response | undefined> {
    return this.#opens.get(path)?.();
  }
}
