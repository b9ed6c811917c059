//! References and dependencies between two resources that are `on` nodes mean the same node, with and without `for_each`.

#![expect(clippy::unwrap_used, reason = "a test fails by panic")]

mod support;

use moorfast_engine::apply::ChangeResult;
use moorfast_engine::plan::PlanOptions;
use moorfast_engine::provider::Action;
use support::Bench;

const NODES: &str = "[nodes.n1]\nroles = [\"web\"]\nvars = { sites = [\"shop\", \"blog\"] }\n\
                     [nodes.n2]\nroles = [\"web\"]\nvars = { sites = [\"shop\", \"blog\"] }\n\
                     [nodes.n3]\nroles = [\"db\"]\nvars = { sites = [] }\n";

/// Returns the dependencies of `mem_file.user`, one line for each instance.
fn edges(manifest: &str) -> Vec<String> {
    let bench = Bench::default();
    bench.write(&format!("{NODES}{manifest}"));
    let graph = bench.workspace().graph().unwrap_or_else(|errors| panic!("{manifest}: {errors:#?}"));
    let of_user = graph.edges.iter().filter(|(from, _)| from.starts_with("mem_file.user") || from.starts_with("check"));
    of_user.map(|(from, to)| format!("{from} -> {to}").replace("mem_file.", "").replace('"', "")).collect()
}

fn site(on: &str, rest: &str) -> String {
    file("site", on, rest)
}

fn user(on: &str, rest: &str) -> String {
    file("user", on, rest)
}

fn file(name: &str, on: &str, rest: &str) -> String {
    let element = if rest.contains("for_each") { "-${each.key}" } else { "" };
    format!("[resource.mem_file.{name}]\non = {on}\nkey = \"{name}{element}\"\n{rest}\n")
}

const WEB: &str = "{ role = \"web\" }";
const EACH: &str = "for_each = [\"shop\", \"blog\"]";

#[test]
fn every_way_to_depend_on_a_resource_means_the_same_node() {
    let ways = [
        "depends_on = [\"mem_file.site\"]",
        "restart_on = [\"mem_file.site\"]",
        "lifecycle = { replace_triggered_by = [\"mem_file.site\"] }",
        "value = '${join(\",\", [for key, site in mem_file.site : site.id])}'",
        "value = '${join(\",\", values(mem_file.site)[*].id)}'",
        "value = '${local.ids}'",
        "value = '%{ for site in mem_file.site }${site.id}%{ endfor }'",
        "precondition = [{ condition = '${length(mem_file.site) == 2}', error_message = \"two\" }]",
    ];
    let local = "[locals]\nids = '${join(\",\", [for site in mem_file.site : site.id])}'\n";
    for way in ways {
        let found = edges(&(local.to_owned() + &site(WEB, EACH) + &user(WEB, way)));
        let expected = [
            "user[n1] -> site[n1/blog]",
            "user[n1] -> site[n1/shop]",
            "user[n2] -> site[n2/blog]",
            "user[n2] -> site[n2/shop]",
        ];
        assert_eq!(found, expected, "{way}");
    }
}

#[test]
fn for_each_on_either_side_makes_no_difference() {
    let way = "depends_on = [\"mem_file.site\"]";
    let plain = edges(&(site(WEB, "") + &user(WEB, way)));
    assert_eq!(plain, ["user[n1] -> site[n1]", "user[n2] -> site[n2]"]);
    let of_user = edges(&(site(WEB, "") + &user(WEB, &format!("{EACH}\n{way}"))));
    let expected = [
        "user[n1/blog] -> site[n1]",
        "user[n1/shop] -> site[n1]",
        "user[n2/blog] -> site[n2]",
        "user[n2/shop] -> site[n2]",
    ];
    assert_eq!(of_user, expected);
    let same_element = edges(&(site(WEB, EACH) + &user(WEB, &format!("{EACH}\n{way}"))));
    let expected = [
        "user[n1/blog] -> site[n1/blog]",
        "user[n1/shop] -> site[n1/shop]",
        "user[n2/blog] -> site[n2/blog]",
        "user[n2/shop] -> site[n2/shop]",
    ];
    assert_eq!(same_element, expected);
    let other_element = edges(&(site(WEB, EACH) + &user(WEB, &format!("for_each = [\"x\"]\n{way}"))));
    let expected = [
        "user[n1/x] -> site[n1/blog]",
        "user[n1/x] -> site[n1/shop]",
        "user[n2/x] -> site[n2/blog]",
        "user[n2/x] -> site[n2/shop]",
    ];
    assert_eq!(other_element, expected);
}

