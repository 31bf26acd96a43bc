-- API keys: `hash` is the SHA-256 of the secret; the secret itself is shown once and kept nowhere.
-- Times are microseconds since the Unix epoch, UTC. Lists are JSON arrays.
CREATE TABLE api_keys (
    id TEXT PRIMARY KEY,
    hash BLOB NOT NULL,
    tenant TEXT NOT NULL,
    name TEXT NOT NULL,
    role TEXT NOT NULL,
    teams TEXT,
    projects TEXT,
    environments TEXT,
    created_at BIGINT NOT NULL,
    created_by TEXT NOT NULL,
    expires_at BIGINT,
    revoked_at BIGINT,
    last_used_at BIGINT
);

-- Who read or changed what. Appended to, never updated.
CREATE TABLE audit_log (
    id INTEGER PRIMARY KEY,
    time BIGINT NOT NULL,
    tenant TEXT NOT NULL,
    issuer TEXT NOT NULL,
    subject TEXT NOT NULL,
    client_id TEXT,
    credential TEXT,
    interface TEXT NOT NULL,
    action TEXT NOT NULL,
    target TEXT,
    outcome TEXT NOT NULL,
    detail TEXT
);
CREATE INDEX audit_log_tenant_time ON audit_log (tenant, time);

-- Browser sessions: `hash` is the SHA-256 of the cookie's value; a session ends with its key.
CREATE TABLE sessions (
    hash BLOB PRIMARY KEY,
    key_id TEXT NOT NULL REFERENCES api_keys (id),
    created_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL
);
