-- Statistics on SQLite. One row per recipient outcome, hourly rollups, and an index of events for `trace`.
-- Times are milliseconds since 1970-01-01T00:00:00Z; `hour` is the start of the hour in the same unit.

CREATE TABLE recipients (
    message_id        TEXT    NOT NULL,
    recipient         INTEGER NOT NULL,             -- index into the recipients of the envelope
    forward_path      TEXT    NOT NULL,
    outcome           TEXT    NOT NULL,             -- quarantined, queued, delivered, failed, removed
    at                INTEGER NOT NULL,             -- of the outcome
    accepted_at       INTEGER NOT NULL,
    user              TEXT    NOT NULL,
    domain            TEXT    NOT NULL,
    identity          TEXT    NOT NULL,
    reverse_path      TEXT    NOT NULL,             -- '' for the null reverse-path
    from_domain       TEXT,
    destination       TEXT    NOT NULL,             -- domain of the recipient
    classification    TEXT    NOT NULL,
    size_bytes        INTEGER NOT NULL,
    header_message_id TEXT,
    client_queue_id   TEXT,
    subject           TEXT,
    own               INTEGER NOT NULL,             -- 1: mail of Mailweir itself, in no rollup
    tries             INTEGER NOT NULL,
    reply             TEXT,                         -- the last one
    remote            TEXT,                         -- host and address that gave it
    egress            TEXT,
    PRIMARY KEY (message_id, recipient)
);
CREATE INDEX recipients_accepted_at ON recipients (accepted_at);
CREATE INDEX recipients_client_queue_id ON recipients (client_queue_id) WHERE client_queue_id IS NOT NULL;
CREATE INDEX recipients_header_message_id ON recipients (header_message_id) WHERE header_message_id IS NOT NULL;
CREATE INDEX recipients_forward_path ON recipients (forward_path);

CREATE TABLE hourly (
    hour           INTEGER NOT NULL,                -- of `accepted_at`
    domain         TEXT    NOT NULL,
    user           TEXT    NOT NULL,
    identity       TEXT    NOT NULL,
    from_domain    TEXT    NOT NULL,                -- '' when there is none
    destination    TEXT    NOT NULL,
    classification TEXT    NOT NULL,                -- the verdict
    messages       INTEGER NOT NULL DEFAULT 0,      -- counted at the destination of the first recipient
    recipients     INTEGER NOT NULL DEFAULT 0,
    bytes          INTEGER NOT NULL DEFAULT 0,      -- of messages, counted where they are
    quarantined    INTEGER NOT NULL DEFAULT 0,      -- recipients, now; one that is released leaves
    delivered      INTEGER NOT NULL DEFAULT 0,      -- recipients
    failed         INTEGER NOT NULL DEFAULT 0,      -- recipients; these bounced
    removed        INTEGER NOT NULL DEFAULT 0,      -- recipients
    deferrals      INTEGER NOT NULL DEFAULT 0,      -- tries, not recipients
    PRIMARY KEY (hour, domain, user, identity, from_domain, destination, classification)
);

-- An event is entered once: what stands here was applied to the tables above.
CREATE TABLE events (
    message_id    TEXT    NOT NULL,
    event_id      TEXT    NOT NULL,                 -- unique within the message
    at            INTEGER NOT NULL,
    topic         TEXT    NOT NULL,
    log_partition INTEGER NOT NULL,
    log_offset    INTEGER NOT NULL,
    PRIMARY KEY (message_id, event_id)
) WITHOUT ROWID;
CREATE INDEX events_at ON events (at);

-- The next offset to read, moved in the same transaction as what was read.
CREATE TABLE offsets (
    topic         TEXT    NOT NULL,
    log_partition INTEGER NOT NULL,
    next          INTEGER NOT NULL,
    PRIMARY KEY (topic, log_partition)
) WITHOUT ROWID;
