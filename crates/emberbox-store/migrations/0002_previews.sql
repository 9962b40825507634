-- One row per port that was ever shown. A row that is over stays, so that a
-- port its owner closed does not fall back to the default, which is open.
CREATE TABLE previews (
    id          TEXT PRIMARY KEY,
    sandbox_id  TEXT NOT NULL REFERENCES sandboxes (id),
    port        INTEGER NOT NULL CHECK (port BETWEEN 1 AND 65535),
    visibility  TEXT NOT NULL CHECK (visibility IN ('public', 'private')),
    name        TEXT,
    metadata    TEXT NOT NULL,
    created_at  INTEGER NOT NULL,
    -- When it was last asked for: the newest one answers without a port.
    exposed_at  INTEGER NOT NULL,
    expires_at  INTEGER,
    deleted_at  INTEGER,
    UNIQUE (sandbox_id, port)
) STRICT;

-- What opens private previews.
CREATE TABLE preview_tokens (
    id           TEXT PRIMARY KEY,
    sandbox_id   TEXT NOT NULL REFERENCES sandboxes (id),
    -- The one preview it opens; every preview of the sandbox when null.
    preview_id   TEXT REFERENCES previews (id) ON DELETE CASCADE,
    kind         TEXT NOT NULL CHECK (kind IN ('preview', 'share', 'token')),
    prefix       TEXT NOT NULL,
    token_sha256 BLOB NOT NULL UNIQUE,
    created_at   INTEGER NOT NULL,
    expires_at   INTEGER
) STRICT;

CREATE INDEX preview_tokens_by_sandbox ON preview_tokens (sandbox_id, created_at);
-- The link of a preview, at most one.
CREATE UNIQUE INDEX preview_tokens_by_preview ON preview_tokens (preview_id)
    WHERE preview_id IS NOT NULL;

-- A tenant's own domain for its previews.
ALTER TABLE tenants ADD COLUMN preview_domain TEXT;
CREATE UNIQUE INDEX tenants_preview_domain ON tenants (preview_domain)
    WHERE preview_domain IS NOT NULL;
