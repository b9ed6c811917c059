//! What happens to a cluster over the years.
//!
//! `./test --long` sets `MOORFAST_CLUSTER_LIFE` and `MOORFAST_CLUSTER_UPGRADE`. Otherwise these tests are skipped: a second cluster needs more processors than a
//! small machine has beside all other tests, and the binaries of the previous release have to be compiled.

use super::site::Site;
use crate::support::is_chosen;
use crate::support::testbed::previous_cluster_binaries;

#[test]
fn certificates_are_renewed_one_machine_after_the_other() {
    if !is_chosen("MOORFAST_CLUSTER_LIFE") {
        return;
    }
    let Some(site) = Site::up("cluster-life", 2) else { return };
    site.certificates_expire_in_ten_days();
    site.starts_with_a_workload();
    site.certificates_are_renewed();
}

#[test]
fn a_worker_and_a_control_plane_leave() {
    if !is_chosen("MOORFAST_CLUSTER_LIFE") {
        return;
    }
    let Some(mut site) = Site::up("cluster-leaving", 2) else { return };
    let bare = site.snapshots();
    site.starts_with_a_workload();
    site.a_worker_leaves(&bare);
    site.a_control_plane_leaves(&bare);
}

#[test]
fn kubernetes_is_upgraded() {
    if !is_chosen("MOORFAST_CLUSTER_UPGRADE") {
        return;
    }
    let Some(mut site) = Site::up_with("cluster-upgrade", 2, previous_cluster_binaries) else { return };
    site.starts_with_a_workload();
    site.kubernetes_is_upgraded();
}

impl Site {
    fn starts_with_a_workload(&self) {
        let apply = self.expect(0, &["apply", "--auto-approve"]);
        eprintln!("apply took {:.1?}: {}", apply.took, apply.line("Apply complete!"));
        self.is_in_sync();
        self.a_workload_runs();
    }
}
