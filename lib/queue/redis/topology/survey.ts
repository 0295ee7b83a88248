// Asks all known nodes of a cluster, or all known Sentinels, the same question twice a second. Each is asked on its own: one
// that hangs delays no other. Nodes that others name are asked too, in addition to the configured ones.

import { Redis } from "ioredis";
import { addressText, type RedisLogin, type RedisNode } from "../../../runtime/redis_url.ts";
import { redisErrorText } from "../error_text.ts";
import type { Place, Topology } from "./topology.ts";
import { explainError } from "./url_form.ts";

const intervalMs = 500;
/** Longest wait for an answer, and for a connection, ms. */
const timeoutMs = 500;
/** How long a node that was not configured is still asked though no other names it and it does not answer, ms. */
const forgetMs = 600_000;

export interface Peer {
  readonly id: string;
  readonly node: RedisNode;
}

/** The answer of one node. */
export interface View {
  readonly id: string;
  /** The other nodes that it knows. */
  readonly peers: readonly Peer[];
}

export interface SurveyOptions<Answer extends View> {
  /** The name of the question, for messages. */
  readonly kind: "Sentinel" | "node of the cluster";
  readonly nodes: readonly RedisNode[];
  readonly login: RedisLogin;
  readonly tls: boolean;
  /** Asks one node. Rejects, with the reason, if its answer is of no use. @param slots all that connections lead to */
  ask(redis: Redis, node: RedisNode, slots: readonly number[]): Promise<Answer>;
  /** Pure. @param views the last answer of each node that answers, by its id; at least one */
  judge(views: ReadonlyMap<string, Answer>, slot: number): Place;
  /** Pure. See {@link Topology.replicas}. */
  replicas(views: ReadonlyMap<string, Answer>, slot: number): readonly RedisNode[] | undefined;
}

export class Survey<Answer extends View> implements Topology {
  readonly #options: SurveyOptions<Answer>;
  readonly #members = new Map<string, Member<Answer>>();
  readonly #slots = new Set<number>();
  readonly #listeners = new Set<() => void>();
  readonly #timer: Timer;

  constructor(options: SurveyOptions<Answer>) {
    this.#options = options;
    for (const node of options.nodes) this.#add(node);
    this.#timer = setInterval(() => this.#tick(), intervalMs);
  }

  async locate(slot: number): Promise<Place> {
    this.#slots.add(slot);
    await this.#refresh();
    return this.place(slot);
  }

