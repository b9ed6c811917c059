//! `moorfast fmt`

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use moorfast_engine::manifest::is_rust_configuration;
use moorfast_engine::model::{SourceFile, Sources};
use moorfast_engine::state::bounded;

use crate::atomic;
use crate::error::Error;
use crate::exit::Exit;
use crate::invocation::Invocation;
use crate::render::text::{Line, Style, styled};
use crate::render::text_diff;

/// Format manifests.
///
/// Formats manifests: spaces, indentation and the alignment of comments. Never changes their meaning.
#[derive(Debug, clap::Args)]
pub struct Fmt {
    /// Files and folders; `-` formats standard input to standard output [default: the manifest]
    #[arg(value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// Write nothing; exit with 3 if a file is not formatted
    #[arg(long)]
    check: bool,
    /// Show the differences
    #[arg(long)]
    diff: bool,
    /// Also format files in subfolders
    #[arg(long)]
    recursive: bool,
}

impl Fmt {
    pub(super) fn run(self, invocation: &Invocation) -> Result<Exit, Error> {
        if self.paths == [Path::new("-")] {
            return self.standard_input(invocation);
        }
        let paths = if self.paths.is_empty() { vec![invocation.globals.manifest.clone()] } else { self.paths.clone() };
        let mut files = Vec::new();
        for path in &paths {
            collect(path, self.recursive, &mut files)?;
        }
        let mut unformatted = 0;
        for path in &files {
            unformatted += usize::from(self.file(path, invocation)?);
        }
        Ok(if self.check && unformatted > 0 { Exit::Unformatted } else { Exit::Success })
    }

    fn standard_input(&self, invocation: &Invocation) -> Result<Exit, Error> {
        let text = bounded::read_stream_text(io::stdin(), bounded::TEXT);
        let text = text.map_err(Error::file("read", "standard input"))?;
        let formatted = format(Path::new("standard input"), &text)?;
        if self.check {
            return Ok(if formatted == text { Exit::Success } else { Exit::Unformatted });
        }
        invocation.ui.data(formatted)?;
        Ok(Exit::Success)
    }

    /// Formats a file. Returns whether its text changes.
    fn file(&self, path: &Path, invocation: &Invocation) -> Result<bool, Error> {
        let text = bounded::read_text(path, bounded::TEXT).map_err(Error::file("read", path))?;
        let formatted = format(path, &text)?;
        if formatted == text {
            return Ok(false);
        }
        invocation.ui.out(format!("{}\n", path.display()))?;
        if self.diff {
            invocation.ui.out(text_diff(&text, &formatted))?;
        }
        if !self.check {
            replace(path, &formatted).map_err(Error::file("write", path))?;
            invocation.ui.note(Line::from("Formatted ") + styled(Style::Bold, path.display()) + ".");
        }
        Ok(true)
    }
}

fn format(path: &Path, text: &str) -> Result<String, Error> {
    moorfast_engine::manifest::format(text).map_err(|diagnostic| {
        let file = SourceFile { path: path.to_owned(), text: text.to_owned() };
        Error::Manifest { sources: Sources { files: vec![file], ..Sources::default() }, diagnostics: vec![*diagnostic] }
    })
}

/// Replaces the file atomically, and keeps its mode.
fn replace(path: &Path, text: &str) -> io::Result<()> {
    let mode = fs::metadata(path)?.permissions().mode() & 0o7777;
    atomic::write(path, mode, text.as_bytes())
}

fn collect(path: &Path, recursive: bool, files: &mut Vec<PathBuf>) -> Result<(), Error> {
    if !path.is_dir() {
        files.push(path.to_owned());
        return Ok(());
    }
    let entries = path.read_dir().map_err(Error::file("read", path))?;
    let mut entries: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    entries.sort();
    for entry in entries {
        let name = entry.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        if name.starts_with('.') {
            continue;
        }
        if entry.is_dir() && recursive {
            collect(&entry, recursive, files)?;
        } else if entry.is_file() && name.ends_with(".toml") && !is_rust_configuration(&name) {
            files.push(entry);
        }
    }
    Ok(())
}
