//! `data.local_outputs` with the state of the other site in PostgreSQL, in S3 and in a cluster.

use crate::support::folder::{Folder, Run};
use crate::support::servers::{self, KEY};
use crate::support::testbed::Testbed;

/// Applies a site whose state is in `backend`, an inline table, and reads its outputs in another site.
pub(super) fn are_read(backend: &str) {
    let folder = Folder::new(&format!(
        "[data.local_outputs.network]\nbackend = {backend}\nnames = [\"hosts\"]\n\
         [nodes.host]\nfor_each = \"${{data.local_outputs.network.outputs.hosts}}\"\naddress = \"${{each.value}}\"\n\
         [outputs.addresses]\nvalue = \"${{[for n in nodes : n.address]}}\"\n"
    ));
    let network = format!("backend = {backend}\n[outputs]\nhosts = {{ value = {{ h1 = \"10.0.0.1\" }} }}\n");
    folder.write("network/main.toml", &network);
    let missing = run(&folder, &["plan"]);
    assert_eq!(missing.code, 1, "{missing}");
    missing.complains("does not exist").complains("apply the other site first");
    succeeds(&folder, &["-C", "network", "apply", "--auto-approve"]);
    succeeds(&folder, &["apply", "--auto-approve"]);
    assert_eq!(
        succeeds(&folder, &["output", "--json", "addresses"]).stdout.split_whitespace().collect::<String>(),
        "[\"10.0.0.1\"]"
    );
    succeeds(&folder, &["plan", "--out", "saved"]);
    folder.edit("network/main.toml", "10.0.0.1", "10.0.0.2");
    succeeds(&folder, &["-C", "network", "apply", "--auto-approve"]);
    let stale = run(&folder, &["apply", "saved"]);
    assert_eq!(stale.code, 4, "{stale}");
    stale.complains("`data.local_outputs.network` changed since the plan was made");
}

fn run(folder: &Folder, arguments: &[&str]) -> Run {
    folder.start_in(arguments, &[("AWS_ACCESS_KEY_ID", KEY.0), ("AWS_SECRET_ACCESS_KEY", KEY.1)]).end()
}

#[track_caller]
fn succeeds(folder: &Folder, arguments: &[&str]) -> Run {
    let run = run(folder, arguments);
    assert_eq!(run.code, 0, "{run}");
    run
}

/// Returns the backend of a state in the cluster.
pub(super) fn in_cluster(testbed: &Testbed) -> String {
    let kubeconfig = testbed.facts.control_plane.kubeconfig.display();
    format!("{{ kubernetes = {{ name = \"network\", namespace = \"default\", kubeconfig = \"{kubeconfig}\" }} }}")
}

#[test]
fn in_a_database() {
    let Some(server) = servers::postgres() else { return };
    are_read(&server.backend);
}

#[test]
fn in_a_bucket() {
    let Some(server) = servers::s3() else { return };
    are_read(&server.backend);
}
