//! Helm charts, kustomizations and folders of YAML, with the real programs.

mod sites;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::support::folder::{Folder, Run};
use crate::support::testbed::{Testbed, is_required};

const PASSWORD: &str = "correct-horse-battery-staple";

/// Returns the folder with `helm` and `kustomize`, which the testbed compiles once. Prints the reason and returns `None` if it cannot.
fn programs() -> Option<PathBuf> {
    let testbed = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/testbed/testbed");
    let output = Command::new(testbed).arg("renderers").stdin(Stdio::null()).stderr(Stdio::inherit()).output().unwrap();
    if output.status.success() {
        return Some(PathBuf::from(String::from_utf8(output.stdout).unwrap().trim_end()));
    }
    assert!(!is_required(), "helm and kustomize are required, but cannot be compiled");
    eprintln!("skipped: helm and kustomize cannot be compiled");
    None
}

/// Copies the site beside this file: a chart, a kustomization and a folder of YAML.
fn site(more: &str) -> Folder {
    let folder = Folder::copy_of_tree("tests/e2e/rendered/site");
    folder.write("more.toml", more);
    folder
}

/// Returns a manifest with these blocks for the cluster of the testbed.
fn in_cluster(testbed: &Testbed, blocks: &str) -> String {
    testbed.facts.cluster_block() + blocks
}

/// Runs a command that finds only the programs in `path`.
fn run(folder: &Folder, path: &Path, arguments: &[&str]) -> Run {
    let environment = [("PATH", path.to_str().unwrap()), ("MOORFAST_VAR_password", PASSWORD)];
    folder.start_in(arguments, &environment).end()
}

/// Writes a program that is a shell script.
fn program(folder: &Folder, name: &str, script: &str) {
    folder.write_program(&format!("bin/{name}"), &format!("#!/bin/sh\n{script}\n"));
}

const OUTPUTS: &str = r#"
[outputs.web]
value = '${keys(data.kubernetes_rendered.web.documents)}'

[outputs.hooks]
value = '${keys(data.kubernetes_rendered.web.hooks)}'

[outputs.deployment]
value = '${data.kubernetes_rendered.web.documents["Deployment/rendered/shop"].spec.template}'

[outputs.api]
value = '${data.kubernetes_rendered.api.documents}'
"#;

#[test]
fn a_chart_and_a_kustomization_are_maps_of_objects() {
    let Some(programs) = programs() else { return };
    let folder = site(OUTPUTS);
    let planned = run(&folder, &programs, &["plan"]);
    // Helm derives the annotation from the password.
    planned.says("annotations = { password-digest = (sensitive value) }");
    let applied = run(&folder, &programs, &["apply", "--auto-approve"]);
    assert_eq!(applied.code, 0, "{applied}");
    let outputs: serde_json::Value =
        serde_json::from_str(&run(&folder, &programs, &["output", "--json"]).stdout).unwrap();
    let value = |name: &str| &outputs[name]["value"];
    let expected = [
        "ConfigMap/rendered/shop-settings",
        "CustomResourceDefinition/fleets.rendered.example.com",
        "Deployment/rendered/shop",
        "Fleet/rendered/shop",
        "Secret/rendered/shop",
    ];
    assert_eq!(*value("web"), serde_json::json!(expected));
    assert_eq!(*value("hooks"), serde_json::json!(["Pod/rendered/shop-test"]));
    let service = &value("api")["Service/rendered/prod-api"];
    assert_eq!(service["metadata"]["labels"]["environment"], "prod");
    for file in folder.files() {
        assert!(!fs::read_to_string(&file).is_ok_and(|text| text.contains(PASSWORD)), "{}", file.display());
    }
}

#[test]
fn a_chart_that_does_not_render_has_the_message_of_helm_without_secrets() {
    let Some(programs) = programs() else { return };
    let folder = site("");
    // Helm fails with any password, so its message about another one is shown.
    let failed = run(&folder, &programs, &["plan", "--var", "level=invalid"]);
    failed.complains("cannot render the chart `charts/web`: `helm template` failed: exit status: 1");
    failed.complains("the level invalid is not valid, and the password is moorfast-stands-in-for-a-secret");
    assert!(failed.code == 1 && !failed.stderr.contains(PASSWORD), "{failed}");
    // Helm fails only with this password, so its message may depend on it.
    let failed = folder.start_in(&["plan", "--var", "password="], &[("PATH", programs.to_str().unwrap())]).end();
    failed.complains("the message of the program is not shown");
    assert!(failed.code == 1 && !failed.stderr.contains("a password is required"), "{failed}");
    folder.edit("main.toml", "password = \"${var.password}\"", "password = \"open\"");
    folder.edit("main.toml", "kustomization = \"overlay\"", "kustomization = \"charts\"");
    let failed = run(&folder, &programs, &["plan", "--var", "level=invalid"]);
    failed.complains("the level invalid is not valid, and the password is open");
    failed.complains("cannot render the kustomization `charts`: `kustomize build` failed: exit status: 1");
    failed.complains("main.toml:");
}

