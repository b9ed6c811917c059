//! `examples/sites` with a cluster: both environments apply the chart and the folder of YAML files, each in its own namespace.

use std::path::Path;

use super::programs;
use crate::support::folder::{Folder, Run};
use crate::support::testbed::Testbed;

/// Runs a command in an environment of the cluster's site.
fn run(folder: &Folder, path: &Path, kubeconfig: &str, environment: &str, arguments: &[&str]) -> Run {
    let identity = folder.path("demo.identity");
    let path = format!("{}:{}", path.display(), std::env::var("PATH").unwrap());
    let variables = [
        ("PATH", path.as_str()),
        ("MOORFAST_AGE_IDENTITY", identity.to_str().unwrap()),
        ("MOORFAST_VAR_kubeconfig", kubeconfig),
    ];
    folder.start_in(&[&["-C", "cluster", "--env", environment], arguments].concat(), &variables).end()
}

#[test]
fn both_environments_apply_a_chart_and_a_folder_of_yaml() {
    let Some(programs) = programs() else { return };
    let Some(testbed) = Testbed::up("sites", 0) else { return };
    let kubeconfig = testbed.facts.control_plane.kubeconfig.display().to_string();
    let folder = Folder::copy_of_tree("examples/sites");
    let run = |environment: &str, arguments: &[&str]| run(&folder, &programs, &kubeconfig, environment, arguments);
    for (environment, pods) in [("staging", "20"), ("production", "500")] {
        let valid = run(environment, &["validate"]);
        assert_eq!(valid.code, 0, "{valid}");
        let planned = run(environment, &["plan", "--detailed-exitcode"]);
        assert_eq!(planned.code, 2, "{planned}");
        let service =
            format!("module.addons[\"{environment}\"].kubernetes_object.mirror[\"Service/{environment}/mirror\"]");
        planned.says(&service);
        let applied = run(environment, &["apply", "--auto-approve"]);
        assert_eq!(applied.code, 0, "{applied}");
        let again = run(environment, &["plan", "--detailed-exitcode"]);
        assert_eq!(again.code, 0, "{again}");
        let service = testbed.get(&["service", "-n", environment, "mirror"]);
        assert_eq!(service["spec"]["externalName"], format!("registry.{environment}.example.org"));
        let quota = testbed.get(&["resourcequota", "-n", environment, "pods"]);
        assert_eq!(quota["spec"]["hard"]["pods"], pods);
    }
    // A new version of the chart is a plan for each object.
    let template = "modules/addons/charts/mirror/templates/objects.yaml";
    folder.edit(template, "    server = ", "    # Version 2\n    server = ");
    let upgraded = run("staging", &["plan", "--detailed-exitcode"]);
    assert_eq!(upgraded.code, 2, "{upgraded}");
    upgraded.says("ConfigMap/staging/mirror-hosts").says("0 to add, 1 to change, 0 to destroy");
    folder.edit(template, "    # Version 2\n", "");
    let destroyed = run("staging", &["destroy", "--auto-approve"]);
    assert_eq!(destroyed.code, 0, "{destroyed}");
    let rest = run("production", &["plan", "--detailed-exitcode"]);
    assert_eq!(rest.code, 0, "{rest}");
}
