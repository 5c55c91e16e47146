-- Which states the blocks have had. A copy of the store that is restored does not know the later
-- ones, whatever is written into it afterwards.
CREATE TABLE block_history (
    version BIGINT PRIMARY KEY,
    -- Random: two stores that count alike are told apart by it.
    mark TEXT NOT NULL
);
INSERT INTO block_history (version, mark) SELECT block_version, '' FROM state WHERE id = 1;

-- Which bundles the site has published, and which it has learnt from gateways that a restored copy
-- did not know.
CREATE TABLE bundle_history (
    version BIGINT PRIMARY KEY,
    learnt BOOLEAN NOT NULL
);
INSERT INTO bundle_history (version, learnt) SELECT version, FALSE FROM bundles;
CREATE INDEX bundle_history_learnt ON bundle_history (version) WHERE learnt;

-- Blocks that an older copy did not have, and of which somebody has said that they need not be.
CREATE TABLE forgotten_blocks (
    kind TEXT NOT NULL,
    issuer TEXT NOT NULL,
    name TEXT NOT NULL,
    PRIMARY KEY (kind, issuer, name)
);

-- Which state of the blocks the bundle in force says.
ALTER TABLE bundles ADD COLUMN blocks BIGINT NOT NULL DEFAULT 0;