  place(slot: number): Place {
    const views = this.#views;
    if (views.size > 0) return this.#options.judge(views, slot);
    const members = [...this.#members.values()];
    if (members.some(({ isSettled }) => !isSettled)) return { kind: "unknown", reason: "not connected" };
    const troubles = members.map(({ node, trouble }) => `${addressText(node)}: ${trouble}`);
    return { kind: "unknown", reason: `no ${this.#options.kind} answers: ${troubles.join("; ")}` };
  }

  replicas(slot: number): readonly RedisNode[] | undefined {
    return this.#options.replicas(this.#views, slot);
  }

  /** Calls a function after every answer and failure. @returns a function that ends this */
  onAnswer(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  close(): void {
    clearInterval(this.#timer);
    for (const member of this.#members.values()) member.close();
    this.#members.clear();
  }

  get #views(): ReadonlyMap<string, Answer> {
    const members = [...this.#members.values()].toSorted((a, b) => a.answeredAtMs - b.answeredAtMs);
    return new Map(members.flatMap(({ view }) => (view === undefined ? [] : [[view.id, view] as const])));
  }

  /**
   * Asks all nodes now, and waits for the answers of those that answered before or were not heard yet. It does not wait
   * for a node that is known not to answer.
   */
  async #refresh(): Promise<void> {
    const waited = new Set<Member<Answer>>();
    const next = () => [...this.#members.values()].filter((one) => one.isExpected && !waited.has(one));
    for (let members = next(); members.length > 0; members = next()) {
      for (const member of members) waited.add(member);
      await Promise.all(members.map((member) => member.ask([...this.#slots])));
    }
  }

  #add(node: RedisNode, id?: string): Member<Answer> {
    const member = new Member(node, id, this.#options, this.#slots, (peers) => {
      for (const { node: other, id: its } of peers)
        (this.#members.get(addressText(other)) ?? this.#add(other, its)).hear(its);
      for (const listener of this.#listeners) listener();
    });
    this.#members.set(addressText(node), member);
    return member;
  }

  #tick(): void {
    const endMs = performance.now() - forgetMs;
    const isHeard = this.#views.size > 0;
    for (const [address, member] of this.#members) {
      if (isHeard && member.isForgotten(endMs)) {
        member.close();
        this.#members.delete(address);
      } else void member.ask([...this.#slots]);
    }
  }
}

/** One node and the connection on which it is asked. */
class Member<Answer extends View> {
  readonly node: RedisNode;
  /** Undefined if it does not answer. */
  view: Answer | undefined;
  answeredAtMs = 0;
  trouble = "not connected";
  /** Whether it has answered or failed to. */
  isSettled = false;
  readonly #isConfigured: boolean;
  readonly #redis: Redis;
  readonly #options: SurveyOptions<Answer>;
  readonly #onAnswer: (peers: readonly Peer[]) => void;
  readonly #settled = Promise.withResolvers<void>();
  readonly #timer = setTimeout(() => this.#fail(`no answer within ${timeoutMs} ms`), timeoutMs);
  /** The id that others give it: another program may answer at this address by now. */
  #id: string | undefined;
  #heardAtMs = performance.now();
  #isClosed = false;

  constructor(
    node: RedisNode,
    id: string | undefined,
    options: SurveyOptions<Answer>,
    slots: ReadonlySet<number>,
    onAnswer: (peers: readonly Peer[]) => void,
  ) {
    this.node = node;
    this.#id = id;
    this.#isConfigured = id === undefined;
    this.#options = options;
    this.#onAnswer = onAnswer;
    this.#redis = connect(node, options.login, options.tls);
    this.#redis.on("ready", () => void this.ask([...slots]));
    this.#redis.on("error", (error) => this.#fail(redisErrorText(error)));
    this.#redis.on("close", () => this.#fail(this.trouble));
  }

  /** Whether an answer is expected, so that it is worth waiting for. */
  get isExpected(): boolean {
    return !this.isSettled || this.view !== undefined;
  }

  /** Resolves when it has answered or failed to. */
  async ask(slots: readonly number[]): Promise<void> {
    if (this.#redis.status !== "ready") return this.#settled.promise;
    try {
      const view = await this.#options.ask(this.#redis, this.node, slots);
      if (!this.#isConfigured && view.id !== this.#id) throw new Error("another node answers there");
      this.#settle(view);
    } catch (error) {
      this.#fail(await explainError(this.#redis, this.node, this.#options.tls, error));
    }
  }

  hear(id: string): void {
    this.#id = id;
    this.#heardAtMs = performance.now();
  }

  isForgotten(endMs: number): boolean {
    return !this.#isConfigured && Math.max(this.#heardAtMs, this.answeredAtMs) < endMs;
  }

  close(): void {
    this.#settle();
    this.#isClosed = true;
    this.#redis.disconnect();
  }

  #fail(trouble: string): void {
    if (trouble !== "not connected" && !this.#isClosed) this.trouble = trouble;
    this.#settle();
  }

  #settle(view?: Answer): void {
    if (this.#isClosed) return;
    clearTimeout(this.#timer);
    this.isSettled = true;
    this.#settled.resolve();
    this.view = view;
    if (view !== undefined) this.answeredAtMs = performance.now();
    this.#onAnswer(view?.peers ?? []);
  }
}

function connect({ host, port }: RedisNode, login: RedisLogin, tls: boolean): Redis {
  return new Redis({
    host,
    port,
    ...login,
    ...(tls && { tls: {} }),
    connectionName: "reliable-email-topology",
    enableOfflineQueue: false,
    enableReadyCheck: false,
    disableClientInfo: true,
    maxRetriesPerRequest: 0,
    autoResendUnfulfilledCommands: false,
    commandTimeout: timeoutMs,
    connectTimeout: timeoutMs,
    socketTimeout: 2 * timeoutMs,
    disconnectTimeout: 50,
    keepAlive: 10_000,
    retryStrategy: (times) => Math.min(25 * 2 ** Math.min(times, 6), intervalMs),
  });
}
