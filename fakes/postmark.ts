// Postmark's API as far as this service uses it: sending one email or a batch, and searching for sent emails. Where the
// real API's behavior is undocumented, a setting chooses.

import { parseMailbox } from "./address_rules.ts";
import { type Api, Fake, type FakeOptions } from "./fake.ts";
import { type Answer, jsonAnswer, type Request } from "./http.ts";
import type { Acceptance, Ledger, Message } from "./ledger.ts";
import { RateLimit } from "./rate_limit.ts";
import { isRefusal, readMessage } from "./postmark_message.ts";

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
  /** The server's message streams. */
  streams: string[];
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
    streams: options.streams ?? ["outbound", "broadcast"],
    refuses: options.refuses ?? "email",
    pendingDomain: options.pendingDomain ?? null,
    indexDelayMs: options.indexDelayMs ?? 0,
    workMs: options.workMs ?? 0,
  };
  return new Fake(options, settings, (ledger) => new PostmarkApi(settings, ledger));
}

const batchMax = 500;
const batchBytesMax = 50 * 1024 * 1024;

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

  async handle(request: Request, number: number, working: () => Promise<void>): Promise<Answer> {
    const refused = checkDoor(request, this.#settings) ?? this.#limitRate();
    if (refused) return refused;
    switch (`${request.method} ${request.path}`) {
      case "GET /server":
        return jsonAnswer(200, {
          ID: this.#settings.serverId,
          Name: "fake",
          ApiTokens: [this.#settings.serverToken],
          DeliveryType: this.#settings.deliveryType,
        });
      case "GET /messages/outbound":
        return this.#search(request.query);
      case "POST /email":
      case "POST /email/batch":
        if (this.#settings.workMs > 0) await Bun.sleep(this.#settings.workMs);
        await working();
        return request.path === "/email"
          ? this.#sendOne(request.body, number)
          : this.#sendBatch(request.body, number);
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

  #sendOne(body: string, number: number): Answer {
    const item = parse(body);
    if (item === undefined) return refusal(422, 402, "Received invalid JSON input.");
    const message = readMessage(item, this.#settings);
    return isRefusal(message)
      ? refusal(422, message.code, message.text)
      : jsonAnswer(200, this.#accept(message, number));
  }

  #sendBatch(body: string, number: number): Answer {
    if (body.length > batchBytesMax) return { status: 413, body: "" };
    const items = parse(body);
    if (items === undefined) return refusal(422, 402, "Received invalid JSON input.");
    if (!Array.isArray(items)) return refusal(422, 403, "Invalid JSON: an array is expected.");
    if (items.length > batchMax)
      return refusal(422, 410, `Too many batch messages; the most is ${batchMax}.`);
    const messages = items.map((item) => readMessage(item, this.#settings));
    if (this.#settings.refuses === "request") {
      // Not codes about the content: those refuse only their own email.
      const whole = messages.filter(isRefusal).find(({ code }) => [400, 412, 1235].includes(code));
      if (whole) return refusal(422, whole.code, whole.text);
    }
    return jsonAnswer(
      200,
      messages.map((message) =>
        isRefusal(message)
          ? { ErrorCode: message.code, Message: message.text }
          : this.#accept(message, number),
      ),
    );
  }

  #accept(message: Message, request: number) {
    const messageId = crypto.randomUUID();
    const atMs = Date.now();
    const batch = message.labels["batch_id"] ?? "";
    const emailId = message.labels["email_id"] ?? "";
    const acceptance: Acceptance = {
      provider: "postmark",
      messageId,
      atMs,
      request,
      batch,
      emailId,
      ...message,
    };
    this.#ledger.accept(acceptance);
    for (const [key, value] of Object.entries(message.labels)) {
      const same = this.#byMetadata.get(`${key}=${value}`);
      if (same) same.push(acceptance);
      else this.#byMetadata.set(`${key}=${value}`, [acceptance]);
    }
    return {
      To: message.to,
      SubmittedAt: easternTime(atMs),
      MessageID: messageId,
      ErrorCode: 0,
      Message: "OK",
    };
  }

  #search(query: URLSearchParams): Answer {
    // The SDK and the documentation spell the names in different cases.
    const filters = new Map([...query].map(([name, value]) => [name.toLowerCase(), value]));
    const count = Number(filters.get("count") ?? Number.NaN);
    const offset = Number(filters.get("offset") ?? Number.NaN);
    const pages =
      Number.isInteger(count) && count >= 1 && count <= 500 && Number.isInteger(offset) && offset >= 0;
    if (!pages || count + offset > 10_000) return refusal(422, 700, "Invalid count or offset.");
    const metadata = [...filters].filter(([name]) => name.startsWith("metadata_"));
    if (metadata.length > 1) return refusal(422, 700, "Only one metadata field can be searched for.");
    const [field] = metadata;
    const stream = filters.get("messagestream") ?? "outbound";
    const indexedBefore = Date.now() - this.#settings.indexDelayMs;
    const among = field
      ? (this.#byMetadata.get(`${field[0].slice("metadata_".length)}=${field[1]}`) ?? [])
      : this.#ledger.acceptances;
    const hits = among.filter(
      (acceptance) =>
        acceptance.stream === stream &&
        acceptance.atMs <= indexedBefore &&
        matches(filters.get("recipient"), parseMailbox(acceptance.to)?.address) &&
        matches(filters.get("fromemail"), parseMailbox(acceptance.from)?.address) &&
        matches(filters.get("subject"), acceptance.subject),
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

function asSearchResult(acceptance: Acceptance) {
  const to = parseMailbox(acceptance.to);
  return {
    Tag: "",
    MessageID: acceptance.messageId,
    MessageStream: acceptance.stream,
    To: [{ Email: to?.address, Name: to?.name ?? null }],
    Cc: [],
    Bcc: [],
    Recipients: [to?.address],
    ReceivedAt: easternTime(acceptance.atMs),
    From: acceptance.from,
    Subject: acceptance.subject,
    Attachments: [],
    Status: "Sent",
    TrackOpens: false,
    TrackLinks: "None",
    Metadata: acceptance.labels,
    Sandboxed: false,
  };
}

function matches(wanted: string | undefined, value: string | undefined): boolean {
  return wanted === undefined || wanted.toLowerCase() === value?.toLowerCase();
}

/** In Postmark's format, with seven decimals and New York's offset, here always that of winter. */
function easternTime(atMs: number): string {
  return new Date(atMs - 5 * 3_600_000).toISOString().replace("Z", "0000-05:00");
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
