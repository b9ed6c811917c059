//! A server that keeps the state and goes away.

use crate::Stores;
use crate::support::gate::{GATED, is_whole_after_an_apply, leave_gate_open, no_panic, open_gate, wait_at_the_gate};
use crate::support::testbed::Testbed;

/// An operation is under way when the API server goes. Its outcome cannot be recorded, so nothing more is begun; the next run finds it.
pub fn a_server_that_goes_away_during_a_run_loses_nothing(stores: &Stores, testbed: &Testbed) {
    let moorfast = stores.with(GATED);
    let run = wait_at_the_gate(&moorfast, &[], &[]);
    testbed.run(&["control-plane", "stop"]);
    open_gate(&moorfast);
    let run = run.end();
    testbed.run(&["control-plane", "start"]);
    assert_eq!(run.code, 1, "{run}");
    run.complains("cannot be reached");
    no_panic(&run);
    assert!(moorfast.path("went").exists() && !moorfast.path("after").exists(), "{run}");
    leave_gate_open(&moorfast);
    is_whole_after_an_apply(&moorfast, &["--lock-timeout", "60s"]).complains("an earlier run died during");
    assert!(moorfast.path("after").exists());
}
