//! `moorfast schema`

use moorfast_engine::reference::json_schema;

use crate::error::Error;
use crate::exit::Exit;
use crate::invocation::Invocation;

/// Print the JSON Schema of the manifest, for editors.
///
/// Prints the JSON Schema of the manifest. Editors with a TOML language server use it for completion and checks.
#[derive(Debug, clap::Args)]
pub struct Schema {}

impl Schema {
    pub(super) fn run(self, invocation: &Invocation) -> Result<Exit, Error> {
        invocation.ui.json(text(invocation))?;
        Ok(Exit::Success)
    }
}

/// Returns the text of the schema for the providers of this binary.
pub(super) fn text(invocation: &Invocation) -> String {
    format!("{:#}\n", json_schema(&invocation.catalogue()))
}
