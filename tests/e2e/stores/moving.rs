//! `init -migrate-state`

use std::fs;

use super::Stores;
use super::files::{MANIFEST, pulled};
use crate::support::folder::Folder;

const MIGRATE: [&str; 2] = ["init", "--migrate-state"];

/// Returns the state and its history, which must both move.
fn state_and_history(moorfast: &Folder) -> (serde_json::Value, String) {
    let history = moorfast.expect(0, &["state", "history"]).stdout;
    (pulled(moorfast), history)
}

pub fn a_state_moves_to_the_cluster_and_back_and_loses_nothing(stores: &Stores) {
    let moorfast = Folder::new(MANIFEST);
    moorfast.expect(0, &["apply", "--auto-approve"]);
    // The drift history must move too.
    moorfast.expect(0, &["drift"]);
    let (state, history) = state_and_history(&moorfast);
    let drift_history = moorfast.expect(0, &["drift", "--history"]).stdout;
    let key = fs::read(moorfast.path(".moorfast/state.key")).unwrap();
    let in_cluster = stores.backend() + MANIFEST;
    for (manifest, place) in [(in_cluster.as_str(), "[backend.kubernetes]"), (MANIFEST, "[backend.sqlite]")] {
        moorfast.write("main.toml", manifest);
        for command in [&["plan"][..], &["state", "list"], &["apply", "--auto-approve"]] {
            moorfast.expect(1, command).complains("init --migrate-state");
        }
        moorfast.expect(0, &MIGRATE).says("Moved version").says(place);
        moorfast.expect(0, &MIGRATE).says("already");
        let (found, now) = state_and_history(&moorfast);
        assert_eq!(found, state, "in {place}");
        assert!(history.lines().all(|line| now.contains(line)), "{now}");
        assert_eq!(moorfast.expect(0, &["drift", "--history"]).stdout, drift_history);
        // The key moved too, so the digest of the secret still fits and the plan is empty.
        moorfast.expect(0, &["plan", "--detailed-exitcode"]);
        let here = fs::read(moorfast.path(".moorfast/state.key")).unwrap();
        assert_eq!(here == key, place == "[backend.sqlite]", "the key is only where the state is");
    }
    moorfast.expect(0, &["apply", "--auto-approve", "--var", "text=two"]);
}

/// Without the drift history only one message is repeated. A state in two places would be worse.
pub fn a_state_moves_without_a_drift_history_that_cannot_move(stores: &Stores) {
    let Stores::Kubernetes(testbed) = stores else { return };
    let moorfast = Folder::new(MANIFEST);
    moorfast.expect(0, &["apply", "--auto-approve"]);
    moorfast.expect(0, &["drift"]);
    let state = pulled(&moorfast);
    let in_cluster = stores.backend();
    let name = in_cluster.lines().find_map(|line| line.strip_prefix("name = \"")?.strip_suffix('"')).unwrap();
    testbed.kubectl(&["create", "secret", "generic", &format!("{name}-drift"), "--from-literal=state={"]);
    moorfast.write("main.toml", &(in_cluster.clone() + MANIFEST));
    let moved = moorfast.expect(0, &MIGRATE);
    moved.says("Moved version").complains("warning: cannot move the drift history");
    assert_eq!(pulled(&moorfast), state);
    moorfast.expect(0, &MIGRATE).says("already");
    moorfast.expect(0, &["plan", "--detailed-exitcode"]);
}

/// A colleague moved the state, and this manifest still has the old store.
pub fn an_old_manifest_is_refused_after_a_move(stores: &Stores) {
    let (old, new) = (stores.backend(), stores.backend());
    let [mover, other] = [(); 2].map(|()| Folder::new(&(old.clone() + MANIFEST)));
    mover.expect(0, &["apply", "--auto-approve"]);
    other.expect(0, &["state", "list"]).says("ssh_file.secret");
    other.expect(2, &["plan", "--detailed-exitcode"]);
    mover.write("main.toml", &(new.clone() + MANIFEST));
    mover.expect(0, &MIGRATE);
    other.expect(1, &["apply", "--auto-approve"]).complains("was replaced: its lineage is");
    other.expect(1, &["state", "list"]).complains("was replaced: its lineage is");
    other.write("main.toml", &(new + MANIFEST));
    other.expect(0, &["state", "list"]).says("ssh_file.secret");
    other.expect(0, &MIGRATE);
}

/// The backend has the same settings in both environments. A state from before the environments moves to one of them.
pub fn environments_with_one_backend_have_states_of_their_own(stores: &Stores) {
    let backend = stores.backend();
    let moorfast = Folder::new(&(backend.clone() + MANIFEST));
    moorfast.expect(0, &["apply", "--auto-approve"]);
    let before = pulled(&moorfast);
    moorfast.write("main.toml", &format!("{backend}{MANIFEST}\n[environments.prod]\n[environments.prod-key]\n"));
    moorfast.expect(1, &["plan", "--env", "prod"]).complains("--migrate-state");
    moorfast.expect(0, &["init", "--migrate-state", "--env", "prod"]).says("environment prod");
    let state = |name: &str| {
        let pulled = moorfast.expect(0, &["state", "pull", "--env", name]).stdout;
        serde_json::from_str::<serde_json::Value>(&pulled).unwrap()
    };
    assert_eq!(state("prod"), before);
    moorfast.expect(0, &["apply", "--auto-approve", "--env", "prod-key"]);
    assert_ne!(state("prod-key")["lineage"], before["lineage"]);
    assert_eq!(state("prod"), before);
}
