//! `moorfast node check`

use moorfast_engine::model::NodeName;
use moorfast_engine::session::Interrupt;
use moorfast_engine::workspace::Workspace;

use crate::completer::{Names, completer};
use crate::error::Error;
use crate::exit::Exit;
use crate::inputs::Inputs;
use crate::invocation::Invocation;
use crate::render::access;
use crate::signals;

/// Check whether moorfast can use the nodes and clusters, and what to do where it cannot
///
/// Checks whether moorfast can use the nodes and clusters, and prints what to do where it cannot. Of a node: address, connection, host key, login, root,
/// shell, programs, systemd, package manager, clock, disk space and machine-id. Of a cluster: connection, login, version, and the permissions that the
/// manifest needs. Changes nothing, and needs no state.
///
/// Exit codes, as those of `drift`: 0 all well, 2 findings, 5 a target does not answer, 6 a host key or certificate is not the known one, or a host key is not
/// known yet, 1 any other error.
#[derive(Debug, clap::Args)]
pub struct Check {
    /// The nodes to check; without names, all nodes and clusters
    #[arg(value_name = "NAME", add = completer(Names::Nodes))]
    pub names: Vec<String>,
    /// Print the findings as JSON
    #[arg(long)]
    json: bool,
    /// How many nodes and clusters are checked at the same time
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u16).range(1..))]
    parallelism: u16,
    #[command(flatten)]
    pub inputs: Inputs,
}

impl Check {
    /// Checks the targets. `names` exist in the inventory.
    pub async fn run(&self, invocation: &Invocation, workspace: &Workspace) -> Result<Exit, Error> {
        let only: Vec<_> = self.names.iter().map(|name| NodeName(name.clone())).collect();
        let only = Some(only.as_slice()).filter(|only| !only.is_empty());
        let check =
            async |interrupt: &Interrupt| workspace.check_access(only, self.parallelism.into(), interrupt).await;
        let targets = signals::interruptible(check)
            .await
            .map_err(|failure| Error::Run { failure: Box::new(failure), manifest: workspace.manifest.clone() })?;
        match self.json {
            true => invocation.ui.json(format!("{:#}\n", access::json(&targets)))?,
            false => invocation.ui.out(access::text(&targets))?,
        }
        Ok(access::exit(&targets))
    }
}
