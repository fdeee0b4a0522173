//! What only ClickHouse can say: quantiles.

use super::{messages, open};
use crate::server::Server;
use crate::suite;

#[test]
fn quantiles_of_the_time_to_delivery() {
    let server = Server::shared();
    let target = server.new_database();
    suite::take(&open(&target), &messages(0..200).batch());
    let quantiles = server.ask(&format!(
        "SELECT destination, egress, sum(recipients), max(longest_ms), \
         arrayMap(q -> round(q), quantilesTDigestMerge(0.5, 0.9, 0.99)(after_ms)) FROM {}.latency_hourly \
         WHERE outcome = 'delivered' GROUP BY destination, egress",
        target.database
    ));
    // The second try begins 300 s after the message was accepted and takes 250 ms.
    assert_eq!(quantiles, "one.example\t192.0.2.200\t160\t300250\t[300250,300250,300250]");
}
