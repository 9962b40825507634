-- How many sandboxes a tenant has is counted at every create; without this it
-- reads all that the tenant ever had.
CREATE INDEX sandboxes_live ON sandboxes (tenant_id)
    WHERE state IN ('provisioning', 'running', 'paused');
