-- What running costs, and when that was decided; the newest row applies.
-- Prices and balances are in millionths of a credit.
CREATE TABLE billing_terms (
    id              INTEGER PRIMARY KEY AUTOINCREMENT,
    set_at          INTEGER NOT NULL,
    vcpu_hour       INTEGER NOT NULL,
    memory_gib_hour INTEGER NOT NULL,
    disk_gib_hour   INTEGER NOT NULL,
    egress_gib      INTEGER NOT NULL,
    enforce         INTEGER NOT NULL,
    minimum_balance INTEGER NOT NULL,
    paused_disk     INTEGER NOT NULL
) STRICT;

INSERT INTO billing_terms (set_at, vcpu_hour, memory_gib_hour, disk_gib_hour, egress_gib,
                           enforce, minimum_balance, paused_disk)
VALUES (0, 0, 0, 0, 0, 0, 0, 0);

-- A stretch of a sandbox's life that counts. All its times are whole
-- milliseconds. What was read of a VM's counters and what of that is in the
-- ledger stand side by side.
CREATE TABLE usage_segments (
    id              INTEGER PRIMARY KEY AUTOINCREMENT,
    sandbox_id      TEXT NOT NULL REFERENCES sandboxes (id),
    vm_id           TEXT NOT NULL,
    -- compute: it runs; storage: it is paused and its disk counts.
    kind            TEXT NOT NULL CHECK (kind IN ('compute', 'storage')),
    vcpus           INTEGER NOT NULL,
    memory_mib      INTEGER NOT NULL,
    disk_mib        INTEGER NOT NULL,
    opened_at       INTEGER NOT NULL,
    settled_until   INTEGER NOT NULL CHECK (settled_until >= opened_at),
    ended_at        INTEGER CHECK (ended_at = settled_until),
    egress_read     INTEGER NOT NULL DEFAULT 0,
    egress_settled  INTEGER NOT NULL DEFAULT 0,
    ingress_read    INTEGER NOT NULL DEFAULT 0,
    ingress_settled INTEGER NOT NULL DEFAULT 0,
    cpu_ms_read     INTEGER NOT NULL DEFAULT 0,
    cpu_ms_settled  INTEGER NOT NULL DEFAULT 0,
    -- What the last charge left over of a micro-credit.
    carry           INTEGER NOT NULL DEFAULT 0
) STRICT;

-- No sandbox has two lives at a time.
CREATE UNIQUE INDEX usage_segments_open ON usage_segments (sandbox_id) WHERE ended_at IS NULL;
CREATE INDEX usage_segments_of ON usage_segments (sandbox_id, id);

-- The ledger: what ran in [from_at, until_at), and what that cost.
CREATE TABLE usage_entries (
    id             INTEGER PRIMARY KEY AUTOINCREMENT,
    segment_id     INTEGER NOT NULL REFERENCES usage_segments (id),
    tenant_id      TEXT NOT NULL REFERENCES tenants (id),
    from_at        INTEGER NOT NULL,
    until_at       INTEGER NOT NULL CHECK (until_at >= from_at),
    vcpu_ms        INTEGER NOT NULL,
    memory_mib_ms  INTEGER NOT NULL,
    disk_mib_ms    INTEGER NOT NULL,
    egress_bytes   INTEGER NOT NULL,
    ingress_bytes  INTEGER NOT NULL,
    active_cpu_ms  INTEGER NOT NULL,
    terms_id       INTEGER NOT NULL REFERENCES billing_terms (id),
    charged_micro  INTEGER NOT NULL CHECK (charged_micro >= 0),
    UNIQUE (segment_id, from_at, until_at)
) STRICT;

CREATE INDEX usage_entries_by_tenant ON usage_entries (tenant_id, from_at);

-- What moved a tenant's balance, in order; the newest row has the balance.
CREATE TABLE credit_entries (
    id             INTEGER PRIMARY KEY AUTOINCREMENT,
    tenant_id      TEXT NOT NULL REFERENCES tenants (id),
    kind           TEXT NOT NULL CHECK (kind IN ('grant', 'charge', 'adjustment')),
    amount_micro   INTEGER NOT NULL CHECK (amount_micro <> 0),
    balance_micro  INTEGER NOT NULL,
    -- What a charge is for.
    usage_entry_id INTEGER UNIQUE REFERENCES usage_entries (id),
    note           TEXT,
    -- Who granted or adjusted.
    key_id         TEXT REFERENCES api_keys (id),
    created_at     INTEGER NOT NULL,
    CHECK ((kind = 'charge') = (usage_entry_id IS NOT NULL))
) STRICT;

CREATE INDEX credit_entries_by_tenant ON credit_entries (tenant_id, id);

CREATE TRIGGER usage_entries_stay BEFORE UPDATE ON usage_entries
BEGIN SELECT RAISE(ABORT, 'the ledger is only ever appended to'); END;
CREATE TRIGGER usage_entries_remain BEFORE DELETE ON usage_entries
BEGIN SELECT RAISE(ABORT, 'the ledger is only ever appended to'); END;
CREATE TRIGGER credit_entries_stay BEFORE UPDATE ON credit_entries
BEGIN SELECT RAISE(ABORT, 'the ledger is only ever appended to'); END;
CREATE TRIGGER credit_entries_remain BEFORE DELETE ON credit_entries
BEGIN SELECT RAISE(ABORT, 'the ledger is only ever appended to'); END;

-- Settled compute time, so that a list needs no sum over the ledger; moved by
-- the transaction that appends the entry.
ALTER TABLE sandboxes ADD COLUMN runtime_ms INTEGER NOT NULL DEFAULT 0;

UPDATE sandboxes SET runtime_ms = max(0, (ended_at - started_at) / 1000)
WHERE started_at IS NOT NULL AND ended_at IS NOT NULL;

-- What runs while the schema changes counts from its start.
INSERT INTO usage_segments
    (sandbox_id, vm_id, kind, vcpus, memory_mib, disk_mib, opened_at, settled_until)
SELECT id, vm_id, 'compute', cpu_count, memory_mib, disk_mib,
       started_at / 1000 * 1000, started_at / 1000 * 1000
FROM sandboxes WHERE state = 'running' AND started_at IS NOT NULL;

-- Sandboxes asked for together.
CREATE TABLE batches (
    id            TEXT PRIMARY KEY,
    tenant_id     TEXT NOT NULL REFERENCES tenants (id),
    key_id        TEXT NOT NULL REFERENCES api_keys (id),
    user_id       TEXT NOT NULL REFERENCES users (id),
    -- What each of them is to be.
    request       TEXT NOT NULL,
    concurrency   INTEGER NOT NULL CHECK (concurrency >= 1),
    created_at    INTEGER NOT NULL,
    cancelled_at  INTEGER,
    settled_at    INTEGER
) STRICT;

CREATE INDEX batches_unsettled ON batches (created_at) WHERE settled_at IS NULL;

CREATE TABLE batch_items (
    batch_id    TEXT NOT NULL REFERENCES batches (id),
    position    INTEGER NOT NULL,
    state       TEXT NOT NULL
        CHECK (state IN ('queued', 'creating', 'completed', 'failed', 'cancelled')),
    sandbox_id  TEXT REFERENCES sandboxes (id),
    error_code  TEXT,
    error_message TEXT,
    updated_at  INTEGER NOT NULL,
    PRIMARY KEY (batch_id, position)
) STRICT, WITHOUT ROWID;
