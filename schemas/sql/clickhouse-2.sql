-- Who makes a month again, or erases, and until when everybody else writes nothing. The newest row of each holds.
CREATE TABLE IF NOT EXISTS pauses
(
    by    String,
    until DateTime64(3, 'UTC'),
    at    DateTime64(6, 'UTC') DEFAULT now64(6)
)
ENGINE = MergeTree
ORDER BY (by, at)
TTL toDateTime(at) + INTERVAL 1 DAY;
