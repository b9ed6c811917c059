//! `moorfast schema`

use moorfast_engine::Manifest;

use crate::error::Error;
use crate::exit::Exit;
use crate::session::{Session, providers};

/// Prints the JSON Schema of the manifest. Editors with a TOML language server complete and check with it.
#[derive(Debug, clap::Args)]
pub struct Schema {}

impl Schema {
    pub(super) fn run(self, session: &Session) -> Result<Exit, Error> {
        session.ui.out(format!("{:#}\n", Manifest::json_schema(&providers())))?;
        Ok(Exit::Success)
    }
}
