//! `moorfast graph`

use crate::error::Error;
use crate::exit::Exit;
use crate::inputs::Inputs;
use crate::render::graph;
use crate::session::Session;

/// Print the dependency graph.
///
/// Prints what depends on what.
#[derive(Debug, clap::Args)]
pub struct Graph {
    /// For Graphviz (the default)
    #[arg(long, conflicts_with = "mermaid")]
    dot: bool,
    /// For Mermaid
    #[arg(long)]
    mermaid: bool,
    #[command(flatten)]
    inputs: Inputs,
}

impl Graph {
    pub(super) fn run(self, session: &Session) -> Result<Exit, Error> {
        let workspace = session.workspace(&self.inputs)?;
        let view = workspace
            .graph()
            .map_err(|diagnostics| Error::Manifest { sources: workspace.manifest.sources.clone(), diagnostics })?;
        session.ui.out(if self.mermaid { graph::mermaid(&view) } else { graph::dot(&view) })?;
        Ok(Exit::Success)
    }
}
