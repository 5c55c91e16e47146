-- The site's gateways on other hosts, what they hold, and what they are told.

CREATE TABLE gateways (
    name TEXT PRIMARY KEY,
    -- What it may be addressed as, and what it may be: separated by spaces.
    hosts TEXT NOT NULL,
    roles TEXT NOT NULL,
    joined INTEGER NOT NULL,
    revoked INTEGER,
    revoke_reason TEXT,
    -- The bundle that it has, as it says, and when it said so last.
    bundle INTEGER NOT NULL,
    seen INTEGER
);

-- The certificates by which gateways show who they are; the key of each stays where it is.
CREATE TABLE gateway_identities (
    thumbprint TEXT PRIMARY KEY,
    gateway TEXT NOT NULL REFERENCES gateways (name),
    added INTEGER NOT NULL,
    expires INTEGER NOT NULL
);
CREATE INDEX gateway_identities_by_gateway ON gateway_identities (gateway);

-- Join tokens by the fingerprint of their secret.
CREATE TABLE join_tokens (
    fingerprint TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    hosts TEXT NOT NULL,
    roles TEXT NOT NULL,
    expires INTEGER NOT NULL,
    used INTEGER
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
    issued INTEGER NOT NULL,
    expires INTEGER NOT NULL,
    blocked INTEGER
);
CREATE INDEX role_certificates_by_gateway ON role_certificates (gateway, site_system, issued);

-- The bundle in force: only the latest is kept.
CREATE TABLE bundles (
    version INTEGER PRIMARY KEY,
    text TEXT NOT NULL,
    issued INTEGER NOT NULL
);

-- The site's own keys, sealed: for the site's servers alone.
CREATE TABLE site_keys (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    version INTEGER NOT NULL,
    sealed TEXT NOT NULL
);

-- The site's servers, and how clients address the site systems beside them; separated by spaces.
CREATE TABLE site_servers (
    servers TEXT PRIMARY KEY,
    origins TEXT NOT NULL,
    seen INTEGER NOT NULL
);
