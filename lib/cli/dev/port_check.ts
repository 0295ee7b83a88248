// Whether somebody listens on a port. A server would share it with another that allows that, and each would get
// some of the emails: nothing for a first try.

import { createServer } from "node:net";

/** False whenever it cannot be said: then the server says what is wrong. */
export function isTaken(host: string, port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const probe = createServer();
    probe.once("error", (error) => resolve("code" in error && error.code === "EADDRINUSE"));
    probe.listen({ host, port, exclusive: true }, () => probe.close(() => resolve(false)));
  });
}
