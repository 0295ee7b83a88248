// An HTTP/1.1 server on bare sockets, for the fakes: unlike a well-behaved server, it can break connections. It reads
// one request at a time from each connection, keeps connections alive, and trusts its clients.

import type { Socket, TCPSocketListener } from "bun";

export interface RequestHead {
  readonly method: string;
  /** Without the query. */
  readonly path: string;
  readonly query: URLSearchParams;
  /** Names are in lower case. */
  readonly headers: Readonly<Record<string, string>>;
}

export interface Request extends RequestHead {
  readonly body: string;
}

export interface Answer {
  readonly status: number;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: string;
}

/** Replies to one request. Only one of these may be called, and once. */
export interface Reply {
  answer(answer: Answer): void;
  /** RST: the client sees ECONNRESET. */
  reset(): void;
  /** The given bytes, if any, then FIN. */
  close(bytes?: string | Uint8Array): void;
  /** The given bytes, then RST. */
  answerAndReset(bytes: string | Uint8Array): void;
}

type OnHead = (head: RequestHead, reply: Reply) => boolean;
type OnRequest = (request: Request, reply: Reply) => void;

export interface HttpServer {
  readonly port: number;
  readonly hostname: string;
  /** Refuses new connections and drops the open ones. */
  stop(): void;
}

/**
 * @param onHead called before the body is read; false if it has used `reply`: the rest is then not read
 * @param onRequest called with the whole request; may use `reply` at any time, or never
 */
export function listenHttp(
  options: { hostname?: string; port?: number },
  onHead: OnHead,
  onRequest: OnRequest,
): HttpServer {
  const connections = new Set<Connection>();
  const hostname = options.hostname ?? "127.0.0.1";
  const listener: TCPSocketListener<Connection> = Bun.listen<Connection>({
    hostname,
    port: options.port ?? 0,
    socket: {
      open(socket) {
        socket.data = new Connection(socket, onHead, onRequest);
        connections.add(socket.data);
      },
      data(socket, bytes) {
        socket.data.receive(bytes);
      },
      drain(socket) {
        socket.data.drain();
      },
      close(socket) {
        connections.delete(socket.data);
      },
      error() {},
    },
  });
  return {
    port: listener.port,
    hostname,
    stop() {
      listener.stop(true);
      for (const connection of connections) connection.socket.terminate();
    },
  };
}

export function jsonAnswer(status: number, value: unknown, headers?: Answer["headers"]): Answer {
  const type = "application/json; charset=utf-8";
  return { status, headers: { "content-type": type, ...headers }, body: JSON.stringify(value) };
}

/** The bytes of an answer. */
export function encodeAnswer(answer: Answer): string {
  const body = answer.body ?? "";
  let text = `HTTP/1.1 ${answer.status} ${reasonPhrase[answer.status] ?? "Status"}\r\n`;
  for (const [name, value] of Object.entries(answer.headers ?? {})) text += `${name}: ${value}\r\n`;
  return `${text}content-length: ${Buffer.byteLength(body)}\r\n\r\n${body}`;
}

const reasonPhrase: Record<number, string> = {
  200: "OK",
  307: "Temporary Redirect",
  400: "Bad Request",
  401: "Unauthorized",
  403: "Forbidden",
  404: "Not Found",
  409: "Conflict",
  422: "Unprocessable Entity",
  429: "Too Many Requests",
  500: "Internal Server Error",
  503: "Service Unavailable",
};

const headEnd = Buffer.from("\r\n\r\n");
const headMax = 65_536;

class Connection {
  /** Bytes received but not consumed yet. */
  #chunks: Uint8Array[] = [];
  #size = 0;
  #head: RequestHead | undefined;
  #bodySize = 0;
  /** `onRequest` was called and has not answered yet. */
  #busy = false;
  #closing = false;
  #unsent: Uint8Array | undefined;

  readonly socket: Socket<Connection>;
  readonly #onHead: OnHead;
  readonly #onRequest: OnRequest;

