-- What came of requests that carry an `Idempotency-Key`.
CREATE TABLE requests (
    tenant_id   TEXT NOT NULL REFERENCES tenants (id),
    -- Method and path, and so the one resource it is about.
    scope       TEXT NOT NULL,
    key         TEXT NOT NULL,
    -- Of the request's body; null for those of an older version.
    body_sha256 BLOB,
    -- What it made, written by the transaction that made it.
    made_id     TEXT,
    -- Its answer, once there is one; the body is null if it was too large.
    status      INTEGER,
    body        BLOB,
    created_at  INTEGER NOT NULL,
    PRIMARY KEY (tenant_id, scope, key)
) STRICT, WITHOUT ROWID;

CREATE INDEX requests_by_age ON requests (created_at);

INSERT INTO requests (tenant_id, scope, key, made_id, created_at)
SELECT tenant_id, 'POST /api/v1/sandboxes', key, sandbox_id, created_at
FROM idempotency_keys;
DROP TABLE idempotency_keys;

-- A name that keeps one snapshot, also when its sandbox is gone.
CREATE TABLE named_snapshots (
    tenant_id   TEXT NOT NULL REFERENCES tenants (id),
    name        TEXT NOT NULL,
    snapshot_id TEXT NOT NULL UNIQUE REFERENCES snapshots (id) ON DELETE CASCADE,
    created_at  INTEGER NOT NULL,
    PRIMARY KEY (tenant_id, name)
) STRICT, WITHOUT ROWID;

CREATE INDEX snapshots_by_tenant ON snapshots (tenant_id, created_at);

-- The sandbox's row of `apps` when the snapshot was taken, as JSON: what runs
-- again after a restore is that app.
ALTER TABLE snapshots ADD COLUMN app TEXT;
