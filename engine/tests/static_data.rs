//! Data sources that read this machine are read before the inventory is evaluated, if their arguments are static.

#![expect(clippy::unwrap_used, reason = "a test fails by panic")]

mod support;

use moorfast_engine::model::Diagnostic;
use moorfast_engine::plan::{Plan, PlanOptions};
use moorfast_engine::provider::Action;
use moorfast_engine::session::Failure;
use support::Bench;

/// Nodes, resources and another data source that depend on static data.
const SITE: &str = r#"
[locals]
key   = "inventory"
hosts = '${jsondecode(data.mem_local.inventory.value)}'
[data.mem_local.inventory]
key = "${local.key}"
[data.mem_local.of_host]
for_each = '${keys(local.hosts)}'
key      = "of-${each.key}"
[nodes.host]
for_each = "${local.hosts}"
address  = "${each.value}"
roles    = ["host"]
vars     = { more = '${data.mem_local.of_host[each.key].value}' }
[resource.mem_file.motd]
on    = { role = "host" }
key   = "motd"
value = "${node.address} ${node.vars.more}"
[resource.mem_item.host]
for_each = "${local.hosts}"
key      = "item-${each.key}"
value    = "${length(nodes)}"
"#;

/// Returns a bench with the data of these hosts.
fn bench(manifest: &str, inventory: &str, hosts: &[&str]) -> Bench {
    let bench = Bench::default();
    bench.write(manifest);
    bench.memory.world().items.insert("inventory".to_owned(), inventory.to_owned());
    for host in hosts {
        bench.memory.world().items.insert(format!("of-{host}"), format!("data of {host}"));
    }
    bench
}

fn created(plan: &Plan) -> Vec<String> {
    let changes = plan.changes.iter().filter(|change| change.action == Action::Create);
    changes.map(|change| change.address.to_string()).collect()
}

fn summaries(diagnostics: &[Diagnostic]) -> String {
    diagnostics.iter().map(|d| d.summary.as_str()).collect::<Vec<_>>().join("\n")
}

async fn manifest_errors(bench: &Bench) -> String {
    match bench.plan(&PlanOptions::default()).await {
        Err(Failure::Manifest(errors)) => summaries(&errors),
        other => panic!("{:?}", other.map(|plan| created(&plan))),
    }
}

/// A data source that a resource determines is read by the plan. What it read is an input of the plan too.
#[tokio::test]
async fn what_this_machine_returned_must_still_be_the_same_when_the_plan_is_applied() {
    let manifest = "[resource.mem_item.x]\nkey = \"x\"\nvalue = \"v\"\n\
                    [data.mem_local.seen]\nkey = \"here\"\ndepends_on = [\"mem_item.x\"]\n\
                    [outputs.seen]\nvalue = \"${data.mem_local.seen.value}\"\n";
    let bench = bench(manifest, "", &[]);
    let here = |value: &str| _ = bench.memory.world().items.insert("here".to_owned(), value.to_owned());
    here("1");
    bench.apply(&PlanOptions::default()).await;
    here("2");
    let plan = bench.plan(&PlanOptions::default()).await.unwrap();
    assert_eq!(plan.inputs.keys().collect::<Vec<_>>(), ["data.mem_local.seen"]);
    here("3");
    let Err(Failure::Stale(reasons)) = bench.try_apply_reviewed(plan).await else { panic!("not stale") };
    assert!(reasons.iter().any(|reason| reason.contains("data.mem_local.seen")), "{reasons:?}");
}

