// Postmark's API as far as this service uses it: sending one email or a batch, searching for sent emails, and describing
// the server and its message streams. Where the real API's behavior is undocumented, a setting chooses.

import { type Api, Fake, type FakeOptions } from "./fake.ts";
import { type Answer, jsonAnswer, type Request } from "./http.ts";
import {
  type Acceptance,
  type Ledger,
  type Message,
  type RecordedRequest,
  recordViolations,
} from "./ledger.ts";
import { RateLimit } from "./rate_limit.ts";
import { isRefusal, readMessage, type Refusal, textOfInactive } from "./postmark_message.ts";
import { asSearchResult, easternTime, isFoundBy } from "./postmark_search.ts";
import { findViolations, type Specification } from "./schema.ts";
import spec from "./specs/postmark.json";

export interface PostmarkSettings {
  serverToken: string;
  /** Id of the server that the token belongs to, for `GET /server`. */
  serverId: number;
  /** A sandbox server accepts everything and delivers nothing. */
  deliveryType: "Live" | "Sandbox";
  /** Requests per second; null for no limit. */
  rateLimit: number | null;
  /** `Retry-After` of a 429, in seconds; null to omit it, which seems to be Postmark's behavior. */
  retryAfter: number | null;
  /** Domains without a sender signature. */
  unverifiedDomains: string[];
  /** Recipients that are suppressed. */
  inactive: string[];
  /** The answer if only some recipients are suppressed. The others get the email either way. */
  someInactive: "accepted" | "refused";
  /** The server's message streams. */
  streams: string[];
  /** The broadcast streams. */
  broadcastStreams: string[];
  /** Whether an unverified sender or unknown stream refuses only its email, or the whole request. */
  refuses: "email" | "request";
  /** The only domain to which an account that awaits approval may send; null if it is approved. */
  pendingDomain: string | null;
  /** Time until a search finds an accepted email, ms. */
  indexDelayMs: number;
  /** How long the API works on a request, ms. */
  workMs: number;
}

export interface FakePostmarkOptions extends FakeOptions, Partial<PostmarkSettings> {}

export function startFakePostmark(options: FakePostmarkOptions = {}): Fake<PostmarkSettings> {
  const settings: PostmarkSettings = {
    serverToken: options.serverToken ?? "fake-token",
    serverId: options.serverId ?? 1,
    deliveryType: options.deliveryType ?? "Live",
    rateLimit: options.rateLimit ?? null,
    retryAfter: options.retryAfter ?? null,
    unverifiedDomains: options.unverifiedDomains ?? [],
    inactive: options.inactive ?? [],
    someInactive: options.someInactive ?? "accepted",
    streams: options.streams ?? ["outbound", "broadcast"],
    broadcastStreams: options.broadcastStreams ?? ["broadcast"],
    refuses: options.refuses ?? "email",
    pendingDomain: options.pendingDomain ?? null,
    indexDelayMs: options.indexDelayMs ?? 0,
    workMs: options.workMs ?? 0,
  };
  return new Fake(options, settings, (ledger) => new PostmarkApi(settings, ledger));
}

const { schemas } = spec as Specification;
const batchMax = 500;

/** The answer about one email; only that about an accepted one has more than a code and a text. */
interface Result {
  readonly ErrorCode: number;
  readonly Message: string;
  readonly To?: string;
  readonly SubmittedAt?: string;
  readonly MessageID?: string;
}

/** Largest request to each endpoint. */
const bytesMax = { one: 10_000_000, batch: 50_000_000 };

class PostmarkApi implements Api {
  readonly provider = "postmark";
  readonly #settings: PostmarkSettings;
  readonly #ledger: Ledger;
  readonly #limit = new RateLimit();
  /** `key=value` of metadata -> the emails accepted with it, oldest first. */
  readonly #byMetadata = new Map<string, Acceptance[]>();

  constructor(settings: PostmarkSettings, ledger: Ledger) {
    this.#settings = settings;
    this.#ledger = ledger;
  }

