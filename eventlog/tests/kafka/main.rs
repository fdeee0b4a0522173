//! What the Kafka engine must do beyond the conformance suite, on real brokers: fence zombies, keep commits whole when
//! brokers come and go, make its topics and say what is wrong with them, talk TLS and SASL.

mod brokers_away;
mod cluster;
mod secured;
mod topics;
mod trimming;
mod work;
mod zombies;
