-- Statistics on ClickHouse. One table that is written, `outcomes`: one row per recipient and event. Everything else is
-- made of it by materialized views: the message log as it stands, hourly rollups, latencies, the index of events.
-- Times are milliseconds since 1970-01-01T00:00:00Z, as on SQLite; each table also has them as a `DateTime64`.
-- An empty string says what NULL says on SQLite. docs/statistics.md tells every column.
-- The deduplication windows must outlast any retry: blocks of a table that may pass between two tries of one of them.

CREATE TABLE IF NOT EXISTS outcomes
(
    message_id        String                      CODEC(ZSTD(1)),
    recipient         UInt32                      CODEC(T64, ZSTD(1)),
    event_id          String                      CODEC(ZSTD(1)),
    topic             Enum8('verdicts' = 1, 'attempts' = 2),
    log_partition     UInt32                      CODEC(T64, ZSTD(1)),
    log_offset        UInt64                      CODEC(Delta, ZSTD(1)),
    batch             LowCardinality(String),
    inserted_at       DateTime64(3, 'UTC')        DEFAULT now64(3) CODEC(Delta, ZSTD(1)),
    at                Int64                       CODEC(Delta, ZSTD(1)),
    accepted_at       Int64                       CODEC(Delta, ZSTD(1)),
    outcome           Enum8('none' = 0, 'quarantined' = 1, 'queued' = 2, 'delivered' = 3, 'failed' = 4, 'removed' = 5),
    finality          UInt8                       CODEC(T64, ZSTD(1)),
    forward_path      String                      CODEC(ZSTD(1)),
    destination       String                      CODEC(ZSTD(1)),
    domain            LowCardinality(String),
    user              LowCardinality(String),
    identity          String                      CODEC(ZSTD(1)),
    reverse_path      String                      CODEC(ZSTD(1)),
    from_domain       String                      CODEC(ZSTD(1)),
    classification    LowCardinality(String),
    size_bytes        UInt64                      CODEC(T64, ZSTD(1)),
    header_message_id String                      CODEC(ZSTD(1)),
    client_queue_id   String                      CODEC(ZSTD(1)),
    subject           String                      CODEC(ZSTD(1)),
    own               UInt8                       CODEC(T64, ZSTD(1)),
    tried             UInt8                       CODEC(T64, ZSTD(1)),
    reply             String                      CODEC(ZSTD(1)),
    remote            String                      CODEC(ZSTD(1)),
    egress            LowCardinality(String),
    d_messages        Int8                        CODEC(T64, ZSTD(1)),
    d_recipients      Int8                        CODEC(T64, ZSTD(1)),
    d_quarantined     Int8                        CODEC(T64, ZSTD(1)),
    d_delivered       Int8                        CODEC(T64, ZSTD(1)),
    d_failed          Int8                        CODEC(T64, ZSTD(1)),
    d_removed         Int8                        CODEC(T64, ZSTD(1)),
    d_deferrals       Int8                        CODEC(T64, ZSTD(1)),
    accepted          DateTime64(3, 'UTC') ALIAS fromUnixTimestamp64Milli(accepted_at, 'UTC'),
    happened          DateTime64(3, 'UTC') ALIAS fromUnixTimestamp64Milli(at, 'UTC'),
    INDEX outcomes_accepted_at accepted_at TYPE minmax GRANULARITY 1
)
ENGINE = ReplacingMergeTree
PARTITION BY toYYYYMM(fromUnixTimestamp64Milli(accepted_at, 'UTC'))
ORDER BY (message_id, recipient, event_id)
SETTINGS non_replicated_deduplication_window = 10000, ttl_only_drop_parts = 1;

