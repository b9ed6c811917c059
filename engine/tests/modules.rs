//! Modules: scopes, addresses, the graph through inputs and outputs, moves, targets and errors.

#![expect(clippy::unwrap_used, reason = "a test fails by panic")]

mod support;

use std::fs;

use moorfast_engine::manifest::Manifest;
use moorfast_engine::plan::{PlanMode, PlanOptions};
use moorfast_engine::provider::Action;
use support::Bench;

const NODES: &str = "[nodes.n1]\nroles = [\"web\"]\n[nodes.n2]\nroles = [\"web\"]\n";

/// A module with a variable, a local, a resource and an output.
const SITE: &str = "
[variables.name]
type = \"string\"
[variables.value]
type = \"string\"
default = \"plain\"
[locals]
text = \"${var.name}=${var.value}\"
[resource.mem_item.site]
key = \"site-${var.name}\"
value = \"${local.text}\"
[outputs.id]
value = \"${mem_item.site.id}\"
[outputs.name]
value = \"${var.name}\"
";

fn bench(root: &str, modules: &[(&str, &str)]) -> Bench {
    let bench = Bench::default();
    bench.write(root);
    for (folder, text) in modules {
        let folder = bench.path().join(folder);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("main.toml"), text).unwrap();
    }
    bench
}

/// Returns the edges of the graph without quotes and types.
fn edges(root: &str, modules: &[(&str, &str)]) -> Vec<String> {
    let graph = bench(root, modules).workspace().graph().unwrap_or_else(|errors| panic!("{errors:#?}"));
    let short = |name: &str| name.replace(['"'], "").replace("mem_item.", "").replace("mem_file.", "");
    let mut edges: Vec<_> = graph.edges.iter().map(|(from, to)| format!("{} -> {}", short(from), short(to))).collect();
    edges.sort();
    edges
}

/// Returns the first error of the manifest: `main.toml:3: summary; help`, with the calls of the module.
fn error(root: &str, modules: &[(&str, &str)]) -> String {
    let bench = bench(root, modules);
    let (sources, errors) = match Manifest::load(bench.path()) {
        Err(found) => found,
        Ok(manifest) => {
            let errors = bench.workspace().validate();
            (manifest.sources, errors)
        }
    };
    let first = errors.first().unwrap_or_else(|| panic!("no error in {root}"));
    let place = |span| {
        let (file, line, _) = sources.locate(span)?;
        Some(format!("{}:{line}", file.path.strip_prefix(bench.path()).unwrap().display()))
    };
    let (span, label) = first.at.clone().unwrap();
    let mut text = format!("{}: {}", place(span).unwrap_or_default(), first.summary);
    for part in [Some(&label), first.help.as_ref()].into_iter().flatten().filter(|part| !part.is_empty()) {
        text += &format!("; {part}");
    }
    for (module, span) in sources.calls_of(span.file) {
        text += &format!(" (in {module}, called at {})", place(*span).unwrap_or_default());
    }
    text
}