#[tokio::test]
async fn nodes_and_resources_come_from_static_data() {
    let bench = bench(SITE, r#"{"a":"10.0.0.1","b":"10.0.0.2"}"#, &["a", "b"]);
    bench.apply(&PlanOptions::default()).await;
    assert_eq!(bench.memory.world().items["a:motd"], "10.0.0.1 data of a");
    assert_eq!(bench.memory.world().items["item-b"], "2");
    // Each run reads each data source once, those of the second wave after the first.
    assert_eq!(bench.memory.world().read_here, ["inventory", "of-a", "of-b"]);
    bench.assert_settled().await;

    // A host that is gone takes its resources with it.
    bench.memory.world().items.insert("inventory".to_owned(), r#"{"b":"10.0.0.2"}"#.to_owned());
    let plan = bench.plan(&PlanOptions::default()).await.unwrap();
    let changed: Vec<_> = plan.changes.iter().filter(|c| c.action.is_change()).map(|c| c.address.to_string()).collect();
    assert_eq!(changed, ["mem_item.host[\"b\"]", "mem_item.host[\"a\"]", "mem_file.motd[\"a\"]"]);
}

#[tokio::test]
async fn a_saved_plan_with_other_static_data_is_stale() {
    let bench = bench(SITE, r#"{"a":"10.0.0.1"}"#, &["a", "b"]);
    let plan = bench.plan(&PlanOptions::default()).await.unwrap();
    assert!(plan.inputs.contains_key("data.mem_local.inventory"), "{:?}", plan.inputs);
    bench.memory.world().items.insert("inventory".to_owned(), r#"{"a":"10.0.0.1","b":"10.0.0.2"}"#.to_owned());
    let Err(Failure::Stale(reasons)) = bench.try_apply_reviewed(plan.clone()).await else { panic!("not stale") };
    let changed = "`data.mem_local.inventory` changed since the plan was made";
    let new = "`data.mem_local.of_host[\"b\"]` changed since the plan was made";
    assert_eq!(reasons, [changed, new]);
    bench.memory.world().items.insert("inventory".to_owned(), r#"{"a":"10.0.0.1"}"#.to_owned());
    bench.apply_reviewed(plan).await;
    bench.assert_settled().await;
}

#[tokio::test]
async fn a_validation_reads_nothing_and_checks_each_block_once() {
    let bench = bench(SITE, "{}", &[]);
    assert_eq!(summaries(&bench.workspace().validate()), "");
    assert!(bench.memory.world().read_here.is_empty());
    // What needs the inventory must not work with a part of it.
    let errors = bench.workspace().graph().unwrap_err();
    assert!(errors[0].summary.contains("`for_each` is known only after apply"), "{errors:?}");

    let blocks = [
        ("[resource.mem_file.x]\non = \"host\"\nkey = \"${[node.name]}\"\n", "key: must be a string, not a list"),
        ("[resource.mem_file.x]\non = \"host\"\n", "mem_file.x: missing required attribute `key`"),
        ("[rollout.r]\nroles = [\"nobody\"]\n", ""),
        ("[check.c]\non = \"host\"\nassert = [{ condition = true, error_message = \"${node.name}\" }]\n", ""),
        ("[outputs.o]\nvalue = '${mem_file.motd[\"a\"].id} ${nodes.a.address}'\n", ""),
        ("[[moved]]\nfrom = \"mem_file.old\"\nto = 'mem_file.motd[\"a\"]'\n", ""),
        ("[resource.mem_item.x]\nkey = \"x\"\ndepends_on = ['mem_file.motd[\"a\"]']\n", ""),
    ];
    for (block, expected) in blocks {
        bench.write(&format!("{SITE}{block}"));
        assert_eq!(summaries(&bench.workspace().validate()), expected, "{block}");
    }
}

#[tokio::test]
async fn data_that_cannot_be_read_is_an_error_with_its_address() {
    let bench = bench(SITE, r#"{"a":"10.0.0.1"}"#, &[]);
    let Err(Failure::Providers(errors)) = bench.plan(&PlanOptions::default()).await else { panic!("no error") };
    let [(address, error)] = errors.as_slice() else { panic!("{errors:?}") };
    assert_eq!(
        (address.to_string().as_str(), error.summary.as_str()),
        ("data.mem_local.of_host[\"a\"]", "there is no of-a")
    );
    assert!(bench.memory.world().log.is_empty());

    // An invalid argument, and a violated precondition, before anything is read.
    bench.memory.world().read_here.clear();
    let key = "key = \"${local.key}\"";
    bench.write(&SITE.replace(
        key,
        "key = \"${local.key}/\"\nprecondition = [{ condition = \"${local.key == null}\", error_message = \"no key\" }]",
    ));
    assert!(manifest_errors(&bench).await.contains("precondition of data.mem_local.inventory: no key"));
    assert!(bench.memory.world().read_here.is_empty());
}

#[tokio::test]
async fn data_that_depends_on_more_than_variables_is_not_static() {
    let item = "[resource.mem_item.r]\nkey = \"inventory\"\nvalue = \"{}\"\n";
    let source = |lines: &str| format!("{item}[data.mem_local.d]\nkey = \"inventory\"\n{lines}\n");
    let cases = [
        "depends_on = [\"mem_item.r\"]".to_owned(),
        "precondition = [{ condition = '${mem_item.r.value == \"{}\"}', error_message = \"no\" }]".to_owned(),
    ];
    for lines in cases {
        let nodes = "[nodes.n]\nfor_each = '${jsondecode(data.mem_local.d.value)}'\n";
        let found = bench(&format!("{}{nodes}", source(&lines)), "{}", &[]);
        assert_eq!(manifest_errors(&found).await, "`data.mem_local.d` is not available here", "{lines}");
        let each = "[resource.mem_item.e]\nkey = \"${each.key}\"\nfor_each = '${jsondecode(data.mem_local.d.value)}'\n";
        let found = bench(&format!("{}{each}", source(&lines)), "{}", &[]);
        let expected = "`for_each` is known only after apply: it depends on `data.mem_local.d`";
        assert_eq!(manifest_errors(&found).await, expected, "{lines}");
        assert_eq!(summaries(&found.workspace().validate()), expected, "{lines}");
    }
    // A data source of a cluster is not, whatever its arguments are.
    let cluster = "[data.mem_item.d]\nkey = \"inventory\"\n[nodes.n]\nfor_each = '${[data.mem_item.d.value]}'\n";
    assert_eq!(manifest_errors(&bench(cluster, "{}", &[])).await, "`data.mem_item.d` is not available here");
}

/// A module that reads an inventory and makes an item for each host.
const HOSTS: &str = r#"
[variables.inventory]
type = "string"
[locals]
hosts = '${jsondecode(data.mem_local.inventory.value)}'
[data.mem_local.inventory]
key = "${var.inventory}"
[resource.mem_item.host]
for_each = "${local.hosts}"
key      = "${var.inventory}-${each.key}"
value    = "${each.value}"
[outputs.hosts]
value = "${local.hosts}"
"#;

/// A module that calls the one above.
const OUTER: &str = r#"
[variables.inventory]
[module.inner]
source = "../hosts"
inputs = { inventory = "${var.inventory}" }
[outputs.hosts]
value = "${module.inner.hosts}"
"#;

/// Returns a bench of a root that can call the modules `hosts` and `outer`, and these objects.
fn bench_of_modules(root: &str, objects: &[(&str, &str)]) -> Bench {
    let bench = Bench::default();
    bench.write(root);
    for (folder, text) in [("hosts", HOSTS), ("outer", OUTER)] {
        std::fs::create_dir_all(bench.path().join(folder)).unwrap();
        std::fs::write(bench.path().join(folder).join("main.toml"), text).unwrap();
    }
    for (key, value) in objects {
        bench.memory.world().items.insert((*key).to_owned(), (*value).to_owned());
    }
    bench
}

#[tokio::test]
async fn a_module_reads_static_data_with_static_inputs() {
    let objects =
        [("names", r#"["inv-a","inv-b"]"#), ("inv-a", r#"{"h1":"10.0.0.1"}"#), ("inv-b", r#"{"h2":"10.0.0.2"}"#)];
    // The input is a literal, and the module is in a module.
    let literal = "[module.m]\nsource = \"hosts\"\ninputs = { inventory = \"inv-a\" }\n";
    let nested = "[module.m]\nsource = \"outer\"\ninputs = { inventory = \"inv-a\" }\n";
    // The elements of the call, and the input, come from static data of the root.
    let elements = "
[data.mem_local.names]
key = \"names\"
[module.m]
source = \"outer\"
for_each = '${jsondecode(data.mem_local.names.value)}'
inputs = { inventory = \"${each.key}\" }
";
    let input = "
[data.mem_local.names]
key = \"names\"
[module.m]
source = \"hosts\"
inputs = { inventory = '${jsondecode(data.mem_local.names.value)[0]}' }
";
    let cases: [(&str, &[&str], &[&str]); 4] = [
        (literal, &["module.m.mem_item.host[\"h1\"]"], &["inv-a"]),
        (nested, &["module.m.module.inner.mem_item.host[\"h1\"]"], &["inv-a"]),
        (
            elements,
            &[
                "module.m[\"inv-a\"].module.inner.mem_item.host[\"h1\"]",
                "module.m[\"inv-b\"].module.inner.mem_item.host[\"h2\"]",
            ],
            &["names", "inv-a", "inv-b"],
        ),
        (input, &["module.m.mem_item.host[\"h1\"]"], &["names", "inv-a"]),
    ];
    for (root, expected, read) in cases {
        let bench = bench_of_modules(root, &objects);
        assert_eq!(summaries(&bench.workspace().validate()), "", "{root}");
        assert!(bench.memory.world().read_here.is_empty());
        let plan = bench.plan(&PlanOptions::default()).await.unwrap_or_else(|failure| panic!("{root}: {failure:?}"));
        assert_eq!(created(&plan), expected, "{root}");
        assert_eq!(bench.memory.world().read_here, read, "{root}");
        let module = expected[0].split(".mem_item").next().unwrap();
        assert!(plan.inputs.contains_key(&format!("{module}.data.mem_local.inventory")), "{:?}", plan.inputs);
        bench.apply_reviewed(plan).await;
        bench.assert_settled().await;
    }
}

#[tokio::test]
async fn a_static_output_of_a_module_feeds_nodes_resources_and_other_modules() {
    let root = r#"
[locals]
hosts = "${module.m.hosts}"
[module.m]
source = "hosts"
inputs = { inventory = "inv" }
[module.a]
source = "outer"
for_each = '${toset(values(module.z)[0].hosts)}'
inputs = { inventory = "${each.key}" }
[module.z]
source = "outer"
for_each = ["list"]
inputs = { inventory = "${each.key}" }
[nodes.host]
for_each = "${local.hosts}"
address = "${each.value}"
[resource.mem_file.motd]
on = "host"
key = "motd"
value = "${node.address}"
[resource.mem_item.x]
for_each = "${module.m.hosts}"
key = "x-${each.key}"
"#;
    let objects = [("inv", r#"{"h1":"10.0.0.1"}"#), ("list", r#"{"h":"inv-b"}"#), ("inv-b", r#"{"h2":"10.0.0.2"}"#)];
    let root = root.replace("toset(values(module.z)[0].hosts)", "values(module.z[\"list\"].hosts)");
    let bench = bench_of_modules(&root, &objects);
    assert_eq!(summaries(&bench.workspace().validate()), "");
    bench.apply(&PlanOptions::default()).await;
    let world = bench.memory.world().items.clone();
    assert_eq!(world["h1:motd"], "10.0.0.1");
    assert_eq!(world["inv-b-h2"], "10.0.0.2");
    assert!(world.contains_key("x-h1"), "{world:?}");
    bench.assert_settled().await;
}

#[tokio::test]
async fn data_in_a_module_that_depends_on_more_is_not_static() {
    let item = "[resource.mem_item.r]\nkey = \"r\"\n";
    let call = |lines: &str| format!("{item}[nodes.n]\n[module.m]\nsource = \"hosts\"\n{lines}\n");
    let cases = [
        call("inputs = { inventory = \"${mem_item.r.id}\" }"),
        call("inputs = { inventory = \"inv\" }\ndepends_on = [\"mem_item.r\"]"),
        call("inputs = { inventory = '${keys(nodes)[0]}' }"),
    ];
    let objects = [("inv", "{}"), ("n", "{}")];
    for root in cases {
        let expected = "`for_each` is known only after apply: it depends on `module.m.data.mem_local.inventory`";
        let found = bench_of_modules(&root, &objects);
        assert_eq!(summaries(&found.workspace().validate()), expected, "{root}");
        assert_eq!(manifest_errors(&found).await, expected, "{root}");
        let nodes = "[nodes.host]\nfor_each = \"${module.m.hosts}\"\n";
        let found = bench_of_modules(&(root + nodes), &objects);
        assert_eq!(manifest_errors(&found).await, "`module.m.hosts` is not available here");
    }
    let round = "[module.m]\nsource = \"hosts\"\nfor_each = \"${values(module.m)[0].hosts}\"\ninputs = { inventory = \"inv\" }\n";
    let bench = Bench::default();
    bench.write(round);
    std::fs::create_dir_all(bench.path().join("hosts")).unwrap();
    std::fs::write(bench.path().join("hosts/main.toml"), HOSTS).unwrap();
    let (_, errors) = moorfast_engine::manifest::Manifest::load(bench.path()).unwrap_err();
    assert_eq!(summaries(&errors), "values form a cycle: module.m.for_each → module.m.for_each");
}
