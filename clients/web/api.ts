// The requests of the page, except the stream of events: emails, delivered emails, faults, and submissions.

import * as v from "valibot";
import { problems } from "../../lib/cli/queue/bulk.ts";
import { retryOne } from "../../lib/cli/queue/retry.ts";
import { cutFiles } from "../../lib/email/email.ts";
import { parseFaults, writeFaults } from "../../lib/providers/sandbox/faults_file.ts";
import { errorCode } from "../../lib/runtime/errors.ts";
import { attachmentsOf, detailsOf } from "./details.ts";
import { answer, download, mail, refusal } from "./door.ts";
import { faultsOf } from "./faults.ts";
import type { Outbox } from "./outbox.ts";
import type { QueueAccess } from "./queue_access.ts";
import type { SecretPaths } from "./secret_paths.ts";

export interface ApiOptions {
  readonly queue: QueueAccess;
  readonly outbox: Outbox;
  readonly paths: SecretPaths;
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
  "GET /api/files/*": openFile,
  "GET /api/delivered": listDelivered,
  "GET /api/delivered/*": readDelivered,
  "GET /api/parts/*": openPart,
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

/**
 * The path of a file of an email in the queue.
 * @param name the email's id, a dot, and the number of the file, from 1
 */
async function openFile({ queue, paths }: ApiOptions, _: Request, name: string): Promise<Response> {
  const [, id = "", number = ""] = /^(.+)\.(\d+)$/.exec(name) ?? [];
  const admin = await queue.admin();
  const stored = await admin.show(id);
  const files = stored === undefined ? [] : attachmentsOf(stored);
  const index = Number(number) - 1;
  if (files[index] === undefined) return refusal(404, "There is no such file any more.");
  const path = paths.issue(async () => {
    const contents = await admin.readFiles(id);
    return contents && download(Uint8Array.from(cutFiles(contents, files)[index]!));
  });
  return answer({ path });
}

async function listDelivered({ outbox }: ApiOptions, request: Request): Promise<Response> {
  return answer(await outbox.list(new URL(request.url).searchParams.get("search") ?? ""));
}

async function readDelivered({ outbox, paths }: ApiOptions, _: Request, name: string): Promise<Response> {
  const email = await outbox.read(name);
  if (email === undefined) return unknown();
  if (email.htmlSource === undefined) return answer(email);
  const htmlPath = paths.issue(async () => {
    const html = await outbox.html(name);
    return html === undefined ? undefined : mail(html);
  });
  return answer({ ...email, htmlPath });
}

/**
 * The path of a file of a delivered email.
 * @param name the name of the email's file, a dot, and the number of the attached file, from 1
 */
async function openPart({ outbox, paths }: ApiOptions, _: Request, name: string): Promise<Response> {
  const [, file = "", number = ""] = /^(.+)\.(\d+)$/.exec(name) ?? [];
  const content = () => outbox.attachment(file, Number(number));
  if ((await content()) === undefined) return unknown();
  const path = paths.issue(async () => {
    const bytes = await content();
    return bytes && download(bytes);
  });
  return answer({ path });
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
