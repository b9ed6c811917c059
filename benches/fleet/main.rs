//! The speed of moorfast on real nodes and a real cluster, as ratios to the floor: what `ssh`, `sha256sum`, `scp` and a list of the API server need for
//! the same result in the same run. `benches/run` runs it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    clippy::print_stderr,
    dead_code,
    reason = "a benchmark fails by panic and tells by printing; it uses a part of the support code of the end-to-end tests"
)]

mod cluster;
mod nodes;
mod peers;
#[path = "../../tests/e2e/support/mod.rs"]
mod support;
mod table;

use support::testbed::Testbed;
use table::Table;

fn main() {
    let arguments: Vec<_> = std::env::args().skip(1).filter(|argument| !argument.starts_with("--")).collect();
    let mut table = Table::new(arguments.first().cloned().unwrap_or_default());
    let nodes = if table.selects(nodes::MANY_NODES) { nodes::NODES } else { 3 };
    let Some(testbed) = Testbed::up("benchmark", nodes) else { return };
    nodes::measure(&testbed, &mut table);
    cluster::measure(&testbed, &mut table);
    println!("{table}");
}
