-- Who may do what, and how much of it.

-- Limits of its own, as JSON; the settings' where it says nothing.
ALTER TABLE tenants ADD COLUMN limits TEXT NOT NULL DEFAULT '{}';
-- Its keys are refused since then.
ALTER TABLE tenants ADD COLUMN suspended_at INTEGER;
-- A tenant that is gone leaves its history, its slug is free.
ALTER TABLE tenants ADD COLUMN deleted_at INTEGER;

ALTER TABLE users ADD COLUMN email TEXT;
ALTER TABLE users ADD COLUMN deleted_at INTEGER;
CREATE INDEX users_by_tenant ON users (tenant_id, created_at);

ALTER TABLE workspaces ADD COLUMN external_id TEXT;
ALTER TABLE workspaces ADD COLUMN deleted_at INTEGER;
CREATE UNIQUE INDEX workspaces_external ON workspaces (tenant_id, external_id)
    WHERE external_id IS NOT NULL AND deleted_at IS NULL;
ALTER TABLE projects ADD COLUMN external_id TEXT;
ALTER TABLE projects ADD COLUMN deleted_at INTEGER;
CREATE UNIQUE INDEX projects_external ON projects (workspace_id, external_id)
    WHERE external_id IS NOT NULL AND deleted_at IS NULL;
-- What a workspace or a project still has.
CREATE INDEX sandboxes_by_workspace ON sandboxes (workspace_id, created_at);
CREATE INDEX sandboxes_by_project ON sandboxes (project_id) WHERE state <> 'destroyed';

-- 'token' is a key that somebody made for somebody else, for a while.
ALTER TABLE api_keys ADD COLUMN kind TEXT NOT NULL DEFAULT 'key'
    CHECK (kind IN ('key', 'token'));
-- Separated by blanks; everything of the tenant when null.
ALTER TABLE api_keys ADD COLUMN scopes TEXT;
-- The only workspace, and the only end user's sandboxes, it sees.
ALTER TABLE api_keys ADD COLUMN workspace_id TEXT REFERENCES workspaces (id);
ALTER TABLE api_keys ADD COLUMN end_user TEXT;
-- How often its secret was replaced, and the one before while it still works.
ALTER TABLE api_keys ADD COLUMN generation INTEGER NOT NULL DEFAULT 0;
ALTER TABLE api_keys ADD COLUMN previous_sha256 BLOB;
ALTER TABLE api_keys ADD COLUMN previous_until INTEGER;
CREATE UNIQUE INDEX api_keys_previous ON api_keys (previous_sha256)
    WHERE previous_sha256 IS NOT NULL;

-- The key of the first start is the operator's.
UPDATE api_keys SET scopes = 'admin'
WHERE id = (SELECT id FROM api_keys ORDER BY created_at, id LIMIT 1);

-- A ticket ends with the secret that made it.
ALTER TABLE stream_tickets ADD COLUMN generation INTEGER NOT NULL DEFAULT 0;