-- `standing` is what the recipient came to: outcomes of attempts go before verdicts, verdicts before deferrals, and
-- among their like the later one. `last_try` is the newest attempt. `materialize` matters: an element that is read as a
-- column of its own (`standing.outcome`) is not merged with FINAL, and any of the rows' may come out.
CREATE TABLE IF NOT EXISTS recipients
(
    message_id        String                                         CODEC(ZSTD(1)),
    recipient         UInt32                                         CODEC(T64, ZSTD(1)),
    standing          SimpleAggregateFunction(max, Tuple(finality UInt8, at Int64, log_offset UInt64, outcome Enum8('none' = 0, 'quarantined' = 1, 'queued' = 2, 'delivered' = 3, 'failed' = 4, 'removed' = 5))),
    last_try          SimpleAggregateFunction(max, Tuple(at Int64, log_offset UInt64, reply String, remote String, egress String)),
    tries             SimpleAggregateFunction(sum, UInt64)           CODEC(T64, ZSTD(1)),
    at                SimpleAggregateFunction(max, Int64)            CODEC(Delta, ZSTD(1)),
    accepted_at       SimpleAggregateFunction(any, Int64)            CODEC(Delta, ZSTD(1)),
    forward_path      SimpleAggregateFunction(any, String)           CODEC(ZSTD(1)),
    destination       SimpleAggregateFunction(any, String)           CODEC(ZSTD(1)),
    domain            SimpleAggregateFunction(any, LowCardinality(String)),
    user              SimpleAggregateFunction(any, LowCardinality(String)),
    identity          SimpleAggregateFunction(any, String)           CODEC(ZSTD(1)),
    reverse_path      SimpleAggregateFunction(any, String)           CODEC(ZSTD(1)),
    from_domain       SimpleAggregateFunction(any, String)           CODEC(ZSTD(1)),
    classification    SimpleAggregateFunction(any, LowCardinality(String)),
    size_bytes        SimpleAggregateFunction(any, UInt64)           CODEC(T64, ZSTD(1)),
    header_message_id SimpleAggregateFunction(any, String)           CODEC(ZSTD(1)),
    client_queue_id   SimpleAggregateFunction(any, String)           CODEC(ZSTD(1)),
    subject           SimpleAggregateFunction(any, String)           CODEC(ZSTD(1)),
    own               SimpleAggregateFunction(any, UInt8)            CODEC(T64, ZSTD(1)),
    outcome           Enum8('none' = 0, 'quarantined' = 1, 'queued' = 2, 'delivered' = 3, 'failed' = 4, 'removed' = 5) ALIAS tupleElement(materialize(standing), 'outcome'),
    reply             String ALIAS tupleElement(materialize(last_try), 'reply'),
    remote            String ALIAS tupleElement(materialize(last_try), 'remote'),
    egress            String ALIAS tupleElement(materialize(last_try), 'egress'),
    accepted          DateTime64(3, 'UTC') ALIAS fromUnixTimestamp64Milli(accepted_at, 'UTC'),
    happened          DateTime64(3, 'UTC') ALIAS fromUnixTimestamp64Milli(at, 'UTC'),
    INDEX recipients_accepted_at accepted_at TYPE minmax GRANULARITY 1,
    INDEX recipients_client_queue_id client_queue_id TYPE bloom_filter(0.01) GRANULARITY 2,
    INDEX recipients_header_message_id header_message_id TYPE bloom_filter(0.01) GRANULARITY 2,
    INDEX recipients_forward_path forward_path TYPE bloom_filter(0.01) GRANULARITY 2
)
ENGINE = AggregatingMergeTree
PARTITION BY toYYYYMM(fromUnixTimestamp64Milli(accepted_at, 'UTC'))
ORDER BY (message_id, recipient)
SETTINGS non_replicated_deduplication_window = 10000, ttl_only_drop_parts = 1;

CREATE MATERIALIZED VIEW IF NOT EXISTS recipients_view TO recipients AS
SELECT message_id, recipient,
       max((o.finality, o.at, o.log_offset, o.outcome)) AS standing,
       max(if(topic = 'attempts', (o.at, o.log_offset, o.reply, o.remote, toString(o.egress)), (toInt64(0), toUInt64(0), '', '', ''))) AS last_try,
       sum(toUInt64(tried)) AS tries, max(o.at) AS at, any(o.accepted_at) AS accepted_at, any(o.forward_path) AS forward_path,
       any(o.destination) AS destination, any(o.domain) AS domain, any(o.user) AS user, any(o.identity) AS identity,
       any(o.reverse_path) AS reverse_path, any(o.from_domain) AS from_domain, any(o.classification) AS classification,
       any(o.size_bytes) AS size_bytes, any(o.header_message_id) AS header_message_id,
       any(o.client_queue_id) AS client_queue_id, any(o.subject) AS subject, any(o.own) AS own
FROM outcomes AS o WHERE o.outcome != 'none' GROUP BY message_id, recipient;

CREATE TABLE IF NOT EXISTS hourly
(
    hour           Int64                   CODEC(Delta, ZSTD(1)),
    domain         LowCardinality(String),
    user           LowCardinality(String),
    identity       String                  CODEC(ZSTD(1)),
    from_domain    String                  CODEC(ZSTD(1)),
    destination    String                  CODEC(ZSTD(1)),
    classification LowCardinality(String),
    messages       Int64                   CODEC(T64, ZSTD(1)),
    recipients     Int64                   CODEC(T64, ZSTD(1)),
    bytes          Int64                   CODEC(T64, ZSTD(1)),
    quarantined    Int64                   CODEC(T64, ZSTD(1)),
    delivered      Int64                   CODEC(T64, ZSTD(1)),
    failed         Int64                   CODEC(T64, ZSTD(1)),
    removed        Int64                   CODEC(T64, ZSTD(1)),
    deferrals      Int64                   CODEC(T64, ZSTD(1)),
    hour_begins    DateTime('UTC') ALIAS toDateTime(intDiv(hour, 1000), 'UTC')
)
ENGINE = SummingMergeTree((messages, recipients, bytes, quarantined, delivered, failed, removed, deferrals))
PARTITION BY toYYYYMM(fromUnixTimestamp64Milli(hour, 'UTC'))
ORDER BY (hour, domain, user, identity, from_domain, destination, classification)
SETTINGS non_replicated_deduplication_window = 10000, ttl_only_drop_parts = 1;

