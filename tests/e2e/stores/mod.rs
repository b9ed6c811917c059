//! What holds wherever the state is kept, seen from outside: two runs at once, a run that dies or stands still, a server that goes away,
//! and a state that is looked at, put back and moved.

mod contention;
mod files;
mod moving;
mod outage;

use std::sync::atomic::{AtomicU32, Ordering};

use crate::support::folder::Folder;
use crate::support::testbed::Testbed;

/// Where states are kept.
pub enum Stores {
    /// In a file of this machine.
    Sqlite,
    /// In the cluster of a testbed.
    Kubernetes(Box<Testbed>),
}

impl Stores {
    /// What a manifest says to keep its state there, apart from all others.
    pub fn backend(&self) -> String {
        static STATES: AtomicU32 = AtomicU32::new(0);
        match self {
            Self::Sqlite => String::new(),
            Self::Kubernetes(testbed) => format!(
                "[backend.kubernetes]\nname = \"s{}\"\nnamespace = \"default\"\nkubeconfig = \"{}\"\n",
                STATES.fetch_add(1, Ordering::Relaxed),
                testbed.facts.control_plane.kubeconfig.display()
            ),
        }
    }

    /// This manifest with its state there.
    pub fn with(&self, manifest: &str) -> Folder {
        Folder::new(&(self.backend() + manifest))
    }
}

fn everything_that_holds_of_all(stores: &Stores) {
    contention::of_two_runs_one_works_and_the_other_waits_or_says_who_holds_the_lock(stores);
    contention::the_lock_of_a_killed_run_is_free_at_once(stores);
    contention::the_lock_of_a_run_that_was_killed_elsewhere_is_free_when_it_runs_out(stores);
    contention::a_run_that_stood_still_past_its_expiry_cannot_write(stores);
    contention::a_run_that_stood_still_past_its_expiry_begins_nothing(stores);
    files::a_state_is_pulled_changed_and_pushed(stores);
    files::a_backup_puts_everything_back(stores);
}

#[test]
fn on_a_disk() {
    everything_that_holds_of_all(&Stores::Sqlite);
}

#[test]
fn in_the_cluster() {
    let Some(testbed) = Testbed::up("stores", 0) else { return };
    let stores = Stores::Kubernetes(Box::new(testbed));
    everything_that_holds_of_all(&stores);
    moving::a_state_moves_to_the_cluster_and_back_and_loses_nothing(&stores);
    moving::a_state_moves_without_its_history_of_drift_where_that_can_t_be(&stores);
    moving::who_still_has_the_old_manifest_is_told(&stores);
    let Stores::Kubernetes(testbed) = &stores else { return };
    outage::a_server_that_goes_away_during_a_run_loses_nothing(&stores, testbed);
}
