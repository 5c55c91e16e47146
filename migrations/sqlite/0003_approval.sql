-- What a key was registered with and where it came from, so that whoever approves can tell keys
-- apart. Null in rows from before.

-- The bulk registration token, if that was the voucher.
ALTER TABLE device_keys ADD COLUMN via TEXT;
ALTER TABLE device_keys ADD COLUMN token_issuer TEXT;
ALTER TABLE device_keys ADD COLUMN token TEXT;
-- The Entra id and the certificate that came with the key.
ALTER TABLE device_keys ADD COLUMN entra TEXT;
ALTER TABLE device_keys ADD COLUMN certificate TEXT;
ALTER TABLE device_keys ADD COLUMN address TEXT;
-- What the client calls itself.
ALTER TABLE device_keys ADD COLUMN client TEXT;

-- A key is active only if its device is approved: on a device that waits, all keys wait.
UPDATE device_keys SET active = FALSE
WHERE active AND device IN (SELECT id FROM devices WHERE NOT approved);

CREATE INDEX device_keys_waiting ON device_keys (added) WHERE NOT active;
CREATE INDEX device_keys_by_token ON device_keys (token) WHERE token IS NOT NULL;

-- Nobody has looked at what waits: neither a waiting key nor what a waiting device was registered
-- with may bring a block upon anything else.
DROP VIEW device_names;
CREATE VIEW device_names (device, kind, name) AS
SELECT id, 'id', name FROM devices
UNION ALL SELECT id, 'entra', entra FROM devices WHERE entra IS NOT NULL AND approved
UNION ALL SELECT device, 'key', thumbprint FROM device_keys WHERE active
UNION ALL SELECT c.device, 'certificate', c.thumbprint
FROM device_certificates c JOIN devices d ON d.id = c.device WHERE d.approved;

DROP VIEW blocked_devices;
CREATE VIEW blocked_devices (block, device) AS
SELECT b.name, d.id FROM blocks b JOIN devices d ON d.name = b.name WHERE b.kind = 'device'
UNION SELECT b.name, d.id FROM blocks b JOIN devices d ON d.entra = b.name
WHERE b.kind = 'device' AND d.approved
UNION SELECT b.name, k.device
FROM blocks b JOIN device_keys k ON k.thumbprint = b.name WHERE b.kind = 'device' AND k.active
UNION SELECT b.name, c.device
FROM blocks b JOIN device_certificates c ON c.thumbprint = b.name
JOIN devices d ON d.id = c.device WHERE b.kind = 'device' AND d.approved;
