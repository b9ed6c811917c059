//! `moorfast show`

use std::path::PathBuf;

use crate::error::Error;
use crate::exit::Exit;
use crate::plan_file;
use crate::render::{json, plan, record};
use crate::session::Session;

/// Show the state, or a saved plan.
///
/// Shows the state, or a saved plan. Needs no manifest.
#[derive(Debug, clap::Args)]
pub struct Show {
    /// A plan that `moorfast plan --out FILE` saved [default: the state]
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Show long texts whole
    #[arg(long)]
    full: bool,
}

impl Show {
    pub(super) async fn run(self, session: &Session) -> Result<Exit, Error> {
        let room = session.ui.room(self.full);
        if let Some(file) = &self.file {
            let saved = plan_file::read(file)?;
            let text = if self.json { format!("{:#}\n", json::plan(&saved)) } else { plan::plan(&saved, room) };
            session.ui.out(text)?;
            return Ok(Exit::Success);
        }
        let text = match session.existing_store().await? {
            Some(store) if self.json => {
                store.snapshot().await?.to_json().map_err(|error| Error::Output(error.into()))? + "\n"
            }
            Some(store) => record::snapshot(&store.snapshot().await?, room),
            None if self.json => "{}\n".to_owned(),
            None => "There is no state yet.\n".to_owned(),
        };
        session.ui.out(text)?;
        Ok(Exit::Success)
    }
}
