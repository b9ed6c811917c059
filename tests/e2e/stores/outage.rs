//! An API server that holds the state and is down during a run.

use super::Stores;
use crate::support::gate::{GATED, apply_completes, apply_to_gate_in, assert_no_panic, open_gate_once, remove_gate};
use crate::support::testbed::Testbed;

/// The API server goes down during an operation. The outcome cannot be recorded, so no further operation starts; the next run finds the outcome
/// by reading.
pub fn an_api_server_that_is_down_during_a_run_loses_nothing(stores: &Stores, testbed: &Testbed) {
    let moorfast = stores.with(GATED);
    let run = apply_to_gate_in(&moorfast, &[], &[]);
    testbed.run(&["control-plane", "stop"]);
    open_gate_once(&moorfast);
    let run = run.end();
    testbed.run(&["control-plane", "start"]);
    assert_eq!(run.code, 1, "{run}");
    run.complains("cannot be reached");
    assert_no_panic(&run);
    assert!(moorfast.path("went").exists() && !moorfast.path("after").exists(), "{run}");
    remove_gate(&moorfast);
    apply_completes(&moorfast, &["--lock-timeout", "60s"]).complains("an earlier run died during");
    assert!(moorfast.path("after").exists());
}
