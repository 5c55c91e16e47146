-- Which blocks each change may concern: readers read these again, and not all blocks. Rows of
-- block_history from before, and of changes that concern very many blocks, are not logged.
ALTER TABLE block_history ADD COLUMN logged BOOLEAN NOT NULL DEFAULT FALSE;
CREATE TABLE block_changes (
    version BIGINT NOT NULL,
    kind TEXT NOT NULL,
    issuer TEXT NOT NULL,
    name TEXT NOT NULL,
    PRIMARY KEY (version, kind, name, issuer)
);

-- The deltas of bundles, each signed, by the version that they lead to. The table bundles has the
-- whole bundle that the later ones begin with.
CREATE TABLE bundle_deltas (
    version BIGINT PRIMARY KEY,
    text TEXT NOT NULL,
    -- Which state of the blocks the bundle of this version says.
    blocks BIGINT NOT NULL
);

-- Blocks that a restored copy of the store had lost.
CREATE INDEX blocks_recovered ON blocks (at) WHERE actor = 'sitegate, after a restore';

-- Waiting keys by what they were registered with: a block removes those of its name.
CREATE INDEX device_keys_waiting_certificate ON device_keys (certificate) WHERE NOT active;
CREATE INDEX device_keys_waiting_entra ON device_keys (entra) WHERE NOT active;

-- Old lines of the audit log are removed.
CREATE INDEX audit_by_time ON audit (at);

-- The state of the blocks lies behind the text of a bundle, which may have many megabytes.
CREATE INDEX bundles_blocks ON bundles (version, blocks);

CREATE INDEX role_certificates_blocked ON role_certificates (thumbprint, expires)
WHERE blocked IS NOT NULL;
