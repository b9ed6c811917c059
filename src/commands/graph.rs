//! `moorfast graph`

use crate::error::Error;
use crate::exit::Exit;
use crate::inputs::Inputs;
use crate::invocation::Invocation;
use crate::render::graph;
use crate::render::picture::Picture;

/// Print the dependency graph.
///
/// Prints the dependency graph of the manifest.
#[derive(Debug, clap::Args)]
pub struct Graph {
    /// Print the graph for Graphviz (default)
    #[arg(long, conflicts_with_all = ["mermaid", "svg"])]
    dot: bool,
    /// Print the graph for Mermaid
    #[arg(long, conflicts_with = "svg")]
    mermaid: bool,
    /// Print the graph as a picture: one box per resource, dependencies on the left
    #[arg(long)]
    svg: bool,
    #[command(flatten)]
    inputs: Inputs,
}

impl Graph {
    pub(super) async fn run(self, invocation: &Invocation) -> Result<Exit, Error> {
        let workspace = invocation.workspace(&self.inputs)?;
        invocation.read_static_data(&workspace).await?;
        let view = workspace
            .graph()
            .map_err(|diagnostics| Error::Manifest { sources: workspace.manifest.sources.clone(), diagnostics })?;
        let text = match self {
            Graph { svg: true, .. } => Picture::of(&view).svg().into_string(),
            Graph { mermaid: true, .. } => graph::mermaid(&view),
            _ => graph::dot(&view),
        };
        invocation.ui.out(text)?;
        Ok(Exit::Success)
    }
}
