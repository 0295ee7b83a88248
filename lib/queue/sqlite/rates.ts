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
  db.run`INSERT OR REPLACE INTO rates VALUES (${provider}, ${credential}, ${perSecond}, ${limitPerSecond}, ${version},
    ${throttles}, ${nextAtMs}, ${blockedFromMs}, ${blockedUntilMs})`;
}

const bucketFor = (db: SqliteConnection, request: PermitRequest) =>
  readBucket(db, request) ?? newBucket(request.startPerSecond);

/** Whether a claim needs a permit. */
export function needsPermit<R extends Partial<ClaimRequest>>(request: R): request is R & PermitRequest {
  return request.startPerSecond !== undefined;
}

export function readRate(db: SqliteConnection, request: PermitRequest): SharedRate {
  return sharedRate(bucketFor(db, request), db.now.atMs);
}

/** Takes a permit, which must be available. */
export function takePermitOf(db: SqliteConnection, request: PermitRequest): void {
  writeBucket(db, request, takePermit(bucketFor(db, request), db.now.atMs));
}

/** Takes a permit if one is available. */
export function tryPermit(db: SqliteConnection, request: PermitRequest) {
  const isTaken = readRate(db, request).nextInMs === 0;
  if (isTaken) takePermitOf(db, request);
  return { isTaken, rate: readRate(db, request) };
}

export function noteRate(db: SqliteConnection, key: RateKey, change: RateChange): void {
  const bucket = readBucket(db, key);
  if (bucket !== undefined) writeBucket(db, key, changeRate(bucket, change, db.now.atMs));
}

/** Of the credential of each provider that was used last. */
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
