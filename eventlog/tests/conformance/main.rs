//! What every engine of the log must do, as one suite over `dyn EventLog`.
//!
//! An engine takes part by implementing `Engine` and naming itself in `suite!` below.

mod commits;
mod compacted;
mod embedded;
mod engine;
mod groups;
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

suite!(
    on_embedded,
    embedded::EmbeddedEngine::new(),
    [
        records::an_append_is_durable_when_it_resolves,
        records::order_holds_per_partition,
        records::a_key_goes_where_kafka_would_put_it,
        records::sizes_at_the_limit_pass_and_one_byte_over_fails,
        records::ten_thousand_records_of_10_kib,
        records::reads_at_a_position,
        records::a_tail_begins_where_it_is_told,
        records::who_tails_hears_what_is_announced,
        records::no_partition_no_record,
        records::a_closed_log_says_so,
        groups::a_new_group_begins_at_the_start,
        groups::two_and_three_members_share_and_take_over,
        groups::topics_partitioned_alike_are_assigned_alike,
        groups::no_record_is_with_two_members,
        groups::a_slot_taken_over_fences_the_old_member,
        groups::a_lost_partition_cannot_be_committed,
        groups::lag_counts_what_is_not_committed,
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
        retention::what_is_over_goes_and_readers_skip_it,
        retention::what_was_appended_again_stays,
        retention::offsets_grow_though_all_is_gone,
    ]
);
