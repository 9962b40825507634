-- What a host has written, or is writing, of a sandbox: memory, devices, disk.
CREATE TABLE snapshots (
    id          TEXT PRIMARY KEY,
    tenant_id   TEXT NOT NULL REFERENCES tenants (id),
    sandbox_id  TEXT NOT NULL REFERENCES sandboxes (id),
    -- 'user' is the user's own; 'pause' is what a paused sandbox is; 'fork'
    -- lives until the sandbox that starts from it is up.
    kind        TEXT NOT NULL CHECK (kind IN ('user', 'pause', 'fork')),
    state       TEXT NOT NULL CHECK (state IN ('creating', 'ready')),
    comment     TEXT,
    -- The user's snapshot the sandbox came from when this one was taken.
    parent_id   TEXT,
    stopped_us  INTEGER,
    size_bytes  INTEGER,
    created_at  INTEGER NOT NULL
) STRICT;

CREATE INDEX snapshots_by_sandbox ON snapshots (sandbox_id, created_at);
-- A sandbox is paused as one snapshot only.
CREATE UNIQUE INDEX snapshots_one_pause ON snapshots (sandbox_id) WHERE kind = 'pause';

-- The snapshot a sandbox in provisioning starts from, in place of its image.
ALTER TABLE sandboxes ADD COLUMN origin_snapshot_id TEXT;
-- The user's snapshot it was last restored from or took.
ALTER TABLE sandboxes ADD COLUMN last_snapshot_id TEXT;
-- Since when it is paused.
ALTER TABLE sandboxes ADD COLUMN paused_at INTEGER;
-- How far its end was moved from started_at + timeout_sec, in microseconds.
ALTER TABLE sandboxes ADD COLUMN moved_us INTEGER NOT NULL DEFAULT 0;
