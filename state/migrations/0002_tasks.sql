-- Tasks of the MCP server. `owner` is a digest of issuer, subject, client and tenant.
-- Times are microseconds since the Unix epoch, UTC.
CREATE TABLE tasks (
    id TEXT PRIMARY KEY,
    owner TEXT NOT NULL,
    tenant TEXT NOT NULL,
    principal TEXT NOT NULL,
    tool TEXT NOT NULL,
    arguments TEXT NOT NULL,
    status TEXT NOT NULL,
    status_message TEXT,
    progress REAL,
    progress_total REAL,
    input_requests TEXT,
    input_responses TEXT,
    result TEXT,
    error TEXT,
    era TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    expires_at BIGINT
);
CREATE INDEX tasks_owner ON tasks (owner, created_at);

-- Artefacts that finished tasks wrote: the file lies in the data folder.
CREATE TABLE reports (
    id TEXT PRIMARY KEY,
    owner TEXT NOT NULL,
    tenant TEXT NOT NULL,
    kind TEXT NOT NULL,
    title TEXT NOT NULL,
    mime_type TEXT NOT NULL,
    file TEXT NOT NULL,
    size_bytes BIGINT NOT NULL,
    sha256 TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    expires_at BIGINT
);
CREATE INDEX reports_owner ON reports (owner, created_at);
