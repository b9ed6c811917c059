//! `moorfast init`

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::path::Path;

use moorfast_engine::manifest::{GitSource, Manifest};

mod migrate;

use super::schema;
use super::state::Waiting;
use crate::error::Error;
use crate::exit::Exit;
use crate::invocation::Invocation;
use crate::modules::{self, Fetched};
use crate::render::text::{Line, Style, Text, styled};

const STARTER: &str = include_str!("init/main.toml");
/// The JSON Schema for editors, which the first line of the starter manifest names.
const SCHEMA: &str = "moorfast.schema.json";
const GITIGNORE: &str = "# The state, its key and the known hosts: they must not be committed.\n.moorfast/\n";

/// What a person can do with a new manifest.
const NEXT: &str = "
Next:
  moorfast plan                show what an apply would do, and why
  moorfast apply               do it, after a question
  moorfast drift               report changes made outside moorfast since then
  moorfast explain ssh_file    describe a resource type; `moorfast explain types` lists all
";

const EXAMPLES: &str = r#"Examples:
  moorfast init                            create a first manifest in this folder
  moorfast init --upgrade                  fetch newer versions of the modules
  moorfast init --migrate-state            move the state to the backend of the manifest"#;

/// Create a starter manifest, fetch modules, or move the state.
///
/// Creates a starter manifest that can be applied on this machine without root, the JSON Schema that editors use for it (moorfast.schema.json),
/// and adds the folder of the state to .gitignore. Never overwrites a file.
/// If there is a manifest that calls modules, fetches those from git and pins them in moorfast.lock.toml.
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub struct Init {
    /// Fetch the modules from git again, and pin the commits that their branches and tags name now
    #[arg(long, conflicts_with = "migrate_state")]
    upgrade: bool,
    /// Move the state to the backend that the manifest configures in [backend.*], and create no manifest
    #[arg(long)]
    migrate_state: bool,
    /// With --migrate-state: replace another state in that backend
    #[arg(long, requires = "migrate_state")]
    force: bool,
    #[command(flatten)]
    waiting: Waiting,
}

impl Init {
    pub(super) async fn run(self, invocation: &Invocation) -> Result<Exit, Error> {
        if self.migrate_state {
            return migrate::run(invocation, self.force, self.waiting.lock_timeout).await;
        }
        if let Some(lines) = fetch_modules(invocation, self.upgrade).await? {
            invocation.ui.out(lines)?;
            return Ok(Exit::Success);
        }
        let root = &invocation.globals.manifest;
        fs::create_dir_all(root).map_err(Error::file("create the folder", root))?;
        let path = root.join("main.toml");
        let mut file = match File::create_new(&path) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                return Err(Error::usage(
                    format!("cannot create {}: the file exists", path.display()),
                    "`moorfast init` never overwrites a file; run it in an empty folder",
                ));
            }
            other => other.map_err(Error::file("write", &path))?,
        };
        file.write_all(STARTER.as_bytes()).map_err(Error::file("write", &path))?;
        let schema = root.join(SCHEMA);
        match File::create_new(&schema).and_then(|mut file| file.write_all(schema::text(invocation).as_bytes())) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(Error::file("write", &schema)(error)),
            _ => {}
        }
        let ignore = root.join(".gitignore");
        ignore_state(&ignore).map_err(Error::file("write", &ignore))?;
        let created =
            Line::from("Created ") + styled(Style::Bold, path.display()) + ", which manages a file on this machine.";
        invocation.ui.out(Text::from(created) + NEXT)?;
        Ok(Exit::Success)
    }
}

/// Fetches the modules of an existing manifest. Returns `None` if there is no manifest, or it needs no repository.
async fn fetch_modules(invocation: &Invocation, upgrade: bool) -> Result<Option<Text>, Error> {
    let path = &invocation.globals.manifest;
    let is_needed = Manifest::repositories(path).is_ok_and(|repositories| !repositories.is_empty());
    if !is_needed && !upgrade {
        return Ok(None);
    }
    let fetched = modules::fetch(path, &invocation.root(), upgrade).await?;
    let line = |(source, fetched): (&GitSource, &Fetched)| match fetched {
        Fetched::Present => Line::from(format!("{source} is fetched already.")),
        Fetched::New(commit) => Line::from(format!("Fetched {source} at commit {commit}.")),
    };
    let mut lines: Text = fetched.iter().map(line).collect();
    if fetched.is_empty() {
        lines = [Line::from("The manifest calls no module from git.")].into_iter().collect();
    }
    Ok(Some(lines))
}

/// Adds the folder of the state to a `.gitignore`, which is created if it does not exist.
fn ignore_state(path: &Path) -> io::Result<()> {
    let known = match fs::read_to_string(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => String::new(),
        known => known?,
    };
    let is_ignored = |line: &str| line.trim().trim_start_matches("**/").trim_matches('/') == ".moorfast";
    if known.lines().any(is_ignored) {
        return Ok(());
    }
    let gap = if known.is_empty() || known.ends_with('\n') { "" } else { "\n" };
    let mut file = OpenOptions::new().create(true).append(true).open(path)?;
    file.write_all(format!("{gap}{GITIGNORE}").as_bytes())
}
