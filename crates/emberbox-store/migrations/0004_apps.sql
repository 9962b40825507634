-- The app of a sandbox's template: its last start.
CREATE TABLE apps (
    sandbox_id  TEXT PRIMARY KEY REFERENCES sandboxes (id),
    status      TEXT NOT NULL CHECK (status IN ('installing', 'starting', 'started', 'failed')),
    workdir     TEXT NOT NULL,
    port        INTEGER,
    -- In the guest; leads the process group.
    pid         INTEGER,
    ready       INTEGER NOT NULL,
    error       TEXT,
    started_at  INTEGER NOT NULL,
    updated_at  INTEGER NOT NULL
) STRICT;

-- The label of a tenant in its deployments' addresses.
ALTER TABLE tenants ADD COLUMN slug TEXT;
UPDATE tenants SET slug = CASE
    WHEN id = (SELECT id FROM tenants ORDER BY created_at, id LIMIT 1) THEN 'default'
    ELSE 't-' || substr(id, -12)
END;
CREATE UNIQUE INDEX tenants_slug ON tenants (slug);

CREATE TABLE deployments (
    id          TEXT PRIMARY KEY,
    tenant_id   TEXT NOT NULL REFERENCES tenants (id),
    -- The runtime behind it.
    sandbox_id  TEXT NOT NULL REFERENCES sandboxes (id),
    name        TEXT NOT NULL,
    slug        TEXT NOT NULL,
    port        INTEGER NOT NULL CHECK (port BETWEEN 1 AND 65535),
    domain      TEXT,
    created_at  INTEGER NOT NULL,
    updated_at  INTEGER NOT NULL,
    deleted_at  INTEGER
) STRICT;

CREATE INDEX deployments_by_tenant ON deployments (tenant_id, created_at);
CREATE INDEX deployments_by_sandbox ON deployments (sandbox_id) WHERE deleted_at IS NULL;
CREATE UNIQUE INDEX deployments_slug ON deployments (tenant_id, slug) WHERE deleted_at IS NULL;
-- One domain leads to one place, whoever's it is.
CREATE UNIQUE INDEX deployments_domain ON deployments (domain)
    WHERE deleted_at IS NULL AND domain IS NOT NULL;
