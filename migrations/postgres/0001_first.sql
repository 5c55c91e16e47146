-- What a site keeps. The same tables as in ../sqlite, in PostgreSQL's types. Times are whole
-- seconds after 1970, UTC. Ids alone: no token, and nobody's private key.

CREATE TABLE state (
    id BIGINT PRIMARY KEY CHECK (id = 1),
    -- Raised by each transaction that changes whom a block is about.
    block_version BIGINT NOT NULL
);
INSERT INTO state (id, block_version) VALUES (1, 0);

CREATE TABLE devices (
    id TEXT PRIMARY KEY,
    -- The id as blocks name it: without 'GUID:', in lower case.
    name TEXT NOT NULL UNIQUE,
    entra TEXT UNIQUE,
    approved BOOLEAN NOT NULL,
    via TEXT NOT NULL,
    registered BIGINT NOT NULL,
    renewed BIGINT
);

CREATE TABLE device_keys (
    thumbprint TEXT PRIMARY KEY,
    device TEXT NOT NULL REFERENCES devices (id),
    jwk TEXT NOT NULL,
    added BIGINT NOT NULL,
    -- The order in which a device's keys came: a second is too coarse for it.
    place BIGINT NOT NULL,
    active BOOLEAN NOT NULL
);
CREATE INDEX device_keys_by_device ON device_keys (device);

-- One certificate may be that of several records, so that a block of one holds for whoever brings it.
CREATE TABLE device_certificates (
    thumbprint TEXT NOT NULL,
    device TEXT NOT NULL REFERENCES devices (id),
    PRIMARY KEY (thumbprint, device)
);
CREATE INDEX device_certificates_by_device ON device_certificates (device);

-- Everything by which a block may name a device.
CREATE VIEW device_names (device, kind, name) AS
SELECT id, 'id', name FROM devices
UNION ALL SELECT id, 'entra', entra FROM devices WHERE entra IS NOT NULL
UNION ALL SELECT device, 'key', thumbprint FROM device_keys
UNION ALL SELECT device, 'certificate', thumbprint FROM device_certificates;

CREATE TABLE tokens (
    id TEXT PRIMARY KEY,
    issuer TEXT NOT NULL,
    purpose TEXT NOT NULL,
    device TEXT,
    person TEXT,
    audience TEXT NOT NULL,
    issued BIGINT NOT NULL,
    expires BIGINT NOT NULL,
    bound_to TEXT,
    scope TEXT,
    uses_max BIGINT,
    subject_issuer TEXT,
    subject TEXT
);
CREATE INDEX tokens_by_time ON tokens (issued, id);
CREATE INDEX tokens_by_device ON tokens (device, issued);
CREATE INDEX tokens_by_expiry ON tokens (expires);

-- How often a token has been used, where that is counted; also tokens that were issued elsewhere.
CREATE TABLE token_uses (
    issuer TEXT NOT NULL,
    id TEXT NOT NULL,
    used BIGINT NOT NULL,
    last BIGINT NOT NULL,
    PRIMARY KEY (issuer, id)
);

-- Fingerprints of assertions that were used and are not expired.
CREATE TABLE proofs (
    hash TEXT PRIMARY KEY,
    until BIGINT NOT NULL
);
CREATE INDEX proofs_by_expiry ON proofs (until);

CREATE TABLE blocks (
    kind TEXT NOT NULL,
    issuer TEXT NOT NULL,
    name TEXT NOT NULL,
    -- The name as it was typed.
    shown TEXT NOT NULL,
    before BIGINT,
    reason TEXT,
    at BIGINT NOT NULL,
    actor TEXT NOT NULL,
    PRIMARY KEY (kind, name, issuer)
);

-- Which devices a block is about.
CREATE VIEW blocked_devices (block, device) AS
SELECT b.name, d.id FROM blocks b JOIN devices d ON d.name = b.name WHERE b.kind = 'device'
UNION SELECT b.name, d.id FROM blocks b JOIN devices d ON d.entra = b.name WHERE b.kind = 'device'
UNION SELECT b.name, k.device
FROM blocks b JOIN device_keys k ON k.thumbprint = b.name WHERE b.kind = 'device'
UNION SELECT b.name, c.device
FROM blocks b JOIN device_certificates c ON c.thumbprint = b.name WHERE b.kind = 'device';

CREATE TABLE audit (
    id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at BIGINT NOT NULL,
    actor TEXT NOT NULL,
    action TEXT NOT NULL,
    subject TEXT NOT NULL,
    detail TEXT NOT NULL
);
CREATE INDEX audit_by_subject ON audit (subject, id);