#[test]
fn a_program_gets_no_value_as_an_argument_and_nothing_of_the_user() {
    let folder = site("");
    let received = folder.path("received");
    let script = r#"{ echo "$@"; set; read -r line; echo "$line"; } >>RECEIVED; echo '{apiVersion: v1, kind: Namespace, metadata: {name: a}}'"#;
    program(&folder, "helm", &script.replace("RECEIVED", received.to_str().unwrap()));
    program(&folder, "kubectl", "echo \"{apiVersion: v1, kind: Namespace, metadata: {name: $1}}\"");
    let environment = [
        ("PATH", folder.path("bin")),
        ("HOME", PathBuf::from("/home/of-the-user")),
        ("KUBECONFIG", PathBuf::from("/of-the-user/kubeconfig")),
        ("HELM_REPOSITORY_CONFIG", PathBuf::from("/of-the-user/repositories.yaml")),
        ("MOORFAST_VAR_password", PathBuf::from(PASSWORD)),
    ];
    let mut command = folder.command(&["plan"]);
    let planned = Run::of(command.envs(environment).output().unwrap());
    assert_eq!(planned.code, 0, "{planned}");
    let received = fs::read_to_string(received).unwrap();
    let lines: Vec<_> = received.lines().filter(|line| line.contains("template ") || line.starts_with('{')).collect();
    let [arguments, ..] = lines.as_slice() else { panic!("{received}") };
    assert_eq!(*arguments, "template --values=- --include-crds --namespace=rendered -- shop ./charts/web");
    assert!(lines.contains(&format!(r#"{{"level":"info","password":"{PASSWORD}"}}"#).as_str()), "{received}");
    assert_eq!(received.matches(PASSWORD).count(), 1, "{received}");
    assert!(!received.contains("of-the-user"), "{received}");
}

#[test]
fn a_missing_program_or_one_that_does_not_end_is_an_error() {
    let folder = site("");
    fs::create_dir(folder.path("bin")).unwrap();
    let failed = run(&folder, &folder.path("bin"), &["plan"]);
    assert_eq!(failed.code, 1, "{failed}");
    failed.complains("cannot render the chart `charts/web`: there is no program `helm` in PATH");
    failed.complains("install Helm 3 or later on the machine that runs moorfast");
    failed.complains("there is neither `kustomize` nor `kubectl` in PATH");
    program(&folder, "helm", "while :; do :; done");
    program(&folder, "kustomize", "echo 'a: ['");
    folder.edit("main.toml", "release   = \"shop\"", "release   = \"shop\"\ntimeouts  = { read = \"1s\" }");
    let failed = run(&folder, &folder.path("bin"), &["plan"]);
    assert_eq!(failed.code, 1, "{failed}");
    failed.complains("`helm template` did not end within 1s and was stopped");
    failed.complains("`kustomize build` printed something that cannot be used");
    failed.complains("the output is not valid YAML: line 1, column 4");
}

#[test]
fn each_document_of_a_folder_is_an_object_of_its_own() {
    let Some(testbed) = Testbed::up("rendered", 0) else { return };
    let folder = Folder::new(&in_cluster(
        &testbed,
        r#"
[resource.kubernetes_object.site]
for_each = '${kubernetes_documents(fileset(".", "yaml/*.yaml"))}'
manifest = "${each.value}"
"#,
    ));
    // The namespace is in the file that comes last.
    folder.write("yaml/z.yaml", include_str!("site/yaml/namespace.yaml"));
    folder.write("yaml/objects.yaml", include_str!("site/yaml/objects.yaml"));
    folder.expect(0, &["apply", "--auto-approve"]).says("3 added");
    folder.expect(0, &["plan", "--detailed-exitcode"]);
    folder.edit("yaml/objects.yaml", "a: \"1\"", "a: \"2\"");
    folder.edit("yaml/objects.yaml", "name: two", "name: three");
    let plan = folder.expect(2, &["plan", "--detailed-exitcode"]);
    plan.says(r#"kubernetes_object.site["ConfigMap/rendered/one"]"#);
    plan.says("1 to add, 1 to change, 1 to destroy");
    folder.expect(0, &["apply", "--auto-approve"]);
    assert_eq!(testbed.get(&["configmap", "-n", "rendered", "one"])["data"]["a"], "2");
    folder.expect(0, &["plan", "--detailed-exitcode"]);
    folder.write("yaml/again.yaml", include_str!("site/yaml/namespace.yaml"));
    let failed = folder.expect(1, &["plan"]);
    failed.complains("Namespace/rendered is written twice: yaml/again.yaml, line 1, and yaml/z.yaml, line 1");
    folder.write("yaml/again.yaml", "");
    folder.expect(0, &["destroy", "--auto-approve"]);
    an_upgrade_of_a_chart(&testbed);
    the_manifests_of_a_large_project(&testbed);
}

/// A new version of a chart is a plan for each object. Nothing of a release is in the cluster.
fn an_upgrade_of_a_chart(testbed: &Testbed) {
    let Some(programs) = programs() else { return };
    let folder = site(&in_cluster(
        testbed,
        r#"
[resource.kubernetes_object.namespace]
manifest = { apiVersion = "v1", kind = "Namespace", metadata = { name = "rendered" } }

[resource.kubernetes_object.web]
for_each = "${data.kubernetes_rendered.web.documents}"
manifest = "${each.value}"
wait     = false

[resource.kubernetes_object.api]
for_each = "${data.kubernetes_rendered.api.documents}"
manifest = "${each.value}"
"#,
    ));
    let expect = |code: i32, arguments: &[&str]| {
        let run = run(&folder, &programs, arguments);
        assert_eq!(run.code, code, "{run}");
        run
    };
    // The CustomResourceDefinition and the object of its kind are new, and so is the namespace.
    expect(0, &["apply", "--auto-approve"]).says("8 added");
    expect(0, &["plan", "--detailed-exitcode"]);
    assert_eq!(testbed.names(&["secrets", "-n", "rendered", "-l", "owner=helm"]), [""; 0]);
    folder.edit("charts/web/Chart.yaml", "appVersion: \"1.0\"", "appVersion: \"2.0\"");
    folder.edit(
        "charts/web/templates/objects.yaml",
        "name: {{ .Release.Name }}-settings",
        "name: {{ .Release.Name }}-config",
    );
    let plan = expect(2, &["plan", "--detailed-exitcode"]);
    plan.says("Deployment/rendered/shop")
        .says("registry.example.com/web:2.0")
        .says("1 to add, 1 to change, 1 to destroy");
    assert!(!plan.stdout.contains(PASSWORD), "{plan}");
    expect(0, &["apply", "--auto-approve"]);
    expect(0, &["plan", "--detailed-exitcode"]);
    // A saved plan is stale if the chart changed meanwhile.
    folder.edit("charts/web/Chart.yaml", "appVersion: \"2.0\"", "appVersion: \"3.0\"");
    expect(0, &["plan", "--out", "saved.plan"]);
    folder.edit("charts/web/Chart.yaml", "appVersion: \"3.0\"", "appVersion: \"4.0\"");
    expect(4, &["apply", "saved.plan"]).complains("data.kubernetes_rendered.web");
    expect(0, &["destroy", "--auto-approve"]);
}

/// The manifests of Argo CD have no namespace of their own. An upgrade changes only what differs.
fn the_manifests_of_a_large_project(testbed: &Testbed) {
    let folder = Folder::new(&in_cluster(
        testbed,
        r#"
[resource.kubernetes_object.namespace]
manifest = { apiVersion = "v1", kind = "Namespace", metadata = { name = "argocd" } }

[resource.kubernetes_object.argo]
for_each = '${kubernetes_documents(["install.yaml", "crd.yaml"])}'
manifest = '${merge(each.value, { metadata = merge(each.value.metadata, { namespace = "argocd" }) })}'
wait     = false
"#,
    ));
    folder.write("install.yaml", include_str!("argo-cd/namespace-install.yaml"));
    folder.write("crd.yaml", include_str!("argo-cd/appproject-crd.yaml"));
    let documents = [folder.read("install.yaml"), folder.read("crd.yaml")].concat().matches("\nkind: ").count();
    folder.expect(0, &["apply", "--auto-approve"]).says(&format!("{} added", documents + 1));
    folder.expect(0, &["plan", "--detailed-exitcode"]);
    let upgraded = folder.read("install.yaml").replace("argoproj/argocd:latest", "argoproj/argocd:v9.9.9");
    folder.write("install.yaml", &upgraded);
    let plan = folder.expect(2, &["plan", "--detailed-exitcode"]);
    plan.says("Deployment/argocd-server").says("0 to add, 7 to change, 0 to destroy");
    folder.expect(0, &["apply", "--auto-approve"]);
    folder.expect(0, &["plan", "--detailed-exitcode"]);
}
