//! What every engine of the log must do, as one suite over `dyn EventLog`.
//!
//! An engine takes part by implementing `Engine` and naming itself in `suite!` below.

#[path = "../kafka/cluster.rs"]
#[expect(dead_code, reason = "only the tests of this one engine kill brokers")]
mod cluster;
mod commits;
mod compacted;
mod embedded;
mod engine;
mod groups;
mod kafka;
mod records;
mod retention;

use engine::Engine;

/// Every test of the suite, once for the engine that `$engine` makes.
macro_rules! suite {
    ($module:ident, $engine:expr, [$($file:ident :: $test:ident),* $(,)?]) => {
        mod $module {
            use super::*;
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $test() {
                    let mut engine = $engine;
                    let log = engine.open().await;
                    $file::$test(&mut engine, log).await;
                }
            )*
        }
    };
}

/// What holds for every engine.
macro_rules! every_engine {
    ($module:ident, $engine:expr) => {
        suite!(
            $module,
            $engine,
            [
                records::an_append_is_durable_when_it_resolves,
                records::order_holds_per_partition,
                records::a_key_goes_where_kafka_would_put_it,
                records::sizes_at_the_limit_pass_and_one_byte_over_fails,
                records::ten_thousand_records_of_10_kib,
                records::reads_at_a_position,
                records::the_ends_lie_between_what_was_written_and_what_comes,
                records::a_table_of_a_topic_kept_by_time_gives_every_record,
                records::a_tail_begins_where_it_is_told,
                records::a_dropped_read_has_passed_over_nothing,
                records::who_tails_hears_what_is_announced,
                records::no_partition_no_record,
                records::a_closed_log_says_so,
                groups::a_new_group_begins_at_the_start,
                groups::two_and_three_members_share_and_take_over,
                groups::topics_partitioned_alike_are_assigned_alike,
                groups::who_has_no_room_hears_what_it_lost,
                groups::no_record_is_with_two_members,
                groups::a_slot_taken_over_fences_the_old_member,
                groups::a_lost_partition_cannot_be_committed,
                groups::lag_counts_what_is_not_committed,
                groups::a_dropped_poll_has_passed_over_nothing,
                commits::outputs_and_offsets_are_one_step,
                commits::a_timer_commits_outputs_alone,
                commits::rewind_begins_again_at_the_last_commit,
                commits::a_refused_commit_writes_nothing,
                commits::a_loop_restarted_at_random_loses_and_doubles_nothing,
                compacted::a_table_gives_the_newest_of_each_key_then_follows,
                compacted::caught_up_comes_once_even_for_nothing,
                compacted::a_tombstone_removes_its_key,
                compacted::rows_come_in_order_of_offset,
                compacted::a_table_of_some_partitions,
                compacted::writing_while_replaying_leaves_no_key_out,
                compacted::random_writes_and_restarts_agree_with_a_map,
                retention::readers_go_on_at_what_is_kept,
                retention::offsets_grow_though_all_is_gone,
            ]
        );
    };
}

every_engine!(on_embedded, embedded::EmbeddedEngine::new());
every_engine!(on_kafka, kafka::KafkaEngine::new());

// A broker keeps time by its own clock, which no test can move: how much is kept after how long can only be shown where
// the clock is injected. On Kafka it is `retention.ms` of each topic, and `tests/kafka` checks that.
suite!(
    on_embedded_with_its_clock,
    embedded::EmbeddedEngine::new(),
    [retention::what_is_over_goes_hour_by_hour, retention::what_was_appended_again_stays]
);
