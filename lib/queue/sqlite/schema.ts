// The tables of the embedded queue.

/** `PRAGMA application_id` of our files, "REML". */
export const applicationId = 0x52_45_4d_4c;

/** `PRAGMA user_version` of our files. */
export const format = 2;

/** The tables that the previous release knows. */
export const schema = `
  -- The unchanging part of an email that has not left yet.
  CREATE TABLE emails (
    id           TEXT NOT NULL UNIQUE,
    submitted_at INTEGER NOT NULL,
    text         TEXT NOT NULL
  ) STRICT;

  -- Where it is: it waits until due_at, or is in a batch, or has died. A separate table, since a change of a row
  -- writes the whole row again, and an email may have a megabyte.
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
  CREATE INDEX places_dead ON places (died_at, id) WHERE died_at IS NOT NULL;

  CREATE TABLE batches (
    id          TEXT NOT NULL PRIMARY KEY,
    provider    TEXT NOT NULL,
    lease       INTEGER NOT NULL, -- a count
    held        INTEGER NOT NULL, -- 1 while leased
    due_at      INTEGER NOT NULL, -- lease end or next try
    ends_at     INTEGER NOT NULL, -- end of doubt
    doubt_since INTEGER,
    lapsed      INTEGER NOT NULL, -- 1: the lease before this one ran out
    context     TEXT NOT NULL,    -- opaque
    notes       TEXT NOT NULL,    -- opaque
    piece_max   INTEGER,          -- of the split list that it was made from
    credential  TEXT NOT NULL,    -- a digest, of the claim that made it
    lease_ms    INTEGER NOT NULL, -- length of the lease
    timed_lease INTEGER NOT NULL, -- as lease; the previous release knows the length of this lease alone
    ahead_ms    INTEGER NOT NULL DEFAULT 0 -- sum of the clock's steps since it was begun: ahead, or back if negative
  ) STRICT, WITHOUT ROWID;
  CREATE INDEX batches_due ON batches (provider, due_at);
  CREATE INDEX batches_ends ON batches (ends_at);
  CREATE INDEX batches_doubtful ON batches (doubt_since, id) WHERE doubt_since IS NOT NULL;
  -- The previous release takes a file without this view for one that lacks the last columns.
  CREATE VIEW batches_held AS SELECT id FROM batches WHERE held = 1;

  -- The remains of emails that have left: batch, envelope line and record of a sent one; the id of a deleted one.
  CREATE TABLE sent (
    id         TEXT NOT NULL PRIMARY KEY,
    batch      TEXT,
    remains    TEXT NOT NULL,
    expires_at INTEGER NOT NULL
  ) STRICT, WITHOUT ROWID;
  CREATE INDEX sent_expiry ON sent (expires_at, id);

  CREATE TABLE idempotency (
    key         TEXT NOT NULL PRIMARY KEY,
    id          TEXT NOT NULL,
    fingerprint TEXT NOT NULL,
    expires_at  INTEGER NOT NULL,
    token       TEXT NOT NULL     -- a digest
  ) STRICT, WITHOUT ROWID;
  CREATE INDEX idempotency_expiry ON idempotency (expires_at);
  -- Uses of a key beyond its first, one for each token.
  CREATE TABLE idempotency_uses (
    key         TEXT NOT NULL,
    token       TEXT NOT NULL,
    id          TEXT NOT NULL,
    fingerprint TEXT NOT NULL,
    expires_at  INTEGER NOT NULL,
    PRIMARY KEY (key, token)
  ) STRICT, WITHOUT ROWID;
  CREATE INDEX idempotency_uses_expiry ON idempotency_uses (expires_at);

  -- The last claim of each claimant that was answered with a batch.
  CREATE TABLE claimants (
    claimant TEXT NOT NULL PRIMARY KEY,
    number   INTEGER NOT NULL,
    batch    TEXT NOT NULL,
    lease    INTEGER NOT NULL,
    heard_at INTEGER NOT NULL
  ) STRICT, WITHOUT ROWID;
  -- Always empty, for the sweeps of the previous release.
  CREATE TABLE claims (id TEXT NOT NULL PRIMARY KEY, expires_at INTEGER NOT NULL) STRICT, WITHOUT ROWID;

  CREATE TABLE counters (name TEXT NOT NULL PRIMARY KEY, count INTEGER NOT NULL) STRICT, WITHOUT ROWID;

  -- A row while an operator has stopped all claims.
  CREATE TABLE pauses (
    one   INTEGER NOT NULL PRIMARY KEY CHECK (one = 1),
    since INTEGER NOT NULL
  ) STRICT;
  -- A row while an operator moves the queue to another store.
  CREATE TABLE moves (
    one   INTEGER NOT NULL PRIMARY KEY CHECK (one = 1),
    since INTEGER NOT NULL
  ) STRICT;

  -- One row: the counts of what there may be millions of, since counting a million rows takes 80 ms, in which a
  -- process does nothing else. Triggers keep them, so that no change of a place is missed; none runs at a claim.
  CREATE TABLE tally (
    placed INTEGER NOT NULL,
    dead   INTEGER NOT NULL, -- of those in places
    sent   INTEGER NOT NULL
  ) STRICT;
  INSERT INTO tally VALUES (0, 0, 0);

  CREATE TRIGGER place_made AFTER INSERT ON places BEGIN
    UPDATE tally SET placed = placed + 1;
  END;
  CREATE TRIGGER place_died AFTER UPDATE OF died_at ON places BEGIN
    UPDATE tally SET dead = dead + (new.died_at IS NOT NULL) - (old.died_at IS NOT NULL);
  END;
  CREATE TRIGGER dead_left AFTER DELETE ON places WHEN old.died_at IS NOT NULL BEGIN
    UPDATE tally SET dead = dead - 1;
  END;
  -- Each email that leaves its place enters sent, a deleted one too.
  CREATE TRIGGER sent_made AFTER INSERT ON sent BEGIN
    UPDATE tally SET placed = placed - 1, sent = sent + (new.batch IS NOT NULL);
  END;
  CREATE TRIGGER sent_left AFTER DELETE ON sent WHEN old.batch IS NOT NULL BEGIN
    UPDATE tally SET sent = sent - 1;
  END;

  -- How each provider did lately.
  CREATE TABLE conditions (
    provider      TEXT NOT NULL PRIMARY KEY,
    accepted_at   INTEGER, -- when it last did
    failing_since INTEGER, -- without an acceptance; NULL while it works
    failed_at     INTEGER, -- when it last did
    reason        TEXT,
    unanswered    INTEGER NOT NULL DEFAULT 0 -- 1: the last failure came without an answer of the provider's own
  ) STRICT, WITHOUT ROWID;
  -- How many emails each provider has accepted under each credential.
  CREATE TABLE acceptances (
    provider   TEXT NOT NULL,
    credential TEXT NOT NULL, -- a digest
    count      INTEGER NOT NULL,
    PRIMARY KEY (provider, credential)
  ) STRICT, WITHOUT ROWID;
  -- The rate of each provider under each credential, see rate_bucket.ts.
  CREATE TABLE rates (
    provider         TEXT NOT NULL,
    credential       TEXT NOT NULL, -- a digest
    per_second       REAL NOT NULL,
    limit_per_second REAL,
    version          INTEGER NOT NULL,
    throttles        INTEGER NOT NULL,
    next_at          REAL NOT NULL,
    blocked_from     INTEGER NOT NULL,
    blocked_until    INTEGER NOT NULL,
    PRIMARY KEY (provider, credential)
  ) STRICT, WITHOUT ROWID;

  CREATE TABLE workers (
    worker   TEXT NOT NULL PRIMARY KEY,
    heard_at INTEGER NOT NULL,
    presence TEXT NOT NULL -- JSON, see WorkerPresence
  ) STRICT, WITHOUT ROWID;
  -- When a worker that hands new emails to the provider was last heard of.
  CREATE TABLE served (provider TEXT NOT NULL PRIMARY KEY, at INTEGER NOT NULL) STRICT, WITHOUT ROWID;

  -- One row, see clock_steps.ts.
  CREATE TABLE clock (
    one          INTEGER NOT NULL PRIMARY KEY CHECK (one = 1),
    stamped_at   INTEGER NOT NULL, -- what the clock said lately
    stepped_at   INTEGER,          -- what it said after its last step
    stepped_by   INTEGER,
    doubted_at   INTEGER,          -- what it said after its last large step
    unwatched_at INTEGER           -- what it said after a time without any worker
  ) STRICT;
`;