#[tokio::test]
async fn a_module_is_applied_with_its_inputs_and_its_outputs_are_used() {
    let root = "
[resource.mem_item.base]
key = \"base\"
[module.shop]
source = \"./site\"
inputs = { name = \"shop\", value = \"${mem_item.base.id}\" }
[module.each]
source = \"site\"
for_each = [\"a\", \"b\"]
inputs = { name = \"${each.key}\" }
[resource.mem_item.user]
key = \"user\"
value = '${module.shop.id} ${module.each[\"a\"].name} ${join(\",\", values(module.each)[*].id)}'
[outputs.shop]
value = \"${module.shop.id}\"
";
    let bench = bench(root, &[("site", SITE)]);
    bench.apply(&PlanOptions::default()).await;
    {
        let world = bench.memory.world();
        assert_eq!(world.items["site-shop"], "shop=id-base-");
        assert_eq!(world.items["user"], "id-site-shop-shop=id-base- a id-site-a-a=plain,id-site-b-b=plain");
        let place = |entry: &str| world.log.iter().position(|line| line == entry).unwrap();
        assert!(place("create base") < place("create site-shop"));
        assert!(place("create site-shop") < place("create user"));
    }
    let state = bench.store().await.snapshot().await.unwrap();
    let addresses: Vec<_> = state.records.keys().map(String::as_str).collect();
    let expected = [
        "mem_item.base",
        "mem_item.user",
        "module.each[\"a\"].mem_item.site",
        "module.each[\"b\"].mem_item.site",
        "module.shop.mem_item.site",
    ];
    assert_eq!(addresses, expected);
    assert_eq!(state.outputs.keys().collect::<Vec<_>>(), ["shop"]);
    bench.assert_settled().await;
}

#[tokio::test]
async fn unknown_and_sensitive_values_pass_through_inputs_and_outputs() {
    let module = "
[variables.secret]
sensitive = true
[resource.mem_item.holder]
key = \"holder\"
value = \"${var.secret}\"
[outputs.value]
value = \"${mem_item.holder.value}\"
[outputs.id]
value = \"${mem_item.holder.id}\"
";
    let root = "
[module.m]
source = \"m\"
inputs = { secret = \"hunter2\" }
[resource.mem_item.user]
key = \"user\"
value = \"${module.m.value}\"
";
    let bench = bench(root, &[("m", module)]);
    let plan = bench.plan(&PlanOptions::default()).await.unwrap();
    assert!(!serde_json::to_string(&plan).unwrap().contains("hunter2"));
    bench.apply(&PlanOptions::default()).await;
    assert_eq!(bench.memory.world().items["user"], "hunter2");
    let state = bench.store().await.snapshot().await.unwrap().to_json().unwrap();
    assert!(!state.contains("hunter2"), "{state}");
    bench.assert_settled().await;
}

#[test]
fn references_through_inputs_and_outputs_are_edges_between_resources() {
    let root = "
[resource.mem_item.base]
key = \"base\"
[resource.mem_item.other]
key = \"other\"
[module.a]
source = \"site\"
inputs = { name = \"a\", value = \"${mem_item.base.id}\" }
[module.b]
source = \"site\"
inputs = { name = \"b\", value = \"${module.a.id}\" }
depends_on = [\"mem_item.other\"]
[resource.mem_item.last]
key = \"last\"
depends_on = [\"module.b\"]
[resource.mem_item.name]
key = \"${module.b.name}\"
";
    let expected =
        ["last -> module.b.site", "module.a.site -> base", "module.b.site -> module.a.site", "module.b.site -> other"];
    assert_eq!(edges(root, &[("site", SITE)]), expected);
}

#[test]
fn a_key_of_a_module_is_one_instance() {
    let root = "
[module.a]
source = \"site\"
for_each = [\"x\", \"y\"]
inputs = { name = \"a-${each.key}\" }
[module.b]
source = \"site\"
for_each = [\"x\", \"y\"]
inputs = { name = \"b-${each.key}\", value = \"${module.a[each.key].id}\" }
[resource.mem_item.one]
key = \"one\"
value = '${module.b[\"x\"].id}'
[resource.mem_item.all]
key = \"all\"
value = '${join(\"\", [for m in module.b : m.id])}'
";
    let expected = [
        "all -> module.b[x].site",
        "all -> module.b[y].site",
        "module.b[x].site -> module.a[x].site",
        "module.b[y].site -> module.a[y].site",
        "one -> module.b[x].site",
    ];
    assert_eq!(edges(root, &[("site", SITE)]), expected);
}

#[test]
fn references_between_resources_on_nodes_mean_the_same_node_through_modules() {
    let module = "
[variables.text]
[resource.mem_file.inner]
on = { role = \"web\" }
key = \"inner\"
value = \"${var.text}\"
[outputs.id]
value = \"${mem_file.inner.id}\"
";
    let root = format!(
        "{NODES}
[resource.mem_file.base]
on = {{ role = \"web\" }}
key = \"base\"
[module.m]
source = \"m\"
inputs = {{ text = \"${{mem_file.base.id}}\" }}
[resource.mem_file.user]
on = {{ role = \"web\" }}
key = \"user\"
value = \"${{module.m.id}}\"
[resource.mem_file.after]
on = {{ role = \"web\" }}
key = \"after\"
depends_on = [\"module.m\"]
"
    );
    let expected = [
        "after[n1] -> module.m.inner[n1]",
        "after[n2] -> module.m.inner[n2]",
        "module.m.inner[n1] -> base[n1]",
        "module.m.inner[n2] -> base[n2]",
        "user[n1] -> module.m.inner[n1]",
        "user[n2] -> module.m.inner[n2]",
    ];
    assert_eq!(edges(&root, &[("m", module)]), expected);
}

#[tokio::test]
async fn modules_are_nested_and_read_files_of_their_own_folder() {
    let outer = "[module.inner]\nsource = \"../inner\"\nfor_each = [\"k\"]\ninputs = { key = \"${each.key}\" }\n\
                 [outputs.text]\nvalue = '${module.inner[\"k\"].text}'\n";
    let inner = "[variables.key]\n[resource.mem_item.i]\nkey = \"${var.key}\"\nvalue = '${file(\"text\")}${basename(path.module)}'\n\
                 [outputs.text]\nvalue = \"${mem_item.i.value}\"\n";
    let root = "[module.outer]\nsource = \"outer\"\n[outputs.text]\nvalue = \"${module.outer.text}\"\n";
    let bench = bench(root, &[("outer", outer), ("inner", inner)]);
    fs::write(bench.path().join("inner/text"), "hello ").unwrap();
    let plan = bench.plan(&PlanOptions::default()).await.unwrap();
    assert_eq!(plan.inputs.keys().collect::<Vec<_>>(), ["outer/../inner/text"]);
    bench.apply(&PlanOptions::default()).await;
    assert_eq!(bench.memory.world().items["k"], "hello inner");
    let state = bench.store().await.snapshot().await.unwrap();
    assert_eq!(state.records.keys().collect::<Vec<_>>(), ["module.outer.module.inner[\"k\"].mem_item.i"]);
    assert_eq!(state.outputs["text"].value, "hello inner");
    // A change in the module's file makes a reviewed plan stale.
    let digest = |bench: &Bench| Manifest::load(bench.path()).unwrap().digest;
    let before = digest(&bench);
    fs::write(bench.path().join("inner/main.toml"), inner.replace("basename", "upper")).unwrap();
    assert_ne!(digest(&bench), before);
}

#[tokio::test]
async fn resources_move_into_between_and_out_of_modules() {
    let module = "[variables.n]\n[resource.mem_item.x]\nkey = \"x\"\nvalue = \"${var.n}\"\n";
    let inside = |name: &str| format!("[module.{name}]\nsource = \"m\"\ninputs = {{ n = \"1\" }}\n");
    let moved = |from: &str, to: &str| format!("[[moved]]\nfrom = \"{from}\"\nto = \"{to}\"\n");
    let outside = "[resource.mem_item.x]\nkey = \"x\"\nvalue = \"1\"\n";
    let bench = bench(outside, &[("m", module)]);
    bench.apply(&PlanOptions::default()).await;
    let steps = [
        (inside("a") + &moved("mem_item.x", "module.a.mem_item.x"), "module.a.mem_item.x"),
        (inside("b") + &moved("module.a", "module.b"), "module.b.mem_item.x"),
        (outside.to_owned() + &moved("module.b.mem_item.x", "mem_item.x"), "mem_item.x"),
    ];
    for (manifest, address) in steps {
        bench.write(&manifest);
        let plan = bench.plan(&PlanOptions::default()).await.unwrap();
        assert!(plan.changes.iter().all(|change| change.action == Action::NoOp), "{manifest}: {:#?}", plan.changes);
        bench.apply(&PlanOptions::default()).await;
        let state = bench.store().await.snapshot().await.unwrap();
        assert_eq!(state.records.keys().collect::<Vec<_>>(), [address]);
        bench.assert_settled().await;
    }
    assert_eq!(bench.memory.world().log, ["create x"]);
}

#[tokio::test]
async fn a_move_in_a_module_is_relative_to_it() {
    let module =
        |name: &str, rest: &str| format!("[variables.k]\n[resource.mem_item.{name}]\nkey = \"${{var.k}}\"\n{rest}");
    let root = "[module.m]\nsource = \"m\"\nfor_each = [\"p\", \"q\"]\ninputs = { k = \"${each.key}\" }\n";
    let bench = bench(root, &[("m", &module("old", ""))]);
    bench.apply(&PlanOptions::default()).await;
    let renamed = module("new", "[[moved]]\nfrom = \"mem_item.old\"\nto = \"mem_item.new\"\n");
    fs::write(bench.path().join("m/main.toml"), renamed).unwrap();
    bench.apply(&PlanOptions::default()).await;
    let state = bench.store().await.snapshot().await.unwrap();
    let expected = ["module.m[\"p\"].mem_item.new", "module.m[\"q\"].mem_item.new"];
    assert_eq!(state.records.keys().collect::<Vec<_>>(), expected);
    assert_eq!(bench.memory.world().log, ["create p", "create q"]);
}

#[tokio::test]
async fn a_target_names_a_module_or_an_instance_of_it() {
    let root = "
[resource.mem_item.other]
key = \"other\"
[module.m]
source = \"site\"
for_each = [\"a\", \"b\"]
inputs = { name = \"${each.key}\" }
";
    for (target, expected) in [
        ("module.m", vec!["site-a", "site-b"]),
        ("module.m[\"b\"]", vec!["site-b"]),
        ("module.m.mem_item.site", vec!["site-a", "site-b"]),
        ("module.m[\"a\"].mem_item.site", vec!["site-a"]),
        ("mem_item.other", vec!["other"]),
    ] {
        let bench = bench(root, &[("site", SITE)]);
        let targets = vec![target.parse().unwrap()];
        bench.apply(&PlanOptions { targets: targets.clone(), ..PlanOptions::default() }).await;
        assert_eq!(bench.memory.world().items.keys().collect::<Vec<_>>(), expected, "{target}");
        bench.apply(&PlanOptions { exclude: targets.clone(), ..PlanOptions::default() }).await;
        assert_eq!(bench.memory.world().items.len(), 3, "{target}");
        bench.apply(&PlanOptions { mode: PlanMode::Destroy, targets, ..PlanOptions::default() }).await;
        assert_eq!(bench.memory.world().items.len(), 3 - expected.len(), "{target}");
    }
}

#[tokio::test]
async fn an_element_that_is_removed_from_a_call_is_destroyed() {
    let root = |keys: &str| {
        format!("[module.m]\nsource = \"site\"\nfor_each = [{keys}]\ninputs = {{ name = \"${{each.key}}\" }}\n")
    };
    let bench = bench(&root("\"a\", \"b\""), &[("site", SITE)]);
    bench.apply(&PlanOptions::default()).await;
    bench.write(&root("\"b\""));
    let plan = bench.plan(&PlanOptions::default()).await.unwrap();
    let reasons = serde_json::to_string(&plan.changes.iter().map(|c| &c.reasons).collect::<Vec<_>>()).unwrap();
    assert!(reasons.contains("for_each"), "{reasons}");
    bench.apply(&PlanOptions::default()).await;
    assert_eq!(bench.memory.world().items.keys().collect::<Vec<_>>(), ["site-b"]);
    bench.write("[[removed]]\nfrom = \"module.m\"\ndestroy = false\n");
    bench.apply(&PlanOptions::default()).await;
    assert_eq!(bench.memory.world().items.len(), 1);
    assert!(bench.store().await.snapshot().await.unwrap().records.is_empty());
}

#[test]
fn an_invalid_call_or_module_is_an_error_with_its_place() {
    let call = |inputs: &str| format!("[module.m]\nsource = \"m\"\ninputs = {{ {inputs} }}\n");
    let number = "[variables.n]\ntype = \"number\"\n[locals]\nx = 1\n[outputs.n]\nvalue = \"${var.n}\"\n";
    let cases: &[(&str, &str, &str)] = &[
        (
            "[module.m]\nsource = \"missing\"\n",
            "",
            "moorfast.toml:2: module.m: the folder FOLDER/missing does not exist; `source` is a folder relative to the folder of the file that calls the module",
        ),
        ("[module.m]\n", "", "moorfast.toml:1: the module `m`: missing required attribute `source`"),
        (
            "[module.m]\nsource = \"/etc\"\n",
            "",
            "moorfast.toml:2: module.m: the source is an absolute path; write the folder relative to the manifest, as in source = \"./modules/web\", or git::URL//FOLDER?ref=TAG",
        ),
        (
            "[module.m]\nsource = \"m\"\nn = 1\n",
            "",
            "moorfast.toml:3: unknown attribute `n` in the module `m`; write a value for the module into `inputs`: inputs = { n = … }",
        ),
        (
            "[module.m]\nsource = \"m\"\n",
            number,
            "moorfast.toml:1: module.m: missing required input `n`; add it to the call: inputs = { n = … }",
        ),
        (
            &call("m = 1"),
            number,
            "moorfast.toml:1: module.m: missing required input `n`; add it to the call: inputs = { n = … }",
        ),
        (&call("n = 1, nn = 1"), number, "moorfast.toml:3: module.m has no variable `nn`; did you mean `n`?"),
        (
            &call("n = \"x\""),
            number,
            "moorfast.toml:3: the input `n` of module.m has a wrong type; must be of type number, not a string",
        ),
        (
            &(call("n = \"${local.l}\"") + "[locals]\nl = [1]\n"),
            number,
            "moorfast.toml:3: the input `n` of module.m has a wrong type; must be of type number, not a list",
        ),
        (
            &(call("n = 1") + "[outputs.o]\nvalue = \"${module.m.k}\"\n"),
            number,
            "moorfast.toml:5: `module.m` has no output `k`; did you mean `n`?",
        ),
        (
            &(call("n = 1") + "[outputs.o]\nvalue = \"${module.q.n}\"\n"),
            number,
            "moorfast.toml:5: unknown module `q`; did you mean `m`?",
        ),
        (
            &(call("n = 1") + "[outputs.o]\nvalue = '${module.m[\"x\"].n}'\n"),
            number,
            "moorfast.toml:5: `module.m` has no `for_each`, so it has no keys; omit the brackets",
        ),
        (
            &(call("n = 1") + "for_each = [\"a\"]\n[outputs.o]\nvalue = \"${module.m.n}\"\n"),
            number,
            "moorfast.toml:6: `module.m` has one instance for each member of its `for_each`; write `module.m[\"KEY\"].n` for one instance, or `values(module.m)[*].n` for all",
        ),
        (
            &call(""),
            "[nodes.x]\n",
            "m/main.toml:1: a module cannot have `nodes`; a module uses the nodes of the root as `nodes` and `on`; take the roles or names as variables (in module.m, called at moorfast.toml:1)",
        ),
        (
            &call(""),
            "[outputs.o]\nvalue = \"${var.other}\"\n",
            "m/main.toml:2: unknown variable `other` (in module.m, called at moorfast.toml:1)",
        ),
        (
            &call(""),
            "[resource.mem_item.i]\nkey = \"k/\"\n",
            "m/main.toml:2: a key ends in `/` (in module.m, called at moorfast.toml:1)",
        ),
        (
            &call(""),
            "[module.again]\nsource = \".\"\n",
            "m/main.toml:2: modules form a cycle: m → m; a module cannot call itself, directly or through other modules (in module.m, called at moorfast.toml:1)",
        ),
        (
            &call(""),
            "[module.root]\nsource = \"..\"\n",
            "m/main.toml:2: modules form a cycle: the manifest → m → the manifest; a module cannot call itself, directly or through other modules (in module.m, called at moorfast.toml:1)",
        ),
        (
            &call("n = \"${module.m.n}\""),
            number,
            "moorfast.toml:3: values form a cycle: module.m.var.n → module.m.n → module.m.var.n; remove one of these references",
        ),
        (
            "[module.m]\nsource = \"m\"\nfor_each = \"${[mem_item.i.id]}\"\n[resource.mem_item.i]\nkey = \"i\"\n",
            "",
            "moorfast.toml:3: `for_each` is known only after apply: it depends on `mem_item.i`; the keys of `for_each` must be known when the plan is made: take them from variables or locals",
        ),
        (
            &(call("") + "[resource.mem_item.i]\nkey = \"i\"\ndepends_on = [\"module.n\"]\n"),
            "",
            "moorfast.toml:6: the manifest has no `module.n`; did you mean `module.m`?",
        ),
        (
            &call(""),
            "[resource.mem_item.i]\nkey = \"i\"\nprovider = \"mem.b\"\n",
            "m/main.toml:3: module.m has no provider instance `mem.b`; name one of the caller in the call: providers = { \"mem.b\" = \"mem.ALIAS\" } (in module.m, called at moorfast.toml:1)",
        ),
        (
            "[[moved]]\nfrom = \"mem_item.a\"\nto = \"module.m.mem_item.b\"\n[module.m]\nsource = \"m\"\n",
            "",
            "moorfast.toml:1: the manifest has no `module.m.mem_item.b`",
        ),
        (
            "[[moved]]\nfrom = \"mem_item.a\"\nto = \"module.m\"\n[module.m]\nsource = \"m\"\n",
            "",
            "moorfast.toml:1: `mem_item.a` cannot be moved to `module.m`: the types differ; use [[removed]] for the old resource and [[import]] for the new one",
        ),
    ];
    let mut found = String::new();
    for (root, module, expected) in cases {
        let error = error(root, &[("m", module)]);
        let start = error.find("the folder ").map(|at| at + "the folder ".len());
        let error = match (start, error.find("/missing")) {
            (Some(start), Some(end)) => format!("{}FOLDER{}", &error[..start], &error[end..]),
            _ => error,
        };
        if error != *expected {
            found += &format!("{root}---\n{module}---\nexpected {expected}\nfound    {error}\n\n");
        }
    }
    assert!(found.is_empty(), "{found}");
}

#[test]
fn an_error_in_a_definition_is_reported_once_where_it_is() {
    let items = |value: &str| {
        let item = |name| format!("[resource.mem_item.{name}]\nkey = \"{name}\"\nvalue = \"${{{value}}}\"\n");
        item("a") + &item("b")
    };
    let wrong = "'${parseint(\"x\", 10)}'";
    let local = format!("[locals]\nwrong = {wrong}\nother = \"${{local.wrong}}\"\n{}", items("local.other"));
    let input = format!("[module.m]\nsource = \"m\"\n[module.m.inputs]\nn = {wrong}\n");
    let variable = format!("[variables.n]\ntype = \"string\"\n{}", items("var.n"));
    let output = format!("[module.m]\nsource = \"m\"\n{}", items("module.m.n"));
    let value = format!("[outputs.n]\nvalue = {wrong}\n");
    for (root, modules, place) in [
        (&local, vec![], "moorfast.toml:2"),
        (&input, vec![("m", &*variable)], "moorfast.toml:4"),
        (&output, vec![("m", &*value)], "m/main.toml:2"),
    ] {
        assert!(error(root, &modules).starts_with(&format!("{place}: `x` is not a whole number in base 10")));
        let errors = bench(root, &modules).workspace().validate();
        assert_eq!(errors.len(), 1, "{errors:#?}");
    }
    let errors = bench(&local, &[]).workspace().validate();
    assert_eq!(errors[0].related.last().unwrap().1, "used here");
}

#[tokio::test]
async fn a_provider_instance_of_the_caller_is_passed_to_a_module() {
    let module =
        "[resource.mem_item.own]\nkey = \"own\"\n[resource.mem_item.named]\nkey = \"named\"\nprovider = \"mem.x\"\n";
    let root = "[providers.mem.a]\n[providers.mem.b]\n[module.m]\nsource = \"m\"\nproviders = { mem = \"mem.a\", \"mem.x\" = \"mem.b\" }\n";
    let bench = bench(root, &[("m", module)]);
    let plan = bench.plan(&PlanOptions::default()).await.unwrap();
    let mut providers: Vec<_> = plan.changes.iter().map(|c| format!("{} {}", c.address, c.provider)).collect();
    providers.sort();
    assert_eq!(providers, ["module.m.mem_item.named mem.b", "module.m.mem_item.own mem.a"]);
}
