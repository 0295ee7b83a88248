// HTTP/1.1 over bare sockets, for the fakes alone: it can do to a connection what no well-behaved server would.
// Reads one request at a time from each connection, keeps it alive, and believes that its clients are ours.

import type { Socket, TCPSocketListener } from "bun";

/** What is known once the head of a request has been read. */
export interface RequestHead {
  readonly method: string;
  /** Without the query. */
  readonly path: string;
  readonly query: URLSearchParams;
  /** By lower-case name. */
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

/** The other end of one request. After any of these nothing more can be said. */
export interface Reply {
  answer(answer: Answer): void;
  /** RST: the client sees ECONNRESET. */
  reset(): void;
  /** FIN without a word, or in the middle of the given bytes. */
  close(bytes?: string | Uint8Array): void;
  /** The first part of an answer, then RST. */
  answerAndReset(bytes: string | Uint8Array): void;
}

export interface HttpServer {
  readonly port: number;
  readonly hostname: string;
  /** Refuses connections and drops those that stand. */
  stop(): void;
}

/**
 * @param onHead called before the body is read; false: `reply` was used, and the rest is not read.
 * @param onRequest called with the whole of it; uses `reply` whenever it likes, or never.
 */
export function listenHttp(
  options: { hostname?: string; port?: number },
  onHead: (head: RequestHead, reply: Reply) => boolean,
  onRequest: (request: Request, reply: Reply) => void,
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
  /** Bytes received and not yet used. */
  private chunks: Uint8Array[] = [];
  private size = 0;
  private head: RequestHead | undefined;
  private bodySize = 0;
  /** A request has been handed out, and its reply is awaited. */
  private busy = false;
  private closing = false;
  private unsent: Uint8Array | undefined;

  readonly socket: Socket<Connection>;
  private readonly onHead: (head: RequestHead, reply: Reply) => boolean;
  private readonly onRequest: (request: Request, reply: Reply) => void;

  constructor(
    socket: Socket<Connection>,
    onHead: (head: RequestHead, reply: Reply) => boolean,
    onRequest: (request: Request, reply: Reply) => void,
  ) {
    this.socket = socket;
    this.onHead = onHead;
    this.onRequest = onRequest;
  }

  receive(bytes: Uint8Array): void {
    if (this.closing) return;
    // The bytes belong to the socket and are overwritten by the next ones.
    this.chunks.push(new Uint8Array(bytes));
    this.size += bytes.byteLength;
    this.advance();
  }

  private advance(): void {
    while (!this.busy && !this.closing && this.size > 0) {
      if (!this.head && !this.readHead()) return;
      if (this.size < this.bodySize) return;
      const all = this.joined();
      const body = all.toString("utf8", 0, this.bodySize);
      this.keep(all.subarray(this.bodySize));
      const request = { ...(this.head as RequestHead), body };
      this.head = undefined;
      this.busy = true;
      this.onRequest(request, this.reply());
    }
  }

  private readHead(): boolean {
    const all = this.joined();
    const end = all.indexOf(headEnd);
    if (end === -1) {
      if (this.size > headMax) this.socket.terminate();
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
    this.keep(all.subarray(end + headEnd.length));
    this.head = { method, path, query: new URLSearchParams(mark === -1 ? "" : target.slice(mark)), headers };
    this.bodySize = Number(headers["content-length"] ?? 0);
    if (headers["transfer-encoding"] || !Number.isSafeInteger(this.bodySize)) {
      this.reply().close(encodeAnswer({ status: 411, body: "a Content-Length is required" }));
      return false;
    }
    if (!this.onHead(this.head, this.reply())) {
      this.closing = true;
      return false;
    }
    if (headers["expect"]) this.write("HTTP/1.1 100 Continue\r\n\r\n");
    return true;
  }

  private joined(): Buffer {
    const all =
      this.chunks.length === 1 ? (this.chunks[0] as Uint8Array) : Buffer.concat(this.chunks, this.size);
    this.chunks = [all];
    return Buffer.from(all.buffer, all.byteOffset, all.byteLength);
  }

  private keep(rest: Uint8Array): void {
    this.chunks = rest.byteLength > 0 ? [rest] : [];
    this.size = rest.byteLength;
  }

  private reply(): Reply {
    return {
      answer: (answer) => {
        this.write(encodeAnswer(answer));
        this.busy = false;
        // Not from inside the handler: it may be in the middle of `advance`.
        if (this.size > 0) setImmediate(() => this.advance());
      },
      reset: () => {
        this.closing = true;
        this.socket.terminate();
      },
      close: (bytes) => {
        this.closing = true;
        if (bytes) this.write(bytes);
        if (!this.unsent) this.socket.end();
      },
      answerAndReset: (bytes) => {
        this.closing = true;
        this.write(bytes);
        // Long enough for the client to have read it: an RST throws away what it has not.
        setTimeout(() => this.socket.terminate(), 20);
      },
    };
  }

  private write(bytes: string | Uint8Array): void {
    const data = typeof bytes === "string" ? Buffer.from(bytes) : bytes;
    if (this.unsent) {
      this.unsent = Buffer.concat([this.unsent, data]);
      return;
    }
    const written = Math.max(0, this.socket.write(data));
    if (written < data.byteLength) this.unsent = data.slice(written);
  }

  drain(): void {
    const data = this.unsent;
    this.unsent = undefined;
    if (data) this.write(data);
    if (this.closing && !this.unsent) this.socket.end();
  }
}
