//! The packages of `packaging/dist`, installed and tried on fresh nodes: the Debian package, the archive and the container image.

use std::path::Path;
use std::process::Command;

use crate::support::static_binary::{TARGET, static_binary};
use crate::support::testbed::Testbed;

/// Plans, applies and checks the quickstart in the folder `quickstart`.
const QUICKSTART: &str = "set -eu; moorfast version --json; moorfast -C quickstart apply --auto-approve; \
                          moorfast -C quickstart plan --detailed-exitcode; moorfast -C quickstart drift";

#[test]
fn each_package_works_on_a_fresh_node() {
    let Some(binary) = static_binary() else { return };
    let Some(testbed) = Testbed::up_nodes("packages", 2) else { return };
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let packages = tempfile::tempdir().unwrap();
    let mut dist = Command::new(root.join("packaging/dist"));
    dist.args(["--target", TARGET, "--binary"]).arg(&binary).arg("--output").arg(packages.path());
    assert!(dist.status().unwrap().success());
    let [first, second] = &testbed.node_names()[..] else { panic!("two nodes") };
    for node in [first, second] {
        testbed.send(packages.path(), node, "/srv/packages");
        testbed.send(&root.join("examples/quickstart"), node, "/home/plain/quickstart");
        // `./try` leaves its state and its files in the example.
        testbed.on(node, "cd /home/plain/quickstart; rm -rf .moorfast out; chown -R plain .");
        testbed.on(node, "cd /srv/packages; sha256sum --check SHA256SUMS");
    }
    let version = format!("\"moorfast_version\": \"{}\"", env!("CARGO_PKG_VERSION"));
    let as_plain = |node: &str, prefix: &str| {
        let script = format!("cd /home/plain; runuser -u plain -- env {prefix} sh -c '{QUICKSTART}'");
        let output = testbed.on(node, &script);
        assert!(
            output.contains(&version) && output.ends_with("In sync. Nothing changed since the last apply.\n"),
            "{output}"
        );
    };

    // The Debian package.
    testbed.on(first, "dpkg -i /srv/packages/*.deb");
    as_plain(first, "");
    let files = testbed.on(first, "dpkg -L moorfast");
    let doc = "/usr/share/doc/moorfast";
    for file in [
        "/usr/share/man/man1/moorfast-plan.1.gz",
        "/usr/share/bash-completion/completions/moorfast",
        &format!("{doc}/licences/LIST"),
        &format!("{doc}/sbom.cdx.json"),
    ] {
        assert!(files.lines().any(|line| line == file), "{file} in\n{files}");
    }
    testbed.on(first, "dpkg -r moorfast; ! command -v moorfast");

    // The archive.
    testbed.on(second, "cd /opt; tar -xzf /srv/packages/*.tar.gz; mv moorfast-* moorfast");
    as_plain(second, "PATH=/opt/moorfast:$PATH");
    let parts = testbed
        .on(second, "cd /opt/moorfast; grep -c '\"bom-ref\"' sbom.cdx.json; grep '^serde ' licences/LIST; ls man");
    assert!(parts.contains("serde ") && parts.contains("moorfast-apply.1"), "{parts}");

    // The container image, as its user. `/site` is the folder of a manifest.
    testbed.on(first, "apt-get update -qq; apt-get install -qq -y --no-install-recommends containerd runc >&2");
    let image = packages.path().join("image");
    testbed.load(first, "moorfast:test", &image.join("Containerfile").display().to_string(), &image);
    testbed.on(first, "rm -r /home/plain/quickstart/out /home/plain/quickstart/.moorfast; mkdir /site; mv /home/plain/quickstart /site; chown -R 1000:1000 /site");
    let run = format!(
        "ctr -n k8s.io run --rm --mount type=bind,src=/site,dst=/site,options=rbind:rw docker.io/library/moorfast:test try sh -c '{QUICKSTART}; id -u; ssh -V'"
    );
    let output = testbed.on(first, &run);
    assert!(output.contains(&version) && output.contains("In sync.") && output.ends_with("\n1000\n"), "{output}");
}
