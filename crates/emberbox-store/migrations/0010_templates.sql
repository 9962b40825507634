-- Tenants' own templates.
CREATE TABLE templates (
    id          TEXT PRIMARY KEY,
    tenant_id   TEXT NOT NULL REFERENCES tenants (id),
    owner_id    TEXT NOT NULL REFERENCES users (id),
    slug        TEXT NOT NULL,
    name        TEXT NOT NULL,
    description TEXT NOT NULL,
    metadata    TEXT NOT NULL,
    -- What the next build is made of unless it says otherwise; normalised.
    build_spec  TEXT NOT NULL,
    created_at  INTEGER NOT NULL,
    updated_at  INTEGER NOT NULL,
    -- Its builds stay: sandboxes came from them.
    deleted_at  INTEGER
) STRICT;

CREATE UNIQUE INDEX templates_slug ON templates (tenant_id, slug) WHERE deleted_at IS NULL;

CREATE TABLE template_builds (
    id               TEXT PRIMARY KEY,
    tenant_id        TEXT NOT NULL REFERENCES tenants (id),
    template_id      TEXT NOT NULL REFERENCES templates (id),
    -- Counts the builds of a template, from 1.
    version          INTEGER NOT NULL,
    build_spec       TEXT NOT NULL,
    metadata         TEXT NOT NULL,
    state            TEXT NOT NULL
        CHECK (state IN ('queued', 'building', 'snapshotting', 'certifying', 'distributing',
                         'ready', 'failed', 'cancelled')),
    -- Counts what was asked for by retries, from 1.
    attempt          INTEGER NOT NULL,
    -- How often a server ended in the middle of this attempt.
    interruptions    INTEGER NOT NULL DEFAULT 0,
    error_code       TEXT,
    error_message    TEXT,
    image_id         TEXT,
    digest           TEXT,
    size_bytes       INTEGER,
    layers           INTEGER,
    cached_steps     INTEGER,
    app_running      INTEGER,
    -- Since when no host need have the image.
    image_removed_at INTEGER,
    log_bytes        INTEGER NOT NULL DEFAULT 0,
    log_cut          INTEGER NOT NULL DEFAULT 0,
    created_at       INTEGER NOT NULL,
    queued_at        INTEGER NOT NULL,
    started_at       INTEGER,
    finished_at      INTEGER,
    updated_at       INTEGER NOT NULL,
    UNIQUE (template_id, version)
) STRICT;

-- Builds with something left to do.
CREATE INDEX template_builds_open ON template_builds (tenant_id, queued_at)
    WHERE state NOT IN ('ready', 'failed', 'cancelled');
-- Images that some host may have.
CREATE INDEX template_builds_images ON template_builds (image_id)
    WHERE image_id IS NOT NULL AND image_removed_at IS NULL;

-- What happened in builds, in the order it was committed.
CREATE TABLE template_build_events (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    build_id   TEXT NOT NULL REFERENCES template_builds (id),
    attempt    INTEGER NOT NULL,
    -- 'cut': the log was over its limit; what came later is not kept.
    kind       TEXT NOT NULL CHECK (kind IN ('state', 'step', 'output', 'cut')),
    -- In which state the build was, or became.
    state      TEXT NOT NULL,
    step       INTEGER,
    -- A step's command, a line of output, or why the state is what it is.
    text       TEXT,
    cached     INTEGER,
    error_code TEXT,
    created_at INTEGER NOT NULL
) STRICT;

CREATE INDEX template_build_events_of ON template_build_events (build_id, id);

-- The build whose image a sandbox started from.
ALTER TABLE sandboxes ADD COLUMN build_id TEXT REFERENCES template_builds (id);
CREATE INDEX sandboxes_image ON sandboxes (image_id) WHERE state <> 'destroyed';

-- Whether the app came running out of its image's snapshot.
ALTER TABLE apps ADD COLUMN from_snapshot INTEGER NOT NULL DEFAULT 0;
