//! The state in each store: two runs at once, a run that is killed or stopped, a server that is down during a run, a state that is pulled,
//! pushed, backed up, restored and moved to another store, and one whose outputs another site reads.

mod contention;
mod files;
mod moving;
mod outage;
mod outputs;

use std::sync::atomic::{AtomicU32, Ordering};

use crate::support::folder::Folder;
use crate::support::testbed::Testbed;

/// The store that a test uses.
pub enum Stores {
    /// A file on this machine.
    Sqlite,
    /// The cluster of a testbed.
    Kubernetes(Box<Testbed>),
}

impl Stores {
    /// Returns the block of a manifest for a new state in this store.
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

    /// Creates a folder with this manifest and a new state in this store.
    pub fn with(&self, manifest: &str) -> Folder {
        Folder::new(&(self.backend() + manifest))
    }
}

fn all_tests_of_a_store(stores: &Stores) {
    contention::the_second_of_two_runs_waits_or_names_the_holder_of_the_lock(stores);
    contention::the_lock_of_a_killed_run_is_free_at_once(stores);
    contention::the_lock_of_a_run_killed_on_another_machine_expires(stores);
    contention::a_run_stopped_past_the_expiry_of_its_lock_cannot_write(stores);
    contention::a_run_stopped_past_the_expiry_of_its_lock_starts_nothing(stores);
    files::a_state_is_pulled_changed_and_pushed(stores);
    files::a_backup_is_restored(stores);
}

#[test]
fn in_a_file() {
    all_tests_of_a_store(&Stores::Sqlite);
}

#[test]
fn in_the_cluster() {
    let Some(testbed) = Testbed::up("stores", 0) else { return };
    let stores = Stores::Kubernetes(Box::new(testbed));
    all_tests_of_a_store(&stores);
    moving::a_state_moves_to_the_cluster_and_back_and_loses_nothing(&stores);
    moving::a_state_moves_without_a_drift_history_that_cannot_move(&stores);
    moving::an_old_manifest_is_refused_after_a_move(&stores);
    moving::environments_with_one_backend_have_states_of_their_own(&stores);
    let Stores::Kubernetes(testbed) = &stores else { return };
    outputs::are_read(&outputs::in_cluster(testbed));
    outage::an_api_server_that_is_down_during_a_run_loses_nothing(&stores, testbed);
}
