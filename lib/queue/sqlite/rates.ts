// The rates of providers in the embedded queue: reads a bucket, and writes it back changed, in the transaction of a claim
// or a settlement.

import type { ClaimRequest, PermitRequest, ProviderCondition, RateChange, SharedRate } from "../contract.ts";
import { bounded, changeRate, newBucket, type RateBucket, sharedRate, takePermit } from "../rate_bucket.ts";
import type { SqliteConnection } from "./connection.ts";

type RateKey = Pick<PermitRequest, "provider" | "credential">;
type RateRow = Omit<RateBucket, "limitPerSecond"> & { readonly limitPerSecond: number | null };

const columns = `per_second AS perSecond, limit_per_second AS limitPerSecond, version, throttles, next_at AS nextAtMs,
  blocked_from AS blockedFromMs, blocked_until AS blockedUntilMs`;
const bucketOf = (row: RateRow): RateBucket => ({ ...row, limitPerSecond: row.limitPerSecond ?? undefined });

function readBucket(db: SqliteConnection, { provider, credential }: RateKey): RateBucket | undefined {
  const row = db.get<RateRow>(
    `SELECT ${columns} FROM rates WHERE provider = ? AND credential = ?`,
    provider,
    credential,
  );
  return row && bucketOf(row);
}

function writeBucket(db: SqliteConnection, { provider, credential }: RateKey, bucket: RateBucket): void {
  const { perSecond, limitPerSecond = null, version, throttles } = bucket;
  const { nextAtMs, blockedFromMs, blockedUntilMs } = bucket;
  db.run`INSERT OR REPLACE INTO rates (provider, credential, per_second, limit_per_second, version, throttles, next_at,
      blocked_from, blocked_until)
    VALUES (${provider}, ${credential}, ${perSecond}, ${limitPerSecond}, ${version}, ${throttles}, ${nextAtMs},
      ${blockedFromMs}, ${blockedUntilMs})`;
}

/** The permit that a request needs. Reads the rate once. */
export class Permit {
  readonly #db: SqliteConnection;
  readonly #key: RateKey;
  #bucket: RateBucket;

  constructor(db: SqliteConnection, request: PermitRequest) {
    this.#db = db;
    this.#key = request;
    this.#bucket = readBucket(db, request) ?? newBucket(request.startPerSecond);
  }

  get rate(): SharedRate {
    return sharedRate(this.#bucket, this.#db.now.atMs);
  }

  get isAvailable(): boolean {
    return this.rate.nextInMs === 0;
  }

  /** It must be available. */
  take(): void {
    this.#bucket = takePermit(this.#bucket, this.#db.now.atMs);
    writeBucket(this.#db, this.#key, this.#bucket);
  }
}

/** Undefined if the claim needs none. */
export function permitOf(db: SqliteConnection, request: ClaimRequest): Permit | undefined {
  const { startPerSecond } = request;
  return startPerSecond === undefined ? undefined : new Permit(db, { ...request, startPerSecond });
}

/** Takes a permit if one is available. */
export function tryPermit(db: SqliteConnection, request: PermitRequest) {
  const permit = new Permit(db, request);
  const isTaken = permit.isAvailable;
  if (isTaken) permit.take();
  return { isTaken, rate: permit.rate };
}

export function noteRate(db: SqliteConnection, key: RateKey, change: RateChange): void {
  const bucket = readBucket(db, key);
  if (bucket !== undefined) writeBucket(db, key, changeRate(bucket, change, db.now.atMs));
}

/** The rates under the credential of each provider that was used last. */
export function readRates(db: SqliteConnection): Map<string, NonNullable<ProviderCondition["rate"]>> {
  const rows = db.all<RateRow & { provider: string }>(
    `SELECT provider, ${columns} FROM rates ORDER BY next_at`,
  );
  return new Map(
    rows.map(({ provider, ...row }) => {
      const { perSecond, limitPerSecond, blockedUntilMs } = bounded(bucketOf(row), db.now.atMs);
      const limit = limitPerSecond === undefined ? {} : { limitPerSecond };
      return [
        provider,
        { perSecond, ...limit, ...(blockedUntilMs > 0 && { pausedUntilMs: blockedUntilMs }) },
      ];
    }),
  );
}
