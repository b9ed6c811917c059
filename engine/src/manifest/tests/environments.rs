//! Tests of `[environments.NAME]`.

use crate::expression::Files;
use crate::manifest::tests::{load, problems, render};
use crate::manifest::{Assignments, Manifest, StaticScope};

const ENVIRONMENTS: &str = r#"
[variables.region]
type = "string"
default = "nowhere"
[variables.size]
type = "number"
[variables.token]
sensitive = true
default = "x"
[locals]
label = "${environment.name} in ${var.region}"
[backend.postgres]
url = "postgresql://${var.region}.example.org/ops"
name = "${environment.name}"
[environments.prod]
variables = { region = "eu", size = "3" }
var_files = ["prod.vars.toml"]
[environments.prod.backend]
name = "main"
[environments.staging]
variables = { size = 1 }
"#;

fn manifest(environment: &str) -> Manifest {
    let manifest = load(&[("main.toml", ENVIRONMENTS)]).map_err(|(sources, errors)| render(&sources, &errors)).unwrap();
    manifest.in_environment(environment.parse().ok())
}

/// Evaluates the local and the attributes of the backend.
fn values(manifest: &Manifest, assignments: &Assignments) -> Result<String, String> {
    let variables = manifest.variables(assignments).map_err(|errors| render(&manifest.sources, &errors))?;
    let files = Files::default();
    let scope = StaticScope::new(manifest, &variables, &files);
    let (_, backend) = manifest.backend_block().unwrap();
    let backend =
        backend.attributes.iter().map(|(name, _, expr)| format!("{name} = {:?}", expr.evaluate(&scope).unwrap()));
    let label = manifest.local("label", &scope).unwrap();
    let variables = variables.iter().map(|(name, value)| format!("{name} = {value:?}"));
    Ok(variables.chain([format!("label = {label:?}")]).chain(backend).collect::<Vec<_>>().join("\n"))
}

#[test]
fn an_environment_sets_variables_and_its_backend() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("prod.vars.toml"), "region = 'file'\ntoken = 's3cr3t'\n").unwrap();
    std::fs::write(folder.path().join("x.auto.vars.toml"), "size = 7\nregion = 'auto'\n").unwrap();
    let in_folder = |name: &str| Manifest { root: folder.path().to_owned(), ..manifest(name) };
    let all = |assignments: &Assignments| {
        ["prod", "staging"].map(|name| values(&in_folder(name), assignments).unwrap()).join("\n\n")
    };
    let environment = vec![("MOORFAST_VAR_size".to_owned(), "8".to_owned())];
    insta::assert_snapshot!(all(&Assignments { environment, ..Assignments::default() }), @r#"
    region = "eu"
    size = 3
    token = (sensitive)
    label = "prod in eu"
    url = "postgresql://eu.example.org/ops"
    name = "main"

    region = "auto"
    size = 1
    token = (sensitive)
    label = "staging in auto"
    url = "postgresql://auto.example.org/ops"
    name = "staging"
    "#);
    let arguments = vec!["size=9".to_owned()];
    assert!(all(&Assignments { arguments, ..Assignments::default() }).matches("size = 9").count() == 2);
}

#[test]
fn a_missing_file_of_an_environment_is_reported_at_its_place() {
    insta::assert_snapshot!(values(&manifest("prod"), &Assignments::default()).unwrap_err());
}

#[test]
fn a_value_that_is_not_set_can_be_unknown() {
    let none = Manifest { environment: None, ..manifest("prod") };
    assert!(values(&none, &Assignments::default()).unwrap_err().contains("the variable `size` is not set"));
    let assignments = Assignments { missing_is_unknown: true, ..Assignments::default() };
    let found = values(&none, &assignments).unwrap();
    assert!(found.contains("size = (known after apply)") && found.contains("label = (known after apply)"), "{found}");
}

#[test]
fn an_unknown_object_knows_its_attributes() {
    let text = "[variables.v]\ntype = 'object({ a = string, b = optional(object({ c = number })) })'\n\
                [locals]\nright = '${var.v.b.c}'\nwrong = '${var.v.x}'\n";
    let manifest = load(&[("main.toml", text)]).unwrap();
    let assignments = Assignments { missing_is_unknown: true, ..Assignments::default() };
    let (variables, files) = (manifest.variables(&assignments).unwrap(), Files::default());
    let scope = StaticScope::new(&manifest, &variables, &files);
    assert!(manifest.local("right", &scope).unwrap().is_unknown());
    assert!(manifest.local("wrong", &scope).is_err());
}

#[test]
fn invalid_environments_are_errors() {
    let text = problems(&[(
        "main.toml",
        r#"
[variables.size]
type = "number"
[variables.key]
type = "map(number)"
sensitive = true
[environments.Prod]
[environments.eu_west]
[environments."../x"]
[environments.prod]
variables = { size = "many", sise = 1, key = { s3cr3t = "x" } }
var_file = "x"
backend = { name = "x" }
[environments.staging]
variables = { size = "${1 + 2}" }
var_files = [1]
[environments.dev]
variables = 1
[environmnets.x]
"#,
    )]);
    assert!(!text.contains("`s3cr3t`"), "{text}");
    insta::assert_snapshot!(text);
}

#[test]
fn the_name_of_the_environment_needs_environments() {
    let text = problems(&[("main.toml", "[locals]\nx = '${environment.name}'\n")]);
    assert!(text.starts_with("error: `environment` is not available here"), "{text}");
    assert!(text.contains("it is available in a manifest with [environments.NAME]"), "{text}");
}
