-- Which blocks each change may concern: readers read these again, and not all blocks. Rows of
-- block_history from before, and of changes that concern very many blocks, are not logged.
ALTER TABLE block_history ADD COLUMN logged BOOLEAN NOT NULL DEFAULT FALSE;
CREATE TABLE block_changes (
    version INTEGER NOT NULL,
    kind TEXT NOT NULL,
    issuer TEXT NOT NULL,
    name TEXT NOT NULL,
    PRIMARY KEY (version, kind, name, issuer)
);

-- The deltas of bundles, each signed, by the version that they lead to. The table bundles has the
-- whole bundle that the later ones begin with.
CREATE TABLE bundle_deltas (
    version INTEGER PRIMARY KEY,
    text TEXT NOT NULL,
    -- Which state of the blocks the bundle of this version says.
    blocks INTEGER NOT NULL
);

-- Blocks that a restored copy of the store had lost.
CREATE INDEX blocks_recovered ON blocks (at) WHERE actor = 'sitegate, after a restore';
