// The requests of the page, except the stream of events: emails, delivered emails, faults, and submissions.

import * as v from "valibot";
import { problems } from "../../lib/cli/queue/bulk.ts";
import { retryOne } from "../../lib/cli/queue/retry.ts";
import { parseFaults, writeFaults } from "../../lib/providers/sandbox/faults_file.ts";
import { errorCode } from "../../lib/runtime/errors.ts";
import { detailsOf } from "./details.ts";
import { answer, refusal } from "./door.ts";
import { faultsOf } from "./faults.ts";
import type { Outbox } from "./outbox.ts";
import type { QueueAccess } from "./queue_access.ts";

export interface ApiOptions {
  readonly queue: QueueAccess;
  readonly outbox: Outbox;
  /** Where emails are submitted. */
  readonly submitUrl: string;
  /** Called after every change. */
  readonly onChange: () => void;
}

type Route = (options: ApiOptions, request: Request, name: string) => Promise<Response>;

/** Routes by method and path, where `*` stands for a name. */
const routes: Readonly<Record<string, Route>> = {
  "GET /api/emails/*": show,
  "POST /api/emails/*": retry,
  "DELETE /api/emails/*": remove,
  "GET /api/delivered": listDelivered,
  "GET /api/delivered/*": readDelivered,
  "PUT /api/faults/*": setFaults,
  "POST /api/send": send,
};

/** Returns undefined if there is no such route. Rejects if the queue cannot be used. */
export function route(options: ApiOptions, request: Request): Promise<Response> | undefined {
  const { pathname } = new URL(request.url);
  const [, folder = pathname, name = ""] = /^(\/api\/\w+)\/([^/]+)$/.exec(pathname) ?? [];
  const key = `${request.method} ${folder}${name === "" ? "" : "/*"}`;
  return Object.hasOwn(routes, key) ? routes[key]!(options, request, decodeName(name)) : undefined;
}

function decodeName(name: string): string {
  try {
    return decodeURIComponent(name);
  } catch {
    return "";
  }
}

const unknown = () => refusal(404, "There is no such email any more.");

async function show({ queue }: ApiOptions, _: Request, id: string): Promise<Response> {
  const admin = await queue.admin();
  const stored = await admin.show(id);
  return stored === undefined ? unknown() : answer(detailsOf(stored));
}

const retrySchema = v.object({ force: v.optional(v.boolean(), false) });

async function retry({ queue, onChange }: ApiOptions, request: Request, id: string): Promise<Response> {
  const { success, output } = v.safeParse(retrySchema, await jsonOf(request));
  if (!success) return refusal(400, "the body is not a request to retry");
  const session = { admin: await queue.admin(), config: queue.config };
  const problem = await retryOne(id, output.force, session);
  onChange();
  return problem === undefined ? answer({ ok: true }) : refusal(409, `it ${problems[problem]}`);
}

async function remove({ queue, onChange }: ApiOptions, _: Request, id: string): Promise<Response> {
  const admin = await queue.admin();
  const [result = "unknown"] = await admin.delete([id]);
  onChange();
  return result === "deleted" ? answer({ ok: true }) : refusal(409, `it ${problems[result]}`);
}

async function listDelivered({ outbox }: ApiOptions, request: Request): Promise<Response> {
  return answer(await outbox.list(new URL(request.url).searchParams.get("search") ?? ""));
}

async function readDelivered({ outbox }: ApiOptions, _: Request, name: string): Promise<Response> {
  const email = await outbox.read(name);
  return email === undefined ? unknown() : answer(email);
}

async function setFaults({ queue, onChange }: ApiOptions, request: Request, name: string): Promise<Response> {
  if (!Object.hasOwn(faultsOf(queue.config), name)) return refusal(404, "there is no such sandbox");
  const faults = parseFaults(await jsonOf(request));
  if (faults === undefined) return refusal(400, "these are no faults of a sandbox");
  try {
    writeFaults(queue.config.dataDir, name, faults);
  } catch (error) {
    return refusal(500, `DATA_DIR cannot be written to (${errorCode(error) ?? "unknown error"})`);
  }
  onChange();
  return answer({ ok: true });
}

/** Forwards a submission to the server unchanged, so that the page makes no request to another origin. */
async function send({ queue, submitUrl, onChange }: ApiOptions, request: Request): Promise<Response> {
  const [token] = queue.config.apiTokens ?? [];
  const key = request.headers.get("idempotency-key");
  try {
    const response = await fetch(submitUrl, {
      method: "POST",
      body: await request.bytes(),
      headers: {
        "content-type": request.headers.get("content-type") ?? "",
        ...(token !== undefined && { authorization: `Bearer ${token}` }),
        ...(key !== null && { "idempotency-key": key }),
      },
      redirect: "manual",
    });
    onChange();
    return answer(await response.json(), response.status);
  } catch {
    return refusal(502, `the server at ${submitUrl} does not answer`);
  }
}

async function jsonOf(request: Request): Promise<unknown> {
  try {
    return await request.json();
  } catch {
    return undefined;
  }
}
