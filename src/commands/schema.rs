//! `moorfast schema`

use moorfast_engine::{Catalogue, json_schema};

use crate::error::Error;
use crate::exit::Exit;
use crate::session::{Session, providers};

/// Print the JSON Schema of the manifest, for editors.
///
/// Prints the JSON Schema of the manifest. Editors with a TOML language server complete and check with it.
#[derive(Debug, clap::Args)]
pub struct Schema {}

impl Schema {
    pub(super) fn run(self, session: &Session) -> Result<Exit, Error> {
        let providers = providers();
        let catalogue = Catalogue::new(&providers.iter().map(AsRef::as_ref).collect::<Vec<_>>(), Vec::new());
        session.ui.out(format!("{:#}\n", json_schema(&catalogue)))?;
        Ok(Exit::Success)
    }
}