#[test]
fn a_node_without_instances_of_the_other_resource_depends_on_none() {
    let way = "depends_on = [\"mem_file.site\"]\nvalue = '${length(mem_file.site)}'";
    let expected = [
        "user[n1] -> site[n1/blog]",
        "user[n1] -> site[n1/shop]",
        "user[n2] -> site[n2/blog]",
        "user[n2] -> site[n2/shop]",
    ];
    // On n3 `for_each` is empty, and `on` does not select it.
    for site in [site("\"all\"", "for_each = '${node.vars.sites}'"), site(WEB, EACH)] {
        assert_eq!(edges(&(site + &user("\"all\"", way))), expected);
    }
}

#[test]
fn resources_without_a_common_node_mean_all_nodes() {
    let way = "depends_on = [\"mem_file.site\"]";
    let found = edges(&(site(WEB, "") + &user("\"n3\"", way)));
    assert_eq!(found, ["user[n3] -> site[n1]", "user[n3] -> site[n2]"]);
}

#[test]
fn an_index_links_the_instance_that_it_names() {
    let indices = [
        "value = '${mem_file.site[\"${node.name}/shop\"].id}'",
        "value = '${mem_file.site[\"shop\"].id}'",
        "value = '${mem_file.site[local.name].id}'",
        "value = '${local.one}'",
        "value = '${join(\",\", [for name in [\"shop\"] : mem_file.site[\"${node.name}/${name}\"].id])}'",
        "value = '${join(\",\", [for name in node.vars.sites : mem_file.site[name].id if name == \"shop\"])}'",
        "value = '%{ for name in [\"shop\"] }${mem_file.site[name].id}%{ endfor }'",
        "depends_on = ['mem_file.site[\"shop\"]']",
    ];
    let locals = "[locals]\nname = '${join(\"\", [\"sh\", \"op\"])}'\none = '${mem_file.site[\"shop\"].id}'\n";
    for index in indices {
        let found = edges(&(locals.to_owned() + &site(WEB, EACH) + &user(WEB, index)));
        assert_eq!(found, ["user[n1] -> site[n1/shop]", "user[n2] -> site[n2/shop]"], "{index}");
    }
    // The instance is known only during the apply, so it may be any of them.
    let open = "value = '${mem_file.site[mem_file.key.id].id}'";
    let key = "[resource.mem_file.key]\non = { role = \"web\" }\nkey = \"key\"\n";
    let found = edges(&(key.to_owned() + &site(WEB, EACH) + &user("\"n1\"", open)));
    let all = ["key[n1]", "site[n1/blog]", "site[n1/shop]", "site[n2/blog]", "site[n2/shop]"];
    assert_eq!(found, all.map(|to| format!("user[n1] -> {to}")));
}

#[test]
fn a_check_on_a_node_refers_to_that_node() {
    let check = "[check.sites]\non = { role = \"web\" }\nassert = [{ condition = '${length(mem_file.site) == 2}', error_message = \"two\" }]\n";
    let found = edges(&(site(WEB, EACH) + check));
    let expected = [
        "check.sites[n1] -> site[n1/blog]",
        "check.sites[n1] -> site[n1/shop]",
        "check.sites[n2] -> site[n2/blog]",
        "check.sites[n2] -> site[n2/shop]",
    ];
    assert_eq!(found, expected);
}

