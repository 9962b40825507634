-- What happened to sandboxes, in the order it was committed.
CREATE TABLE sandbox_events (
    id             INTEGER PRIMARY KEY AUTOINCREMENT,
    sandbox_id     TEXT NOT NULL REFERENCES sandboxes (id),
    kind           TEXT NOT NULL CHECK (kind IN ('state_changed', 'error')),
    -- Of a change of state.
    state          TEXT,
    previous_state TEXT,
    -- Of an error.
    message        TEXT,
    created_at     INTEGER NOT NULL
) STRICT;

CREATE INDEX sandbox_events_of ON sandbox_events (sandbox_id, id);

INSERT INTO sandbox_events (sandbox_id, kind, state, created_at)
SELECT id, 'state_changed', state,
       coalesce(destroyed_at, ended_at, started_at, created_at)
FROM sandboxes;

-- What opens one stream, once, in place of a key.
CREATE TABLE stream_tickets (
    secret_sha256 BLOB PRIMARY KEY,
    key_id        TEXT NOT NULL REFERENCES api_keys (id),
    -- The only path it opens, if it was bound to one.
    path          TEXT,
    expires_at    INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX stream_tickets_by_age ON stream_tickets (expires_at);
