//! The first apply of the control plane is killed at random moments.
//!
//! `MOORFAST_CLUSTER_KILLS` is the number of kills, and `MOORFAST_SEED` determines the moments. `./test --long` sets 20 kills and a new seed. Otherwise the test
//! is skipped: a second cluster needs more processors than a small machine has beside all other tests.

use std::collections::BTreeMap;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::Value as Json;

use super::site::Site;
use crate::support::kill::{Since, is_killed};
use crate::support::number;

/// How long a first apply takes at least. The kills share this time, so that they reach all parts of it.
const FIRST_APPLY: Duration = Duration::from_secs(60);

#[test]
fn a_killed_first_apply_arrives() {
    let (kills, seed) = (number("MOORFAST_CLUSTER_KILLS", 0), number("MOORFAST_SEED", 1));
    if kills == 0 {
        eprintln!("skipped: MOORFAST_CLUSTER_KILLS is not set");
        return;
    }
    let Some(site) = Site::up("cluster-kills", 0) else { return };
    eprintln!("MOORFAST_SEED={seed} repeats this run");
    let mut random = StdRng::seed_from_u64(seed);
    let mut keys = BTreeMap::new();
    let mut killed = 0;
    while killed < kills {
        let longest = FIRST_APPLY.mul_f64(2.0) / u32::try_from(kills).unwrap();
        let after = longest.mul_f64(random.random());
        match is_killed(site.command(&["apply", "--auto-approve"]), Since::FirstOperation, after) {
            true => killed += 1,
            // The cluster is complete before all kills: it begins again.
            false => {
                site.expect(0, &["destroy", "--auto-approve"]);
                keys.clear();
            }
        }
        keys = site.key_store_keeps(keys);
        eprintln!("kill {killed}, {after:.1?} after the first operation: {} keys", keys.len());
    }
    let apply = site.expect(0, &["apply", "--auto-approve"]);
    eprintln!("the apply after {killed} kills took {:.1?}: {}", apply.took, apply.line("Apply complete!"));
    // Three authorities, the key of the ServiceAccounts, the encryption key.
    assert_eq!(site.key_store_keeps(keys).len(), 5);
    site.is_in_sync();
    site.nodes_are_ready();
}

impl Site {
    /// Asserts that the key store has these entries unchanged. Returns all that it has.
    fn key_store_keeps(&self, known: BTreeMap<String, Json>) -> BTreeMap<String, Json> {
        let now = self.key_store();
        for (name, entry) in known {
            assert!(now.get(&name) == Some(&entry), "the key store has lost or changed {name}");
        }
        now
    }
}
