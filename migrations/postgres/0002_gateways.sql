-- The site's gateways on other hosts, what they hold, and what they are told.

CREATE TABLE gateways (
    name TEXT PRIMARY KEY,
    -- What it may be addressed as, and what it may be: separated by spaces.
    hosts TEXT NOT NULL,
    roles TEXT NOT NULL,
    joined BIGINT NOT NULL,
    revoked BIGINT,
    revoke_reason TEXT,
    -- The bundle that it has, as it says, and when it said so last.
    bundle BIGINT NOT NULL,
    seen BIGINT
);

-- The certificates by which gateways show who they are; the key of each stays where it is.
CREATE TABLE gateway_identities (
    thumbprint TEXT PRIMARY KEY,
    gateway TEXT NOT NULL REFERENCES gateways (name),
    added BIGINT NOT NULL,
    expires BIGINT NOT NULL
);
CREATE INDEX gateway_identities_by_gateway ON gateway_identities (gateway);

-- Join tokens by the fingerprint of their secret.
CREATE TABLE join_tokens (
    fingerprint TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    hosts TEXT NOT NULL,
    roles TEXT NOT NULL,
    expires BIGINT NOT NULL,
    used BIGINT
);

-- Role certificates that the site has issued to gateways.
CREATE TABLE role_certificates (
    -- SHA-256, hexadecimal digits.
    thumbprint TEXT PRIMARY KEY,
    -- PEM.
    certificate TEXT NOT NULL,
    gateway TEXT NOT NULL REFERENCES gateways (name),
    site_system TEXT NOT NULL,
    hosts TEXT NOT NULL,
    issued BIGINT NOT NULL,
    expires BIGINT NOT NULL,
    blocked BIGINT
);
CREATE INDEX role_certificates_by_gateway ON role_certificates (gateway, site_system, issued);

-- The bundle in force: only the latest is kept.
CREATE TABLE bundles (
    version BIGINT PRIMARY KEY,
    text TEXT NOT NULL,
    issued BIGINT NOT NULL
);

-- The site's own keys, sealed: for the site's servers alone.
CREATE TABLE site_keys (
    id BIGINT PRIMARY KEY CHECK (id = 1),
    version BIGINT NOT NULL,
    sealed TEXT NOT NULL
);

-- The site's servers, and how clients address the site systems beside them; separated by spaces.
CREATE TABLE site_servers (
    servers TEXT PRIMARY KEY,
    origins TEXT NOT NULL,
    seen BIGINT NOT NULL
);
