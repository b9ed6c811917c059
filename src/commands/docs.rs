//! `moorfast docs`: writes the generated reference pages. A test checks that the committed pages are up to date.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use clap::Command;
use moorfast_engine::model::Schema;
use moorfast_engine::provider::{Provider, ResourceType};
use moorfast_engine::reference::{functions_reference, reference};

use super::schema;
use crate::error::Error;
use crate::error_codes;
use crate::exit::{self, Exit};
use crate::invocation::Invocation;

/// The JSON Schema of the manifest, in the folder of the pages.
const SCHEMA: &str = "schema/moorfast.schema.json";

/// Write the reference pages.
///
/// Writes the reference pages into a folder, and the JSON Schema of the manifest.
#[derive(Debug, clap::Args)]
pub struct Docs {
    /// An existing folder
    folder: PathBuf,
    /// Write the man pages instead
    #[arg(long)]
    man: bool,
}

impl Docs {
    pub(super) fn run(self, invocation: &Invocation, command_line: Command) -> Result<Exit, Error> {
        if !self.folder.is_dir() {
            return Err(Error::usage(
                format!("there is no folder {}", self.folder.display()),
                "this command writes the reference pages of moorfast's own documentation; `moorfast help` lists the commands",
            ));
        }
        if self.man {
            clap_mangen::generate_to(command_line, &self.folder).map_err(Error::file("write", &self.folder))?;
            return Ok(Exit::Success);
        }
        let schema = (SCHEMA.to_owned(), schema::text(invocation));
        for (name, page) in pages(&invocation.providers, command_line).into_iter().chain([schema]) {
            let path = self.folder.join(&name);
            let folder = path.parent().unwrap_or(&self.folder);
            fs::create_dir_all(folder).map_err(Error::file("create the folder", folder))?;
            fs::write(&path, page).map_err(Error::file("write", &path))?;
            invocation.ui.note(format!("Wrote {}.\n", path.display()));
        }
        Ok(Exit::Success)
    }
}

/// Returns every page with its path.
fn pages(providers: &[Arc<dyn Provider>], command_line: Command) -> Vec<(String, String)> {
    let mut pages = vec![
        ("cli.md".to_owned(), help(command_line)),
        ("exit-codes.md".to_owned(), exit::reference()),
        ("functions.md".to_owned(), functions_reference()),
        ("types.md".to_owned(), types(providers)),
        ("errors.md".to_owned(), errors(providers)),
    ];
    for provider in providers {
        let (name, schema) = (provider.name(), provider.config_schema());
        pages.push((format!("providers/{name}.md"), reference(&format!("providers.{name}"), &schema)));
        for (_, folder, types) in kinds(provider) {
            let types = types.iter().map(|resource_type| resource_type.declaration());
            pages.extend(types.map(|kind| (format!("{folder}/{}.md", kind.name), reference(kind.name, &kind.schema))));
        }
    }
    let codes = error_codes::all(providers);
    pages.extend(codes.iter().map(|code| (format!("errors/{code}.md"), code.page().to_owned())));
    pages
}

/// Returns the list of all providers, resource types and data sources.
pub(super) fn types(providers: &[Arc<dyn Provider>]) -> String {
    let mut page = "# Providers, resource types and data sources\n\n## Configuration of the providers\n\n".to_owned();
    for provider in providers {
        let (name, summary) = (provider.name(), summary(&provider.config_schema()));
        page.push_str(&format!("- [providers.{name}](providers/{name}.md): {summary}\n"));
    }
    for provider in providers {
        for (title, folder, types) in kinds(provider) {
            page.push_str(&format!("\n## {title} of the provider {}\n\n", provider.name()));
            for kind in types.iter().map(|resource_type| resource_type.declaration()) {
                page.push_str(&format!("- [{0}]({folder}/{0}.md): {1}\n", kind.name, summary(&kind.schema)));
            }
        }
    }
    page
}

/// Returns the list of all error codes.
pub(super) fn errors(providers: &[Arc<dyn Provider>]) -> String {
    let mut page = "# Error codes\n\n`moorfast explain CODE` prints the page of a code.\n\n".to_owned();
    for code in error_codes::all(providers) {
        page.push_str(&format!("- [{code}](errors/{code}.md): {}\n", code.title()));
    }
    page
}

/// Returns the resource types and the data sources of a provider that has any, with their heading and the folder of their pages.
fn kinds(
    provider: &Arc<dyn Provider>,
) -> impl Iterator<Item = (&'static str, &'static str, Vec<Arc<dyn ResourceType>>)> {
    let kinds =
        [("Resources", "resources", provider.resource_types()), ("Data sources", "data", provider.data_sources())];
    kinds.into_iter().filter(|(.., types)| !types.is_empty())
}

/// Returns the first sentence of the documentation.
fn summary(schema: &Schema) -> String {
    let text = schema.doc.trim().split("\n\n").next().unwrap_or_default().replace('\n', " ");
    match text.split_once(". ") {
        Some((first, _)) => format!("{first}."),
        None => text,
    }
}

/// Returns the page with the help of every command.
fn help(command_line: Command) -> String {
    let mut page = "# The command line\n\nThe help of every command, as `--help` prints it. Every command takes the global options too.\n".to_owned();
    let mut root = command_line.term_width(100);
    root.build();
    append(&root, "moorfast", &mut page);
    page
}

fn append(command: &Command, name: &str, page: &mut String) {
    let help = command.clone().bin_name(name).render_long_help();
    let lines: Vec<_> = help.to_string().lines().map(|line| line.trim_end().to_owned()).collect();
    page.push_str(&format!("\n## `{name}`\n\n```text\n{}\n```\n", lines.join("\n").trim_end()));
    for sub in command.get_subcommands().filter(|sub| !sub.is_hide_set() && sub.get_name() != "help") {
        let sub = sub.clone().mut_args(|arg| if arg.is_global_set() { arg.hide(true) } else { arg });
        append(&sub, &format!("{name} {}", sub.get_name()), page);
    }
}