CREATE MATERIALIZED VIEW IF NOT EXISTS hourly_view TO hourly AS
SELECT intDiv(accepted_at, 3600000) * 3600000 AS hour, domain, user, identity, from_domain, destination, classification,
       sum(d_messages) AS messages, sum(d_recipients) AS recipients, sum(d_messages * toInt64(size_bytes)) AS bytes,
       sum(d_quarantined) AS quarantined, sum(d_delivered) AS delivered, sum(d_failed) AS failed,
       sum(d_removed) AS removed, sum(d_deferrals) AS deferrals
FROM outcomes WHERE own = 0 AND outcome != 'none'
GROUP BY hour, domain, user, identity, from_domain, destination, classification;

-- How long tries and deliveries took, by what a message is sent from and to. Only here: SQLite keeps no sketches.
CREATE TABLE IF NOT EXISTS latency_hourly
(
    hour            Int64                   CODEC(Delta, ZSTD(1)),
    domain          LowCardinality(String),
    destination     String                  CODEC(ZSTD(1)),
    egress          LowCardinality(String),
    outcome         Enum8('none' = 0, 'quarantined' = 1, 'queued' = 2, 'delivered' = 3, 'failed' = 4, 'removed' = 5),
    recipients      SimpleAggregateFunction(sum, UInt64) CODEC(T64, ZSTD(1)),
    total_ms        SimpleAggregateFunction(sum, Int64)  CODEC(T64, ZSTD(1)),
    longest_ms      SimpleAggregateFunction(max, Int64)  CODEC(T64, ZSTD(1)),
    after_ms        AggregateFunction(quantilesTDigest(0.5, 0.9, 0.99), Int64),
    hour_begins     DateTime('UTC') ALIAS toDateTime(intDiv(hour, 1000), 'UTC')
)
ENGINE = AggregatingMergeTree
PARTITION BY toYYYYMM(fromUnixTimestamp64Milli(hour, 'UTC'))
ORDER BY (hour, domain, destination, egress, outcome)
SETTINGS non_replicated_deduplication_window = 10000, ttl_only_drop_parts = 1;

CREATE MATERIALIZED VIEW IF NOT EXISTS latency_hourly_view TO latency_hourly AS
SELECT intDiv(accepted_at, 3600000) * 3600000 AS hour, domain, destination, egress, outcome, count() AS recipients,
       sum(at - accepted_at) AS total_ms, max(at - accepted_at) AS longest_ms,
       quantilesTDigestState(0.5, 0.9, 0.99)(at - accepted_at) AS after_ms
FROM outcomes WHERE own = 0 AND tried = 1 GROUP BY hour, domain, destination, egress, outcome;

CREATE TABLE IF NOT EXISTS events
(
    message_id    String                  CODEC(ZSTD(1)),
    event_id      String                  CODEC(ZSTD(1)),
    at            Int64                   CODEC(Delta, ZSTD(1)),
    topic         LowCardinality(String),
    log_partition UInt32                  CODEC(T64, ZSTD(1)),
    log_offset    UInt64                  CODEC(Delta, ZSTD(1)),
    accepted_at   Int64                   CODEC(Delta, ZSTD(1))
)
ENGINE = ReplacingMergeTree
PARTITION BY toYYYYMM(fromUnixTimestamp64Milli(accepted_at, 'UTC'))
ORDER BY (message_id, event_id)
SETTINGS non_replicated_deduplication_window = 10000, ttl_only_drop_parts = 1;

CREATE MATERIALIZED VIEW IF NOT EXISTS events_view TO events AS
SELECT message_id, event_id, any(o.at) AS at, toString(any(o.topic)) AS topic, any(o.log_partition) AS log_partition,
       any(o.log_offset) AS log_offset, any(o.accepted_at) AS accepted_at
FROM outcomes AS o GROUP BY message_id, event_id;

-- The next offset to read, written after the rows before it. The newest row of a partition holds.
CREATE TABLE IF NOT EXISTS offsets
(
    topic         LowCardinality(String),
    log_partition UInt32,
    next          UInt64,
    written_at    DateTime64(6, 'UTC') DEFAULT now64(6)
)
ENGINE = ReplacingMergeTree(written_at)
ORDER BY (topic, log_partition);

-- When a month was made again from `outcomes`: the deduplication windows know nothing of what was inserted before.
CREATE TABLE IF NOT EXISTS rebuilds
(
    month UInt32,
    began DateTime64(3, 'UTC'),
    ended DateTime64(3, 'UTC') DEFAULT now64(3)
)
ENGINE = MergeTree
ORDER BY (month, ended);
