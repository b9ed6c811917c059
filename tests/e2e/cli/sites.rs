//! The example `examples/sites`: two environments of a module, an inventory from YAML, a secret, and a site that reads the outputs of another.

use crate::support::folder::{Folder, Run};

/// The secret in `join-token.age`.
const TOKEN: &str = "abcdef.0123456789abcdef";

fn run(folder: &Folder, arguments: &[&str]) -> Run {
    let identity = folder.path("demo.identity");
    folder.start_in(arguments, &[("MOORFAST_AGE_IDENTITY", identity.to_str().unwrap())]).end()
}

/// Applies the site in `site`, and checks that a second plan is empty.
fn apply(folder: &Folder, site: &str, environment: &str) {
    let applied = run(folder, &["-C", site, "--env", environment, "apply", "--auto-approve"]);
    assert_eq!(applied.code, 0, "{applied}");
    let again = run(folder, &["-C", site, "--env", environment, "plan", "--detailed-exitcode"]);
    assert_eq!(again.code, 0, "{again}");
}

#[test]
fn two_environments_and_a_second_site_are_applied() {
    let folder = Folder::copy_of_tree("examples/sites");
    for (environment, node, address) in [("staging", "s-w05", "10.33.0.10"), ("production", "p-w29", "10.32.0.10")] {
        apply(&folder, "cluster", environment);
        let files = format!("cluster/out/{environment}/{node}");
        assert!(folder.read(&format!("{files}/kubelet.yaml")).contains(&format!("clusterDNS: [{address}]")));
        assert_eq!(folder.read(&format!("{files}/join-token")).trim_end(), TOKEN);
        apply(&folder, "dns", environment);
    }
    let zone = "api  300 IN A 10.1.0.10 ; s-cp01\napi  300 IN A 10.1.0.11 ; s-cp02\napi  300 IN A 10.1.0.12 ; s-cp03\n";
    assert_eq!(folder.read("dns/out/staging.zone"), zone);

    let saved = run(&folder, &["-C", "cluster", "--env", "staging", "plan", "--out", "staging.plan", "--destroy"]);
    assert_eq!(saved.code, 0, "{saved}");
    let refused = run(&folder, &["-C", "cluster", "--env", "production", "apply", "staging.plan"]);
    assert_eq!(refused.code, 1, "{refused}");
    let destroyed = run(&folder, &["-C", "cluster", "apply", "staging.plan"]);
    assert_eq!(destroyed.code, 0, "{destroyed}");
    let rest = run(&folder, &["-C", "cluster", "--env", "production", "plan", "--detailed-exitcode"]);
    assert_eq!(rest.code, 0, "the other environment is unchanged: {rest}");

    let is_output = |file: &std::path::Path| file.ends_with("join-token");
    for file in folder.files().iter().filter(|file| !is_output(file)) {
        let bytes = std::fs::read(file).unwrap();
        let has_token = bytes.windows(TOKEN.len()).any(|window| window == TOKEN.as_bytes());
        assert!(!has_token, "the secret is in {}", file.display());
    }
}
