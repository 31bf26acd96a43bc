-- Tasks of the MCP server. `owner` is a digest of issuer, subject, client, tenant and row filter. A live task
-- (working, input_required) is run by the process `instance` until `lease_until`, which that process moves on;
-- a terminal one never changes. Times are microseconds since the Unix epoch, UTC.
CREATE TABLE tasks (
    id TEXT PRIMARY KEY,
    owner TEXT NOT NULL,
    tenant TEXT NOT NULL,
    tool TEXT NOT NULL,
    arguments TEXT NOT NULL,
    era TEXT NOT NULL,
    status TEXT NOT NULL,
    status_message TEXT,
    progress DOUBLE PRECISION,
    progress_total DOUBLE PRECISION,
    result TEXT,
    error TEXT,
    instance TEXT NOT NULL,
    lease_until BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL
);
CREATE INDEX tasks_owner ON tasks (owner, created_at);
CREATE INDEX tasks_expiry ON tasks (expires_at);

-- What a task asked its client, each question once in the task's life, and what was answered.
CREATE TABLE task_inputs (
    task_id TEXT NOT NULL REFERENCES tasks (id) ON DELETE CASCADE,
    key TEXT NOT NULL,
    request TEXT NOT NULL,
    response TEXT,
    PRIMARY KEY (task_id, key)
);

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