  constructor(socket: Socket<Connection>, onHead: OnHead, onRequest: OnRequest) {
    this.socket = socket;
    this.#onHead = onHead;
    this.#onRequest = onRequest;
  }

  receive(bytes: Uint8Array): void {
    if (this.#closing) return;
    // The socket reuses its buffer for the next bytes.
    this.#chunks.push(new Uint8Array(bytes));
    this.#size += bytes.byteLength;
    this.#advance();
  }

  #advance(): void {
    while (!this.#busy && !this.#closing && this.#size > 0) {
      if (!this.#head && !this.#readHead()) return;
      if (this.#size < this.#bodySize) return;
      const all = this.#joined();
      const body = all.toString("utf8", 0, this.#bodySize);
      this.#keep(all.subarray(this.#bodySize));
      const request = { ...(this.#head as RequestHead), body };
      this.#head = undefined;
      this.#busy = true;
      this.#onRequest(request, this.#reply());
    }
  }

  #readHead(): boolean {
    const all = this.#joined();
    const end = all.indexOf(headEnd);
    if (end === -1) {
      if (this.#size > headMax) this.socket.terminate();
      return false;
    }
    const [first = "", ...lines] = all.toString("latin1", 0, end).split("\r\n");
    const [method = "", target = ""] = first.split(" ");
    const headers: Record<string, string> = {};
    for (const line of lines) {
      const colon = line.indexOf(":");
      if (colon > 0) headers[line.slice(0, colon).toLowerCase()] = line.slice(colon + 1).trim();
    }
    const mark = target.indexOf("?");
    const path = mark === -1 ? target : target.slice(0, mark);
    this.#keep(all.subarray(end + headEnd.length));
    this.#head = { method, path, query: new URLSearchParams(mark === -1 ? "" : target.slice(mark)), headers };
    this.#bodySize = Number(headers["content-length"] ?? 0);
    if (headers["transfer-encoding"] || !Number.isSafeInteger(this.#bodySize)) {
      this.#reply().close(encodeAnswer({ status: 411, body: "a Content-Length is required" }));
      return false;
    }
    if (!this.#onHead(this.#head, this.#reply())) {
      this.#closing = true;
      return false;
    }
    if (headers["expect"]) this.#write("HTTP/1.1 100 Continue\r\n\r\n");
    return true;
  }

  #joined(): Buffer {
    const all =
      this.#chunks.length === 1 ? (this.#chunks[0] as Uint8Array) : Buffer.concat(this.#chunks, this.#size);
    this.#chunks = [all];
    return Buffer.from(all.buffer, all.byteOffset, all.byteLength);
  }

  #keep(rest: Uint8Array): void {
    this.#chunks = rest.byteLength > 0 ? [rest] : [];
    this.#size = rest.byteLength;
  }

  #reply(): Reply {
    return {
      answer: (answer) => {
        this.#write(encodeAnswer(answer));
        this.#busy = false;
        // Deferred, since `advance` may be what called this handler.
        if (this.#size > 0) setImmediate(() => this.#advance());
      },
      reset: () => {
        this.#closing = true;
        this.socket.terminate();
      },
      close: (bytes) => {
        this.#closing = true;
        if (bytes) this.#write(bytes);
        if (!this.#unsent) this.socket.end();
      },
      answerAndReset: (bytes) => {
        this.#closing = true;
        this.#write(bytes);
        // Delayed until the client has read the bytes: an RST discards those that it has not.
        setTimeout(() => this.socket.terminate(), 20);
      },
    };
  }

  #write(bytes: string | Uint8Array): void {
    const data = typeof bytes === "string" ? Buffer.from(bytes) : bytes;
    if (this.#unsent) {
      this.#unsent = Buffer.concat([this.#unsent, data]);
      return;
    }
    const written = Math.max(0, this.socket.write(data));
    if (written < data.byteLength) this.#unsent = data.slice(written);
  }

  drain(): void {
    const data = this.#unsent;
    this.#unsent = undefined;
    if (data) this.#write(data);
    if (this.#closing && !this.#unsent) this.socket.end();
  }
}