  async handle(request: Request, record: RecordedRequest, working: () => Promise<void>): Promise<Answer> {
    const refused = checkDoor(request, this.#settings) ?? this.#limitRate();
    if (refused) return refused;
    const [, stream] = /^\/message-streams\/([^/]+)$/.exec(request.path) ?? [];
    if (request.method === "GET" && stream !== undefined) return this.#describeStream(stream);
    switch (`${request.method} ${request.path}`) {
      case "GET /server":
        return jsonAnswer(200, {
          ID: this.#settings.serverId,
          Name: "fake",
          ApiTokens: [this.#settings.serverToken],
          DeliveryType: this.#settings.deliveryType,
        });
      case "GET /messages/outbound":
        return this.#search(request.query, record);
      case "POST /email":
      case "POST /email/batch": {
        const isBatch = request.path === "/email/batch";
        if (Number(request.headers["content-length"]) > bytesMax[isBatch ? "batch" : "one"])
          return { status: 413, body: "" };
        if (this.#settings.workMs > 0) await Bun.sleep(this.#settings.workMs);
        await working();
        const body = parse(request.body);
        if (body === undefined) return refusal(422, 402, "Received invalid JSON input.");
        return isBatch ? this.#sendBatch(body, record) : this.#sendOne(body, record);
      }
      default:
        return { status: 404, body: "" };
    }
  }

  #limitRate(): Answer | undefined {
    if (this.#settings.rateLimit === null || this.#limit.take(this.#settings.rateLimit, Date.now()).allowed)
      return undefined;
    const headers: Record<string, string> =
      this.#settings.retryAfter === null ? {} : { "retry-after": String(this.#settings.retryAfter) };
    return { status: 429, headers, body: "" };
  }

  #sendOne(item: unknown, record: RecordedRequest): Answer {
    const result = this.#take(this.#read(item, "$", record), record.number);
    return result.ErrorCode === 0 ? jsonAnswer(200, result) : refusal(422, result.ErrorCode, result.Message);
  }

  #sendBatch(items: unknown, record: RecordedRequest): Answer {
    if (!Array.isArray(items)) return refusal(422, 403, "Invalid JSON: an array is expected.");
    if (items.length > batchMax)
      return refusal(422, 410, `Too many batch messages; the most is ${batchMax}.`);
    const messages = items.map((item, index) => this.#read(item, `$[${index}]`, record));
    if (this.#settings.refuses === "request") {
      // Not codes about the content: those refuse only their own email.
      const whole = messages.filter(isRefusal).find(({ code }) => [400, 412, 1235].includes(code));
      if (whole) return refusal(422, whole.code, whole.text);
    }
    return jsonAnswer(
      200,
      messages.map((message) => this.#take(message, record.number)),
    );
  }

  /** Reads one message, and records its violations of the API's description. */
  #read(item: unknown, at: string, record: RecordedRequest): Message | Refusal {
    const violations = findViolations(item, { $ref: "SendEmailRequest" }, schemas);
    recordViolations(record, violations, at);
    return readMessage(item, violations, this.#settings);
  }

  /** Accepts a message unless it is refused. Returns the answer about it. */
  #take(message: Message | Refusal, request: number): Result {
    if (isRefusal(message)) return { ErrorCode: message.code, Message: message.text };
    const { messageId, atMs } = this.#accept(message, request);
    const { inactive } = message;
    if (inactive && this.#settings.someInactive === "refused")
      return { ErrorCode: 406, Message: textOfInactive(inactive, { all: true }) };
    return {
      To: message.to,
      SubmittedAt: easternTime(atMs),
      MessageID: messageId,
      ErrorCode: 0,
      Message: inactive ? textOfInactive(inactive, { all: false }) : "OK",
    };
  }

  #accept(message: Message, request: number): Acceptance {
    const acceptance = this.#ledger.accept({
      provider: "postmark",
      messageId: crypto.randomUUID(),
      atMs: Date.now(),
      request,
      batch: message.labels["batch_id"] ?? "",
      emailId: message.labels["email_id"] ?? "",
      ...message,
    });
    for (const [key, value] of Object.entries(message.labels)) {
      const same = this.#byMetadata.get(`${key}=${value}`);
      if (same) same.push(acceptance);
      else this.#byMetadata.set(`${key}=${value}`, [acceptance]);
    }
    return acceptance;
  }

  #describeStream(id: string): Answer {
    const { streams, broadcastStreams, serverId } = this.#settings;
    if (!streams.includes(id)) return refusal(422, 1226, "The message stream was not found.");
    const type = broadcastStreams.includes(id) ? "Broadcasts" : "Transactional";
    return jsonAnswer(200, { ID: id, ServerID: serverId, Name: id, MessageStreamType: type });
  }

  #search(query: URLSearchParams, record: RecordedRequest): Answer {
    // The SDK and the documentation spell the names in different cases.
    const filters = new Map([...query].map(([name, value]) => [name.toLowerCase(), value]));
    const count = Number(filters.get("count") ?? Number.NaN);
    const offset = Number(filters.get("offset") ?? Number.NaN);
    const pages =
      Number.isInteger(count) && count >= 1 && count <= 500 && Number.isInteger(offset) && offset >= 0;
    if (!pages || count + offset > 10_000) return refusal(422, 700, "Invalid count or offset.");
    const metadata = [...filters].filter(([name]) => name.startsWith("metadata_"));
    const others = Object.fromEntries([...filters].filter(([name]) => !name.startsWith("metadata_")));
    recordViolations(record, findViolations(others, { $ref: "OutboundSearch" }, schemas), "?");
    if (metadata.length > 1) return refusal(422, 700, "Only one metadata field can be searched for.");
    const [field] = metadata;
    const stream = filters.get("messagestream") ?? "outbound";
    const indexedBefore = Date.now() - this.#settings.indexDelayMs;
    const among = field
      ? (this.#byMetadata.get(`${field[0].slice("metadata_".length)}=${field[1]}`) ?? [])
      : this.#ledger.acceptances;
    const hits = among.filter(
      (acceptance) =>
        acceptance.stream === stream && acceptance.atMs <= indexedBefore && isFoundBy(acceptance, filters),
    );
    const page = hits.toReversed().slice(offset, offset + count);
    return jsonAnswer(200, { TotalCount: hits.length, Messages: page.map(asSearchResult) });
  }

  clear(): void {
    this.#byMetadata.clear();
    this.#limit.clear();
  }
}

function checkDoor(request: Request, settings: PostmarkSettings): Answer | undefined {
  const isJson = (name: string): boolean => (request.headers[name] ?? "").startsWith("application/json");
  if (!isJson("accept") || (request.method === "POST" && !isJson("content-type")))
    return { status: 415, body: "" };
  const token = request.headers["x-postmark-server-token"];
  if (!token) return refusal(401, 10, "No Account or Server API tokens were supplied in the HTTP headers.");
  if (token.toLowerCase() === settings.serverToken.toLowerCase()) return undefined;
  return refusal(
    401,
    10,
    "The Server Token you provided in the X-Postmark-Server-Token request header was invalid.",
  );
}

function parse(body: string): unknown {
  try {
    return JSON.parse(body);
  } catch {
    return undefined;
  }
}

function refusal(status: number, ErrorCode: number, Message: string): Answer {
  return jsonAnswer(status, { ErrorCode, Message }, { "x-pm-apierrorcode": String(ErrorCode) });
}