/**
 * Additions to these tables. The previous release works beside them: it checks the format alone, reads and writes the
 * columns that it knows, and leaves the others at their defaults. Each is named after a table or a view that it creates,
 * which shows that a file has the addition.
 */
export const additions: Readonly<Record<string, string>> = {
  hidden_batches: `
    -- To the previous release, each hidden email is in a batch that it does not find. Separate columns say where it waits,
    -- or that it has died. See lists.ts.
    ALTER TABLE places ADD COLUMN hidden_list TEXT;  -- NULL for others; '' in a batch
    ALTER TABLE places ADD COLUMN hidden_at INTEGER; -- when it is due, or died; NULL in a batch
    CREATE INDEX places_hidden ON places (hidden_list, hidden_at, id) WHERE hidden_at IS NOT NULL;

    -- The batches that contain such an email.
    CREATE TABLE hidden_batches (
      id          TEXT NOT NULL PRIMARY KEY,
      provider    TEXT NOT NULL,
      lease       INTEGER NOT NULL,
      held        INTEGER NOT NULL,
      due_at      INTEGER NOT NULL,
      ends_at     INTEGER NOT NULL,
      doubt_since INTEGER,
      lapsed      INTEGER NOT NULL,
      context     TEXT NOT NULL,
      notes       TEXT NOT NULL,
      piece_max   INTEGER,
      credential  TEXT NOT NULL,
      lease_ms    INTEGER NOT NULL,
      timed_lease INTEGER NOT NULL,
      ahead_ms    INTEGER NOT NULL DEFAULT 0
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX hidden_batches_due ON hidden_batches (provider, due_at);
    CREATE INDEX hidden_batches_ends ON hidden_batches (ends_at);
    CREATE INDEX hidden_batches_doubtful ON hidden_batches (doubt_since, id) WHERE doubt_since IS NOT NULL;
    -- Both tables have the same columns in the same order.
    CREATE VIEW all_batches AS SELECT * FROM batches UNION ALL SELECT * FROM hidden_batches;

    -- The previous release may be the one that notices a step of the clock: see noteStep in clock_steps.ts. The number is
    -- the longest doubt plus a tolerance.
    CREATE TRIGGER clock_stepped AFTER UPDATE OF stepped_at ON clock BEGIN
      UPDATE hidden_batches SET
        ends_at = ends_at + min(0, ahead_ms + new.stepped_by) - min(0, ahead_ms),
        ahead_ms = ahead_ms + new.stepped_by
      WHERE new.stepped_by <= 0 OR ends_at <= new.stepped_at - new.stepped_by + 82802000;
    END;

    -- The files of an email, cut into pieces. Not WITHOUT ROWID, which would copy each row as a whole.
    ALTER TABLE places ADD COLUMN file_bytes INTEGER; -- NULL without files
    CREATE TABLE file_pieces (
      email   TEXT NOT NULL,
      number  INTEGER NOT NULL, -- from 0
      content BLOB NOT NULL,
      PRIMARY KEY (email, number)
    ) STRICT;
    -- Emails whose pieces are stored but not yet, or never, the emails themselves.
    CREATE TABLE uploads (email TEXT NOT NULL PRIMARY KEY, expires_at INTEGER NOT NULL) STRICT, WITHOUT ROWID;

    ALTER TABLE tally ADD COLUMN scheduled INTEGER NOT NULL DEFAULT 0; -- also those that are due
    ALTER TABLE tally ADD COLUMN file_bytes INTEGER NOT NULL DEFAULT 0;
    CREATE TRIGGER hidden_made AFTER INSERT ON places WHEN new.hidden_list IS NOT NULL BEGIN
      UPDATE tally SET
        dead = dead + (new.hidden_list = ':dead'),
        scheduled = scheduled + (new.hidden_list = ':scheduled'),
        file_bytes = file_bytes + coalesce(new.file_bytes, 0);
    END;
    CREATE TRIGGER hidden_moved AFTER UPDATE OF hidden_list ON places
    WHEN old.hidden_list IN (':scheduled', ':dead') OR new.hidden_list = ':dead' BEGIN
      UPDATE tally SET
        dead = dead + (new.hidden_list = ':dead') - (old.hidden_list = ':dead'),
        scheduled = scheduled + (new.hidden_list = ':scheduled') - (old.hidden_list = ':scheduled');
    END;
    CREATE TRIGGER hidden_left AFTER DELETE ON places WHEN old.hidden_list IS NOT NULL BEGIN
      UPDATE tally SET
        dead = dead - (old.hidden_list = ':dead'),
        scheduled = scheduled - (old.hidden_list = ':scheduled'),
        file_bytes = file_bytes - coalesce(old.file_bytes, 0);
      DELETE FROM file_pieces WHERE old.file_bytes IS NOT NULL AND email = old.id;
    END;

    -- An idempotency key lives for a day after the time for which its email is scheduled. Sweeps of the previous release
    -- shorten what lives for more than a day from now: see longLivedMs in keys.ts.
    CREATE TRIGGER idempotency_kept BEFORE UPDATE OF expires_at ON idempotency
    WHEN old.expires_at >= 1000000000000000 AND new.expires_at < old.expires_at BEGIN
      SELECT RAISE(IGNORE);
    END;
    CREATE TRIGGER idempotency_use_kept BEFORE UPDATE OF expires_at ON idempotency_uses
    WHEN old.expires_at >= 1000000000000000 AND new.expires_at < old.expires_at BEGIN
      SELECT RAISE(IGNORE);
    END;
  `,
};
