//! The laws that every store satisfies; each is tested on every store.

use super::bed::{Bed, Kind};
use super::{contention, crash, drift, history, whole};

macro_rules! laws {
    ($($module:ident::$law:ident,)*) => {
        laws!(sqlite, Kind::Sqlite, $($module::$law,)*);
        laws!(kubernetes, Kind::Kubernetes, $($module::$law,)*);
        laws!(postgres, Kind::Postgres, $($module::$law,)*);
        laws!(s3, Kind::S3, $($module::$law,)*);
    };
    ($store:ident, $kind:expr, $($module:ident::$law:ident,)*) => {
        mod $store {
            use super::*;
            $(
                #[tokio::test]
                async fn $law() {
                    if let Some(bed) = Bed::new($kind) {
                        $module::$law(bed).await;
                    }
                }
            )*
        }
    };
}

laws! {
    contention::the_second_learns_who_holds_the_lock_and_gets_it_when_it_is_released,
    contention::a_dropped_lock_is_free,
    contention::who_was_overtaken_writes_nothing_and_takes_nothing_away,
    contention::a_lock_that_ran_out_is_lost_even_where_nobody_took_it,
    contention::the_heartbeat_renews_the_lock_and_notices_its_loss,
    contention::a_person_can_remove_the_lock_they_name,
    contention::the_lock_of_a_killed_process_is_free_at_once,
    contention::the_lock_of_a_process_killed_far_away_is_free_when_it_runs_out,
    contention::a_process_that_stood_still_past_its_expiry_cannot_write,
    contention::of_several_processes_one_writes_at_a_time,
    contention::readers_work_while_writers_come_and_go,
    crash::a_killed_writer_loses_nothing_that_was_acknowledged,
    crash::a_crash_at_any_durable_write_leaves_a_state_that_knows_what_is_open,
    drift::a_look_takes_no_lock_and_makes_no_version,
    drift::of_looks_at_the_same_moment_none_is_lost,
    drift::more_drift_than_an_object_holds_as_text_is_kept,
    drift::without_write_access_the_history_is_not_stored,
    history::every_prefix_of_a_history_is_what_the_model_says,
    whole::a_serial_counts_changes_only,
    whole::runs_are_listed_newest_first_and_a_killed_one_has_no_end,
    whole::what_fails_fails_alone,
    whole::a_request_is_done_though_nobody_waits_for_it,
    whole::ten_thousand_records_fit,
    whole::a_large_record_fits,
    whole::of_many_who_open_a_new_state_at_once_all_get_the_same,
    whole::looking_makes_nothing,
    whole::contents_are_the_same_in_another_store,
    whole::a_key_that_was_replaced_does_not_stay,
    whole::a_run_begins_once,
    whole::environments_share_nothing,
}
