// The TCP proxy.

import { expect, test } from "bun:test";
import { once } from "node:events";
import { type AddressInfo, connect, createServer, type Socket } from "node:net";
import { startProxy } from "../../fakes/tcp_proxy.ts";
import { eventually } from "../support/eventually.ts";

test("proxy: replies keep their order when a delay ends", async () => {
  const sockets: Socket[] = [];
  const server = createServer((socket) => sockets.push(socket)).listen(0, "127.0.0.1");
  await once(server, "listening");
  const proxy = await startProxy((server.address() as AddressInfo).port);
  const client = connect(proxy.port, "127.0.0.1");
  try {
    let received = "";
    client.on("data", (bytes) => (received += bytes.toString()));
    const socket = await eventually("it is connected", () => sockets[0]);
    const sent = Array.from({ length: 40 }, (_, i) => `${i} `);
    for (const [i, piece] of sent.entries()) {
      proxy.delayMs = i % 2 === 0 ? 50 : 0;
      socket.write(piece);
      // Makes it arrive as a separate piece.
      await Bun.sleep(2);
    }
    await eventually("all have arrived", () => received.length === sent.join("").length);
    expect(received).toBe(sent.join(""));
  } finally {
    client.destroy();
    proxy.stop();
    server.close();
  }
});
