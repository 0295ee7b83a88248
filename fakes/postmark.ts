// Postmark's API as far as this service could ever meet it: sending, alone and in batches, and the search for
// what was sent. Where nobody has published what the true one does, a setting chooses.

import { parseMailbox } from "./address_rules.ts";
import { type Api, type Fake, type FakeOptions, startFake } from "./fake.ts";
import type { Answer, Request } from "./http.ts";
import type { Acceptance, Ledger } from "./ledger.ts";
import { createRateLimit } from "./limits.ts";
import { type Message, isRefusal, readMessage } from "./postmark-message.ts";

export interface PostmarkSettings {
  serverToken: string;
  /** What `GET /server` says that the token belongs to. */
  serverId: number;
  /** A sandbox server takes everything and delivers nothing. */
  deliveryType: "Live" | "Sandbox";
  /** Requests per second; null: none. */
  rateLimit: number | null;
  /** `Retry-After` of a 429 in seconds; null: the header is not sent, as far as is known. */
  retryAfter: number | null;
  /** Domains without a sender signature. */
  unverifiedDomains: string[];
  /** Recipients that are suppressed. */
  inactive: string[];
  /** The server's message streams. */
  streams: string[];
  /** Whether an unverified sender or unknown stream is refused alone, or with its whole request. */
  refuses: "email" | "request";
  /** An account that awaits approval may send to this domain alone; null: it is approved. */
  pendingDomain: string | null;
  /** Until an accepted email can be found, ms. */
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
  return startFake(options, settings, (ledger) => createApi(settings, ledger));
}

const batchMax = 500;
const batchBytesMax = 50 * 1024 * 1024;

function createApi(settings: PostmarkSettings, ledger: Ledger): Api {
  const limit = createRateLimit();
  /** `key=value` of metadata -> what was accepted with it, oldest first. */
  const byMetadata = new Map<string, Acceptance[]>();

  async function handle(request: Request, number: number, working: () => Promise<void>): Promise<Answer> {
    const refused = checkDoor(request, settings) ?? limitRate();
    if (refused) return refused;
    switch (`${request.method} ${request.path}`) {
      case "GET /server":
        return ok({
          ID: settings.serverId,
          Name: "fake",
          ApiTokens: [settings.serverToken],
          DeliveryType: settings.deliveryType,
        });
      case "GET /messages/outbound":
        return search(request.query);
      case "POST /email":
      case "POST /email/batch":
        if (settings.workMs > 0) await Bun.sleep(settings.workMs);
        await working();
        return request.path === "/email" ? sendOne(request.body, number) : sendBatch(request.body, number);
      default:
        return { status: 404, body: "" };
    }
  }

  function limitRate(): Answer | undefined {
    if (settings.rateLimit === null || limit.take(settings.rateLimit, Date.now()).allowed) return undefined;
    const headers: Record<string, string> =
      settings.retryAfter === null ? {} : { "retry-after": String(settings.retryAfter) };
    return { status: 429, headers, body: "" };
  }

  function sendOne(body: string, number: number): Answer {
    const item = parse(body);
    if (item === undefined) return refusal(422, 402, "Received invalid JSON input.");
    const message = readMessage(item, settings);
    return isRefusal(message) ? refusal(422, message.code, message.text) : ok(accept(message, number));
  }

  function sendBatch(body: string, number: number): Answer {
    if (body.length > batchBytesMax) return { status: 413, body: "" };
    const items = parse(body);
    if (items === undefined) return refusal(422, 402, "Received invalid JSON input.");
    if (!Array.isArray(items)) return refusal(422, 403, "Invalid JSON: an array is expected.");
    if (items.length > batchMax)
      return refusal(422, 410, `Too many batch messages; the most is ${batchMax}.`);
    const messages = items.map((item) => readMessage(item, settings));
    if (settings.refuses === "request") {
      // Only what is not about the message's own content has ever been suspected of this.
      const whole = messages.filter(isRefusal).find(({ code }) => [400, 412, 1235].includes(code));
      if (whole) return refusal(422, whole.code, whole.text);
    }
    return ok(
      messages.map((message) =>
        isRefusal(message) ? { ErrorCode: message.code, Message: message.text } : accept(message, number),
      ),
    );
  }

  function accept(message: Message, request: number) {
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
    ledger.accept(acceptance);
    for (const [key, value] of Object.entries(message.labels)) {
      const same = byMetadata.get(`${key}=${value}`);
      if (same) same.push(acceptance);
      else byMetadata.set(`${key}=${value}`, [acceptance]);
    }
    return {
      To: message.to,
      SubmittedAt: easternTime(atMs),
      MessageID: messageId,
      ErrorCode: 0,
      Message: "OK",
    };
  }

  function search(query: URLSearchParams): Answer {
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
    const indexedBefore = Date.now() - settings.indexDelayMs;
    const among = field
      ? (byMetadata.get(`${field[0].slice("metadata_".length)}=${field[1]}`) ?? [])
      : ledger.acceptances;
    const hits = among.filter(
      (acceptance) =>
        acceptance.stream === stream &&
        acceptance.atMs <= indexedBefore &&
        matches(filters.get("recipient"), parseMailbox(acceptance.to)?.address) &&
        matches(filters.get("fromemail"), parseMailbox(acceptance.from)?.address) &&
        matches(filters.get("subject"), acceptance.subject),
    );
    const page = hits.toReversed().slice(offset, offset + count);
    return ok({ TotalCount: hits.length, Messages: page.map(asSearchResult) });
  }

  return {
    provider: "postmark",
    handle,
    clear() {
      byMetadata.clear();
      limit.clear();
    },
  };
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

/** As Postmark writes it: seven digits of a second and the offset of New York (in winter: nobody reads it). */
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

function ok(body: unknown): Answer {
  return {
    status: 200,
    headers: { "content-type": "application/json; charset=utf-8" },
    body: JSON.stringify(body),
  };
}

function refusal(status: number, ErrorCode: number, Message: string): Answer {
  return {
    status,
    headers: { "content-type": "application/json; charset=utf-8", "x-pm-apierrorcode": String(ErrorCode) },
    body: JSON.stringify({ ErrorCode, Message }),
  };
}
