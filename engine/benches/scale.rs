//! How planning and applying grow with the number of resources, from 1,000 to 100,000 in one run. And what a thousand nodes from data cost, against nodes that
//! are written out.
//!
//! `cargo bench -p moorfast-engine`

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a benchmark fails by panic and tells by printing")]

#[path = "../tests/support/mod.rs"]
mod support;

use std::time::{Duration, Instant};

use moorfast_engine::plan::PlanOptions;
use support::Bench;

/// The allocator of the binary.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// What each stage needed.
struct Stages {
    load: Cost,
    apply: Cost,
    plan: Cost,
}

/// What a stage needed.
#[derive(Clone, Copy)]
struct Cost {
    time: Duration,
    /// The largest amount of memory of the process, with the objects of the benchmark, in KiB.
    memory: u64,
}

/// The numbers of resources.
const COUNTS: [usize; 3] = [1_000, 10_000, 100_000];

fn main() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let stages = COUNTS.map(|count| runtime.block_on(measure(count)));
    let header = ["resources", "1,000", "10,000", "100,000", "growth from 10,000: n^", "memory of 100,000"];
    println!("{:<28}{:>12}{:>12}{:>12}{:>24}{:>20}", header[0], header[1], header[2], header[3], header[4], header[5]);
    for (name, of_stage) in [
        ("load the manifest", (|stages| stages.load) as fn(&Stages) -> Cost),
        ("first apply", |stages| stages.apply),
        ("plan without changes", |stages| stages.plan),
    ] {
        let costs = stages.each_ref().map(of_stage);
        let [small, medium, large] = costs.map(|cost| cost.time);
        let exponent = (large.as_secs_f64() / medium.as_secs_f64()).log10();
        let memory = format!("{} MiB", costs[2].memory >> 10);
        println!("{name:<28}{small:>12.0?}{medium:>12.0?}{large:>12.0?}{exponent:>24.2}{memory:>20}");
    }
    let literal = runtime.block_on(measure_nodes(&literal_nodes(), DIRECT));
    let generated = runtime.block_on(measure_nodes(GENERATED_NODES, DIRECT));
    println!(
        "\n{:<28}{:>12}{:>12}{:>24}",
        "1,000 nodes × 20 resources", "written out", "for_each", "for_each / written out"
    );
    for (name, literal, generated) in
        [("validate", literal.0, generated.0), ("plan from an empty state", literal.1, generated.1)]
    {
        let ratio = generated.as_secs_f64() / literal.as_secs_f64();
        println!("{name:<28}{literal:>12.0?}{generated:>12.0?}{ratio:>24.2}");
    }
    let through = runtime.block_on(measure_nodes(GENERATED_NODES, THROUGH_LOCALS));
    println!("\n{:<28}{:>12}{:>12}{:>24}", "1,000 nodes × 20 resources", "direct", "locals", "locals / direct");
    for (name, direct, locals) in
        [("validate", generated.0, through.0), ("plan from an empty state", generated.1, through.1)]
    {
        let ratio = locals.as_secs_f64() / direct.as_secs_f64();
        println!("{name:<28}{direct:>12.0?}{locals:>12.0?}{ratio:>24.2}");
    }
}

/// The value of each resource.
const DIRECT: &str = "value = \"${node.address} ${node.vars.rack}\"\n";

/// The same value, with a local that lists all nodes, and with one of the nodes.
const THROUGH_LOCALS: &str =
    "value = '${node.address} ${node.vars.rack}${local.nothing}${nodes[\"n1\"].name == \"n1\" ? \"\" : \"x\"}'\n";
const LOCALS: &str =
    "[locals]\nhosts = '${join(\",\", [for n in nodes : n.address])}'\nnothing = '${substr(local.hosts, 0, 0)}'\n";

/// The same nodes as those of [`literal_nodes`].
const GENERATED_NODES: &str = "[nodes.worker]\nfor_each = '${[for i in range(1000) : \"n${i}\"]}'\naddress = \"${each.key}.example.org\"\nroles = [\"worker\"]\nvars = { rack = \"r-${each.value}\" }\n";

fn literal_nodes() -> String {
    let node = |i| {
        format!("[nodes.n{i}]\naddress = \"n{i}.example.org\"\nroles = [\"worker\"]\nvars = {{ rack = \"r-n{i}\" }}\n")
    };
    (0..1000).map(node).collect()
}

/// Returns the times of a validation and of a plan.
async fn measure_nodes(nodes: &str, value: &str) -> (Duration, Duration) {
    let bench = Bench::default();
    let resource = |i: usize| {
        let before = if i == 0 { String::new() } else { format!("depends_on = [\"mem_file.r{}\"]\n", i - 1) };
        format!("[resource.mem_file.r{i}]\non = {{ role = \"worker\" }}\nkey = \"k{i}\"\n{value}{before}")
    };
    bench.write(&(nodes.to_owned() + LOCALS + &(0..20).map(resource).collect::<String>()));
    let validate = time(async { assert!(bench.workspace().validate().is_empty()) }).await;
    let plan =
        time(async { assert_eq!(bench.plan(&PlanOptions::default()).await.unwrap().changes.len(), 20_000) }).await;
    (validate, plan)
}

/// Returns the largest amount of memory that this process has used since the last call, in KiB.
fn peak_memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    // `man 5 proc_pid_clear_refs`: 5 resets the peak.
    std::fs::write("/proc/self/clear_refs", "5").unwrap();
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or_default()
}

async fn measure(count: usize) -> Stages {
    let bench = Bench::default();
    bench.write(&manifest(count));
    let load = cost(async { drop(bench.workspace()) }).await;
    let apply = cost(async { drop(bench.apply(&PlanOptions::default()).await) }).await;
    let plan = cost(async { assert!(!bench.plan(&PlanOptions::default()).await.unwrap().has_changes()) }).await;
    Stages { load, apply, plan }
}

async fn cost(work: impl Future<Output = ()>) -> Cost {
    peak_memory();
    let time = time(work).await;
    Cost { time, memory: peak_memory() }
}

/// Chains of ten: what a node's resources look like.
fn manifest(count: usize) -> String {
    let item = |i: usize| {
        let before = if i.is_multiple_of(10) { "[]".to_owned() } else { format!("[\"mem_item.r{}\"]", i - 1) };
        format!("[resource.mem_item.r{i}]\nkey = \"k{i}\"\nvalue = '${{\"v\"}}{i}'\ndepends_on = {before}\n\n")
    };
    (0..count).map(item).collect()
}

async fn time(work: impl Future<Output = ()>) -> Duration {
    let start = Instant::now();
    work.await;
    start.elapsed()
}
