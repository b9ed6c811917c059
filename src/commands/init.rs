//! `moorfast init`

use std::fs::{self, File};
use std::io::{ErrorKind, Write};

mod migrate;

use super::state::Waiting;
use crate::error::Error;
use crate::exit::Exit;
use crate::render::style::{BOLD, paint};
use crate::session::Session;

const STARTER: &str = include_str!("init/main.toml");
const GITIGNORE: &str =
    "# The state, its key and known hosts: they belong to whoever applies, not into the repository.\n.moorfast/\n";

/// Write a starter manifest into the folder, or move the state.
///
/// Writes a starter manifest that runs as it is, on this machine and without root. Never overwrites anything.
#[derive(Debug, clap::Args)]
pub struct Init {
    /// Move the state from where it is to where the manifest's [backend.*] keeps it, and write nothing else
    #[arg(long)]
    migrate_state: bool,
    /// With --migrate-state: even over another state that is there
    #[arg(long, requires = "migrate_state")]
    force: bool,
    #[command(flatten)]
    waiting: Waiting,
}

impl Init {
    pub(super) async fn run(self, session: &Session) -> Result<Exit, Error> {
        if self.migrate_state {
            return migrate::run(session, self.force, self.waiting.lock_timeout).await;
        }
        let root = &session.globals.manifest;
        fs::create_dir_all(root).map_err(Error::file("make the folder", root))?;
        let path = root.join("main.toml");
        let mut file = match File::create_new(&path) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                return Err(Error::usage(
                    format!("{} is there already", path.display()),
                    "`moorfast init` never overwrites; use it in an empty folder",
                ));
            }
            other => other.map_err(Error::file("write", &path))?,
        };
        file.write_all(STARTER.as_bytes()).map_err(Error::file("write", &path))?;
        let ignore = root.join(".gitignore");
        if let Ok(mut file) = File::create_new(&ignore) {
            file.write_all(GITIGNORE.as_bytes()).map_err(Error::file("write", &ignore))?;
        }
        let next = "Look at it, then: moorfast plan, moorfast apply.";
        session.ui.out(format!("Wrote {}. {next}\n", paint(BOLD, path.display())))?;
        Ok(Exit::Success)
    }
}