fn weighted(weights: [u8; 2]) -> String {
    let site = "[resource.mem_file.site]\non = { role = \"web\" }\nfor_each = [\"shop\", \"blog\"]\nkey = '${each.key}'\nvalue = '${node.vars.weight}'\n";
    let [one, two] = weights;
    format!(
        "[nodes.n1]\nroles = [\"web\"]\nvars = {{ weight = {one} }}\n[nodes.n2]\nroles = [\"web\"]\nvars = {{ weight = {two} }}\n{site}"
    )
}

#[tokio::test]
async fn only_the_node_whose_files_change_restarts() {
    let bench = Bench::default();
    let unit = "[resource.mem_file.unit]\non = { role = \"web\" }\nkey = \"unit\"\nrestart_on = [\"mem_file.site\"]\n";
    bench.write(&(weighted([1, 3]) + unit));
    bench.apply(&PlanOptions::default()).await;
    bench.memory.world().log.clear();
    bench.write(&(weighted([1, 4]) + unit));
    bench.apply(&PlanOptions::default()).await;
    let restarts: Vec<_> =
        bench.memory.world().log.iter().filter(|line| line.starts_with("restart")).cloned().collect();
    assert_eq!(restarts, ["restart n2:unit"]);
    bench.assert_settled().await;
}

#[tokio::test]
async fn only_the_node_whose_files_change_is_replaced() {
    let bench = Bench::default();
    let unit = "[resource.mem_file.unit]\non = { role = \"web\" }\nkey = \"unit\"\nlifecycle = { replace_triggered_by = [\"mem_file.site\"] }\n";
    bench.write(&(weighted([1, 3]) + unit));
    bench.apply(&PlanOptions::default()).await;
    bench.write(&(weighted([1, 4]) + unit));
    let plan = bench.plan(&PlanOptions::default()).await.unwrap();
    let replaced = plan.changes.iter().filter(|c| c.action == Action::Replace).map(|c| c.address.to_string());
    assert_eq!(replaced.collect::<Vec<_>>(), ["mem_file.unit[\"n2\"]"]);
}

#[tokio::test]
async fn a_failure_on_one_node_skips_nothing_on_another() {
    let bench = Bench::default();
    let user = "[resource.mem_file.user]\non = { role = \"web\" }\nkey = \"user\"\ndepends_on = [\"mem_file.site\"]\n";
    bench.write(&(weighted([1, 1]) + user));
    bench.memory.world().broken.push("n1:shop".to_owned());
    let report = bench.apply(&PlanOptions::default()).await;
    let mut skipped: Vec<_> = report.outcomes.iter().filter(|o| matches!(o.result, ChangeResult::Skipped(_))).collect();
    assert_eq!(skipped.remove(0).address.to_string(), "mem_file.user[\"n1\"]");
    assert!(skipped.is_empty());
    assert!(bench.memory.world().items.contains_key("n2:user"));
}

#[tokio::test]
async fn resources_with_for_each_are_rolled_out_node_by_node() {
    let bench = Bench::default();
    let rest = "[resource.mem_file.unit]\non = { role = \"web\" }\nkey = \"unit\"\nrestart_on = [\"mem_file.site\"]\n[rollout.web]\nroles = [\"web\"]\n";
    bench.write(&(weighted([1, 1]) + rest));
    bench.apply(&PlanOptions::default()).await;
    bench.memory.world().log.clear();
    bench.write(&(weighted([2, 2]) + rest));
    bench.apply(&PlanOptions::default()).await;
    let log = bench.memory.world().log.clone();
    let nodes: Vec<_> = log.iter().map(|line| line.split_once(' ').unwrap().1[..2].to_owned()).collect();
    assert_eq!(nodes, [["n1"; 4], ["n2"; 4]].concat(), "{log:?}");
}
