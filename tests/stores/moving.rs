//! `init -migrate-state`

use std::fs;

use crate::Stores;
use crate::files::{MANIFEST, pulled};
use crate::support::moorfast::Moorfast;

const MIGRATE: [&str; 2] = ["init", "--migrate-state"];

/// Everything that moves along.
fn remembered(moorfast: &Moorfast) -> (serde_json::Value, String) {
    let history = moorfast.expect(0, &["state", "history"]).stdout;
    (pulled(moorfast), history)
}

pub fn a_state_moves_to_the_cluster_and_back_and_loses_nothing(stores: &Stores) {
    let moorfast = Moorfast::with(MANIFEST);
    moorfast.expect(0, &["apply", "--auto-approve"]);
    // Somebody may look after the world was changed by hand, and that is remembered, too.
    moorfast.expect(0, &["drift"]);
    let (state, history) = remembered(&moorfast);
    let looked = moorfast.expect(0, &["drift", "--history"]).stdout;
    let key = fs::read(moorfast.path(".moorfast/state.key")).unwrap();
    let in_cluster = stores.backend() + MANIFEST;
    for (manifest, place) in [(in_cluster.as_str(), "[backend.kubernetes]"), (MANIFEST, "[backend.sqlite]")] {
        moorfast.write("moorfast.toml", manifest);
        for command in [&["plan"][..], &["state", "list"], &["apply", "--auto-approve"]] {
            moorfast.expect(1, command).complains("init --migrate-state");
        }
        moorfast.expect(0, &MIGRATE).says("Moved version").says(place);
        moorfast.expect(0, &MIGRATE).says("already");
        let (found, now) = remembered(&moorfast);
        assert_eq!(found, state, "in {place}");
        assert!(history.lines().all(|line| now.contains(line)), "{now}");
        assert_eq!(moorfast.expect(0, &["drift", "--history"]).stdout, looked);
        // Sealed with the same key, so nothing has changed, and the secret least of all.
        moorfast.expect(0, &["plan", "--detailed-exitcode"]);
        let here = fs::read(moorfast.path(".moorfast/state.key")).unwrap();
        assert_eq!(here == key, place == "[backend.sqlite]", "the key is where the state is, and only there");
    }
    moorfast.expect(0, &["apply", "--auto-approve", "--var", "text=two"]);
}

/// What looks for drift saw is worth one repeated message, and no state that is in two places.
pub fn a_state_moves_without_its_history_of_drift_where_that_can_t_be(stores: &Stores) {
    let Stores::Kubernetes(testbed) = stores else { return };
    let moorfast = Moorfast::with(MANIFEST);
    moorfast.expect(0, &["apply", "--auto-approve"]);
    moorfast.expect(0, &["drift"]);
    let state = pulled(&moorfast);
    let in_cluster = stores.backend();
    let name = in_cluster.lines().find_map(|line| line.strip_prefix("name = \"")?.strip_suffix('"')).unwrap();
    testbed.kubectl(&["create", "secret", "generic", &format!("{name}-drift"), "--from-literal=state={"]);
    moorfast.write("moorfast.toml", &(in_cluster.clone() + MANIFEST));
    let moved = moorfast.expect(0, &MIGRATE);
    moved.says("Moved version").complains("warning: cannot move the drift history");
    assert_eq!(pulled(&moorfast), state);
    moorfast.expect(0, &MIGRATE).says("already");
    moorfast.expect(0, &["plan", "--detailed-exitcode"]);
}

/// Somebody else moved the state from the place that this one still works with.
pub fn who_still_has_the_old_manifest_is_told(stores: &Stores) {
    let (old, new) = (stores.backend(), stores.backend());
    let [mover, other] = [(); 2].map(|()| Moorfast::with(&(old.clone() + MANIFEST)));
    mover.expect(0, &["apply", "--auto-approve"]);
    other.expect(0, &["state", "list"]).says("ssh_file.secret");
    other.expect(2, &["plan", "--detailed-exitcode"]);
    mover.write("moorfast.toml", &(new.clone() + MANIFEST));
    mover.expect(0, &MIGRATE);
    other.expect(1, &["apply", "--auto-approve"]).complains("was replaced: its lineage is");
    other.expect(1, &["state", "list"]).complains("was replaced: its lineage is");
    other.write("moorfast.toml", &(new + MANIFEST));
    other.expect(0, &["state", "list"]).says("ssh_file.secret");
    other.expect(0, &MIGRATE);
}
