// The least that a server can do: compiled, it is what `startup` compares the executable with. Listens on PORT.

const port = Number(process.env["PORT"] ?? 0);
const server = Bun.serve({ hostname: "127.0.0.1", port, development: false, fetch: () => new Response("") });
console.log(JSON.stringify({ event: "server-listening", port: server.port }));
