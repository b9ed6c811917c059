//! `moorfast console`

use std::io::{self, BufRead};

use moorfast_engine::state::Snapshot;
use moorfast_engine::workspace::Workspace;
use rustyline::DefaultEditor;
use rustyline::error::ReadlineError;

use crate::error::Error;
use crate::exit::Exit;
use crate::inputs::Inputs;
use crate::invocation::Invocation;
use crate::render::diagnostic;
use crate::render::report::shown;

/// Evaluate expressions.
///
/// Evaluates expressions with variables, locals, functions and the resources in the state.
/// On a terminal it shows a prompt; otherwise it reads one expression per line from standard input.
#[derive(Debug, clap::Args)]
pub struct Console {
    /// Evaluate this expression and exit (can be repeated)
    #[arg(short = 'e', long = "evaluate", value_name = "EXPRESSION")]
    expressions: Vec<String>,
    #[command(flatten)]
    inputs: Inputs,
}

impl Console {
    pub(super) async fn run(self, invocation: &Invocation) -> Result<Exit, Error> {
        let workspace = invocation.checked_workspace(&self.inputs)?;
        invocation.read_static_data(&workspace).await?;
        let store = match invocation.existing_store().await? {
            Some(store) => store,
            None => invocation.store().await?,
        };
        let snapshot = store.snapshot().await?;
        if !self.expressions.is_empty() {
            return evaluate_all(invocation, &workspace, &snapshot, self.expressions.into_iter().map(Ok));
        }
        if invocation.ui.can_ask() {
            return prompt(invocation, &workspace, &snapshot);
        }
        evaluate_all(invocation, &workspace, &snapshot, io::stdin().lock().lines())
    }
}

/// Evaluates each line. The exit code is an error if one of them failed.
fn evaluate_all(
    invocation: &Invocation,
    workspace: &Workspace,
    snapshot: &Snapshot,
    lines: impl Iterator<Item = io::Result<String>>,
) -> Result<Exit, Error> {
    let mut exit = Exit::Success;
    for line in lines {
        let line = line.map_err(Error::file("read", "standard input"))?;
        if !line.trim().is_empty() && !evaluate(invocation, workspace, snapshot, &line)? {
            exit = Exit::Error;
        }
    }
    Ok(exit)
}

fn prompt(invocation: &Invocation, workspace: &Workspace, snapshot: &Snapshot) -> Result<Exit, Error> {
    let failed = |error: ReadlineError| Error::File {
        doing: "read",
        path: "the terminal".into(),
        source: io::Error::other(error),
    };
    let mut editor = DefaultEditor::new().map_err(failed)?;
    loop {
        match editor.readline("> ") {
            Ok(line) if line.trim() == "exit" => return Ok(Exit::Success),
            Ok(line) if line.trim().is_empty() => {}
            Ok(line) => {
                // The expression is evaluated even if it cannot be added to the history.
                let _ = editor.add_history_entry(&line);
                evaluate(invocation, workspace, snapshot, &line)?;
            }
            Err(ReadlineError::Eof | ReadlineError::Interrupted) => return Ok(Exit::Success),
            Err(error) => return Err(failed(error)),
        }
    }
}

/// Prints the value of an expression or its errors. Returns whether it had a value.
fn evaluate(invocation: &Invocation, workspace: &Workspace, snapshot: &Snapshot, text: &str) -> Result<bool, Error> {
    match workspace.evaluate(text.trim(), snapshot) {
        Ok(value) => {
            invocation.ui.out(format!("{}\n", shown(&value)))?;
            Ok(true)
        }
        Err(found) => {
            invocation.ui.err(diagnostic::of_expression(&workspace.manifest.sources, text.trim(), &found));
            Ok(false)
        }
    }
}
