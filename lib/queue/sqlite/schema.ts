// The tables of the embedded queue, and how a file of an older version becomes one of this.

/** What `PRAGMA application_id` says of our files, "REML". */
export const applicationId = 0x52_45_4d_4c;

/**
 * Each step makes the next format of the one before; `PRAGMA user_version` counts those that were taken. A step that
 * has been released never changes.
 */
export const migrations: readonly string[] = [
  `
  -- What does not change of an email that has not left yet.
  CREATE TABLE emails (
    id           TEXT NOT NULL UNIQUE,
    submitted_at INTEGER NOT NULL,
    text         TEXT NOT NULL
  ) STRICT;

  -- Where it is: it waits until due_at, or is in a batch, or has died. In a table of its own, since an email of a
  -- megabyte would be written again with every change.
  CREATE TABLE places (
    id           TEXT NOT NULL PRIMARY KEY,
    size         INTEGER NOT NULL,         -- of the email's text, bytes
    history      TEXT NOT NULL DEFAULT '', -- opaque
    due_at       INTEGER,
    provider     TEXT,                     -- the only one that may take it while it waits; '' is any
    batch        TEXT,
    position     INTEGER,                  -- in the batch
    mark_batch   TEXT,                     -- accepted meanwhile, by an earlier hand-over in this batch
    mark_remains TEXT,
    died_at      INTEGER,
    CHECK ((due_at IS NOT NULL) + (batch IS NOT NULL) + (died_at IS NOT NULL) = 1),
    CHECK ((due_at IS NULL) = (provider IS NULL)),
    CHECK ((batch IS NULL) = (position IS NULL)),
    CHECK (mark_batch IS NULL OR batch IS NOT NULL)
  ) STRICT, WITHOUT ROWID;
  CREATE INDEX places_due ON places (provider, due_at, id) WHERE due_at IS NOT NULL;
  CREATE INDEX places_batch ON places (batch, position) WHERE batch IS NOT NULL;
  CREATE INDEX places_dead ON places (died_at) WHERE died_at IS NOT NULL;

  CREATE TABLE batches (
    id          TEXT NOT NULL PRIMARY KEY,
    provider    TEXT NOT NULL,
    lease       INTEGER NOT NULL, -- a count
    held        INTEGER NOT NULL, -- 1 while leased
    due_at      INTEGER NOT NULL, -- lease end or next try
    ends_at     INTEGER,          -- end of doubt; NULL until it is first claimed
    doubt_since INTEGER,
    lapsed      INTEGER NOT NULL, -- 1: the lease before this one ran out
    context     TEXT NOT NULL,    -- opaque
    notes       TEXT NOT NULL     -- opaque
  ) STRICT, WITHOUT ROWID;
  CREATE INDEX batches_due ON batches (provider, due_at);
  CREATE INDEX batches_ends ON batches (ends_at) WHERE ends_at IS NOT NULL;
  CREATE INDEX batches_unbegun ON batches (provider) WHERE ends_at IS NULL;

  -- What is left of emails that have left: of a sent one the batch by which, the envelope line and the record; of a
  -- deleted one nothing but the id.
  CREATE TABLE sent (
    id         TEXT NOT NULL PRIMARY KEY,
    batch      TEXT,
    remains    TEXT NOT NULL,
    expires_at INTEGER NOT NULL
  ) STRICT, WITHOUT ROWID;
  CREATE INDEX sent_expiry ON sent (expires_at);

  CREATE TABLE idempotency (
    key         TEXT NOT NULL PRIMARY KEY,
    id          TEXT NOT NULL,
    fingerprint TEXT NOT NULL,
    expires_at  INTEGER NOT NULL
  ) STRICT, WITHOUT ROWID;
  CREATE INDEX idempotency_expiry ON idempotency (expires_at);

  -- What claims were answered: to ask again gives the same.
  CREATE TABLE claims (
    id         TEXT NOT NULL PRIMARY KEY,
    batch      TEXT NOT NULL,
    lease      INTEGER NOT NULL,
    expires_at INTEGER NOT NULL
  ) STRICT, WITHOUT ROWID;
  CREATE INDEX claims_expiry ON claims (expires_at);

  CREATE TABLE counters (name TEXT NOT NULL PRIMARY KEY, count INTEGER NOT NULL) STRICT, WITHOUT ROWID;
  `,
];
