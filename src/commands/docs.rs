//! `moorfast docs`: the pages that are made from the program itself. A test keeps them in step.

use std::fs;
use std::path::PathBuf;

use clap::{Command, CommandFactory};
use moorfast_engine::{functions_reference, reference};

use crate::cli::Cli;
use crate::error::Error;
use crate::exit::{self, Exit};
use crate::session::{Session, catalogue};

/// Writes the reference pages into a folder.
#[derive(Debug, clap::Args)]
pub struct Docs {
    /// Which folder
    #[arg(default_value = "docs")]
    folder: PathBuf,
}

impl Docs {
    pub(super) fn run(self, session: &Session) -> Result<Exit, Error> {
        let pages = [
            ("cli.md", command_line()),
            ("exit-codes.md", exit::reference()),
            ("functions.md", functions_reference()),
            ("resources.md", resources()),
        ];
        for (name, page) in pages {
            let path = self.folder.join(name);
            fs::write(&path, page).map_err(Error::file("write", &path))?;
            session.ui.note(format!("Wrote {}.\n", path.display()));
        }
        Ok(Exit::Success)
    }
}

/// Every resource type and data source on one page.
fn resources() -> String {
    let catalogue = catalogue();
    let types = catalogue.resource_types.iter().map(|t| reference(t).replacen("# ", "## ", 1));
    let sources = catalogue.data_sources.iter().map(|t| reference(t).replacen("# ", "## data.", 1));
    let pages: Vec<_> = types.chain(sources).collect();
    format!("# Resource types and data sources\n\n{}", pages.join("\n"))
}

/// The help of every command on one page.
fn command_line() -> String {
    let mut page = "# The command line\n\nThe help of every command, as `--help` prints it.\n".to_owned();
    let mut root = Cli::command().term_width(100);
    root.build();
    append(&root, "moorfast", &mut page);
    page
}

fn append(command: &Command, name: &str, page: &mut String) {
    let help = command.clone().bin_name(name).render_long_help();
    let lines: Vec<_> = help.to_string().lines().map(|line| line.trim_end().to_owned()).collect();
    page.push_str(&format!("\n## `{name}`\n\n```text\n{}\n```\n", lines.join("\n").trim_end()));
    for sub in command.get_subcommands().filter(|sub| !sub.is_hide_set() && sub.get_name() != "help") {
        append(sub, &format!("{name} {}", sub.get_name()), page);
    }
}
