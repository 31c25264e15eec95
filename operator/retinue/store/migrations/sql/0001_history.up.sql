-- History of health and usage. Every table is partitioned by day (UTC) on "at"; store/partitions.py makes and drops
-- the days, the default partition catches what falls outside them. Lengths and ranges are bounded here, so that a
-- wrong row is refused on its own instead of filling the disk.

CREATE TABLE pod_health (
    sample_id         uuid             NOT NULL,
    at                timestamptz      NOT NULL CHECK (at >= '2020-01-01 00:00+00' AND at < '2200-01-01 00:00+00'),
    model_server      varchar(253)     NOT NULL,
    namespace         varchar(63)      NOT NULL,
    pod               varchar(253)     NOT NULL,
    pod_uid           varchar(64)      NOT NULL,
    model             varchar(512)     NOT NULL,
    model_digest      varchar(128)     NOT NULL,
    probe             varchar(16)      NOT NULL,
    ok                boolean          NOT NULL,
    phase             varchar(32)      NOT NULL,
    reason            varchar(128)     NOT NULL,
    latency_ms        double precision NOT NULL CHECK (latency_ms >= 0 AND latency_ms < 'Infinity'),
    in_flight         integer,
    queued            integer,
    tokens_per_second double precision CHECK (tokens_per_second >= 0 AND tokens_per_second < 'Infinity'),
    vram_bytes        bigint,
    processor         varchar(16),
    PRIMARY KEY (sample_id, at)
) PARTITION BY RANGE (at);
CREATE TABLE pod_health_default PARTITION OF pod_health DEFAULT;
CREATE INDEX pod_health_pod ON pod_health (namespace, model_server, pod_uid, at DESC);

CREATE TABLE deployment_health (
    sample_id       uuid             NOT NULL,
    at              timestamptz      NOT NULL CHECK (at >= '2020-01-01 00:00+00' AND at < '2200-01-01 00:00+00'),
    namespace       varchar(63)      NOT NULL,
    deployment      varchar(253)     NOT NULL,
    deployment_uid  varchar(64)      NOT NULL,
    environment     varchar(63)      NOT NULL,
    assistant       varchar(253)     NOT NULL,
    revision        varchar(253)     NOT NULL,
    revision_digest varchar(128)     NOT NULL,
    model           varchar(512)     NOT NULL,
    model_digest    varchar(128)     NOT NULL,
    model_server    varchar(253)     NOT NULL,
    ready           boolean          NOT NULL,
    reason          varchar(128)     NOT NULL,
    wanted_replicas integer          NOT NULL,
    ready_replicas  integer          NOT NULL,
    pods_ok         integer          NOT NULL,
    latency_ms      double precision CHECK (latency_ms >= 0 AND latency_ms < 'Infinity'),
    PRIMARY KEY (sample_id, at)
) PARTITION BY RANGE (at);
CREATE TABLE deployment_health_default PARTITION OF deployment_health DEFAULT;
CREATE INDEX deployment_health_deployment ON deployment_health (namespace, deployment, at DESC);

CREATE TABLE usage (
    request_id        varchar(128)     NOT NULL,
    at                timestamptz      NOT NULL CHECK (at >= '2020-01-01 00:00+00' AND at < '2200-01-01 00:00+00'),
    namespace         varchar(63)      NOT NULL,
    deployment        varchar(253)     NOT NULL,
    revision          varchar(253)     NOT NULL,
    model             varchar(512)     NOT NULL,
    model_digest      varchar(128)     NOT NULL,
    pod               varchar(253)     NOT NULL,
    api               varchar(128)     NOT NULL,
    stream            boolean          NOT NULL,
    status            integer          NOT NULL,
    error             varchar(128)     NOT NULL,
    finish_reason     varchar(64)      NOT NULL,
    prompt_tokens     bigint,
    completion_tokens bigint,
    queue_ms          double precision NOT NULL CHECK (queue_ms >= 0 AND queue_ms < 'Infinity'),
    first_token_ms    double precision CHECK (first_token_ms >= 0 AND first_token_ms < 'Infinity'),
    total_ms          double precision NOT NULL CHECK (total_ms >= 0 AND total_ms < 'Infinity'),
    PRIMARY KEY (request_id, at)
) PARTITION BY RANGE (at);
CREATE TABLE usage_default PARTITION OF usage DEFAULT;
CREATE INDEX usage_deployment ON usage (namespace, deployment, at DESC);

-- One row per writer. A writer that was cut off writes here before it sends rows again: reading would also succeed on
-- a read-only server.
CREATE TABLE writer_probe (
    writer varchar(128) PRIMARY KEY,
    at     timestamptz  NOT NULL
);
