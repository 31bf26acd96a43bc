-- Budgets: an amount of money for a period and a scope. `scope` is a JSON object of dimension to values,
-- `amount` an exact decimal in USD. Times are microseconds since the Unix epoch, UTC.
CREATE TABLE budgets (
    tenant TEXT NOT NULL,
    name TEXT NOT NULL,
    scope TEXT NOT NULL,
    amount TEXT NOT NULL,
    period TEXT NOT NULL,
    thresholds TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    updated_by TEXT NOT NULL,
    PRIMARY KEY (tenant, name)
);
