-- Times are microseconds since the Unix epoch. JSON columns hold what SQL
-- never looks into, tags excepted.

CREATE TABLE tenants (
    id          TEXT PRIMARY KEY,
    name        TEXT NOT NULL,
    created_at  INTEGER NOT NULL
) STRICT;

CREATE TABLE users (
    id          TEXT PRIMARY KEY,
    tenant_id   TEXT NOT NULL REFERENCES tenants (id),
    name        TEXT NOT NULL,
    created_at  INTEGER NOT NULL
) STRICT;

CREATE TABLE workspaces (
    id          TEXT PRIMARY KEY,
    tenant_id   TEXT NOT NULL REFERENCES tenants (id),
    slug        TEXT NOT NULL,
    name        TEXT NOT NULL,
    is_default  INTEGER NOT NULL,
    created_at  INTEGER NOT NULL,
    UNIQUE (tenant_id, slug)
) STRICT;

CREATE UNIQUE INDEX workspaces_one_default ON workspaces (tenant_id) WHERE is_default = 1;

CREATE TABLE projects (
    id           TEXT PRIMARY KEY,
    tenant_id    TEXT NOT NULL REFERENCES tenants (id),
    workspace_id TEXT NOT NULL REFERENCES workspaces (id),
    slug         TEXT NOT NULL,
    name         TEXT NOT NULL,
    is_default   INTEGER NOT NULL,
    created_at   INTEGER NOT NULL,
    UNIQUE (workspace_id, slug)
) STRICT;

CREATE UNIQUE INDEX projects_one_default ON projects (workspace_id) WHERE is_default = 1;

CREATE TABLE api_keys (
    id            TEXT PRIMARY KEY,
    tenant_id     TEXT NOT NULL REFERENCES tenants (id),
    user_id       TEXT NOT NULL REFERENCES users (id),
    name          TEXT NOT NULL,
    prefix        TEXT NOT NULL,
    secret_sha256 BLOB NOT NULL UNIQUE,
    created_at    INTEGER NOT NULL,
    expires_at    INTEGER,
    revoked_at    INTEGER
) STRICT;

CREATE INDEX api_keys_by_tenant ON api_keys (tenant_id, created_at);

CREATE TABLE sandboxes (
    id                    TEXT PRIMARY KEY,
    tenant_id             TEXT NOT NULL REFERENCES tenants (id),
    owner_id              TEXT NOT NULL REFERENCES users (id),
    workspace_id          TEXT NOT NULL REFERENCES workspaces (id),
    project_id            TEXT NOT NULL REFERENCES projects (id),
    external_workspace_id TEXT,
    external_user_id      TEXT,
    external_project_id   TEXT,
    name                  TEXT,
    slug                  TEXT NOT NULL,
    tags                  TEXT NOT NULL,
    metadata              TEXT NOT NULL,
    env                   TEXT NOT NULL,
    template_id           TEXT NOT NULL,
    image_id              TEXT NOT NULL,
    size                  TEXT,
    cpu_count             INTEGER NOT NULL,
    memory_mib            INTEGER NOT NULL,
    disk_mib              INTEGER NOT NULL,
    timeout_sec           INTEGER NOT NULL,
    idle_timeout_sec      INTEGER,
    always_on             INTEGER NOT NULL,
    persistent            INTEGER NOT NULL,
    auto_start            INTEGER NOT NULL,
    state                 TEXT NOT NULL
        CHECK (state IN ('provisioning', 'running', 'paused', 'destroyed', 'error')),
    error_message         TEXT,
    -- The one life the host may run for this sandbox.
    vm_id                 TEXT NOT NULL UNIQUE,
    boot_path             TEXT,
    boot_ms               INTEGER,
    created_at            INTEGER NOT NULL,
    started_at            INTEGER,
    ready_at              INTEGER,
    -- The intent to destroy; the fact is destroyed_at.
    destroy_requested_at  INTEGER,
    -- When the VM's last life ended, by a failure or by its destruction.
    ended_at              INTEGER,
    destroyed_at          INTEGER
) STRICT;

CREATE INDEX sandboxes_by_tenant ON sandboxes (tenant_id, created_at);
CREATE INDEX sandboxes_by_name ON sandboxes (tenant_id, name) WHERE state <> 'destroyed';
CREATE UNIQUE INDEX sandboxes_slug ON sandboxes (slug) WHERE state <> 'destroyed';
-- Rows with something left to do, so that history never slows the janitor.
CREATE INDEX sandboxes_not_destroyed ON sandboxes (state) WHERE state <> 'destroyed';

CREATE TABLE idempotency_keys (
    tenant_id   TEXT NOT NULL REFERENCES tenants (id),
    key         TEXT NOT NULL,
    sandbox_id  TEXT NOT NULL REFERENCES sandboxes (id),
    created_at  INTEGER NOT NULL,
    PRIMARY KEY (tenant_id, key)
) STRICT, WITHOUT ROWID;

CREATE INDEX idempotency_keys_by_age ON idempotency_keys (created_at);
