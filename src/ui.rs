//! The only place that writes to standard output and standard error.

use std::io::{self, IsTerminal, Write};

use anstream::{AutoStream, ColorChoice};

use crate::error::Error;
use crate::render::style::{WARNING, paint};
use crate::render::{Room, failure, json, shown_json, shown_text};

/// Columns where the output is no terminal.
const WIDTH_OF_A_PIPE: usize = 120;

/// Standard output and standard error, with what is known of who reads them.
#[derive(Clone, Copy, Debug)]
pub struct Ui {
    color: ColorChoice,
    quiet: bool,
    json: bool,
}

impl Ui {
    /// With this choice of colours; quiet means only results and errors, and json that programs read the results.
    pub fn new(color: ColorChoice, quiet: bool, json: bool) -> Self {
        Self { color, quiet, json }
    }

    /// Writes why the command failed to standard error, in the form of the results.
    pub fn fail(&self, error: &Error) {
        self.err(match self.json {
            true => shown_json(&json::error(error)).into_owned(),
            false => failure::error(error, self.error_width()),
        });
    }

    /// Writes a result for a person to standard output. Characters that hide or reorder text are escaped.
    ///
    /// # Errors
    /// If nobody reads it any more, or it can't be written.
    pub fn out(&self, text: impl AsRef<str>) -> Result<(), Error> {
        self.data(shown_text(text.as_ref()))
    }

    /// Writes a JSON document to standard output. Characters that hide or reorder text are escaped as JSON does.
    ///
    /// # Errors
    /// As of [`Ui::out`].
    pub fn json(&self, document: impl AsRef<str>) -> Result<(), Error> {
        self.data(shown_json(document.as_ref()))
    }

    /// Writes a result to standard output as it is, for programs.
    ///
    /// # Errors
    /// As of [`Ui::out`].
    pub fn data(&self, text: impl AsRef<str>) -> Result<(), Error> {
        let mut stream = AutoStream::new(io::stdout(), self.color);
        stream.write_all(text.as_ref().as_bytes()).and_then(|()| stream.flush()).map_err(Error::Output)
    }

    /// Writes an error or a question to standard error; that nobody reads it changes nothing.
    pub fn err(&self, text: impl AsRef<str>) {
        let mut stream = AutoStream::new(io::stderr(), self.color);
        let text = shown_text(text.as_ref());
        let _ = stream.write_all(text.as_bytes()).and_then(|()| stream.flush());
    }

    /// Tells on standard error how things go, unless quiet.
    pub fn note(&self, text: impl AsRef<str>) {
        if !self.quiet {
            self.err(text);
        }
    }

    /// Warns on standard error.
    pub fn warn(&self, text: impl AsRef<str>) {
        self.err(format!("{} {}\n", paint(WARNING, "warning:"), text.as_ref()));
    }

    /// Can standard error show moving progress?
    pub fn is_live(&self) -> bool {
        !self.quiet && io::stderr().is_terminal()
    }

    /// Is there a person to ask?
    pub fn can_ask(&self) -> bool {
        io::stdin().is_terminal()
    }

    /// The columns of standard output.
    pub fn width(&self) -> usize {
        terminal_size::terminal_size_of(io::stdout()).map_or(WIDTH_OF_A_PIPE, |(width, _)| usize::from(width.0).max(60))
    }

    /// The columns of standard error.
    pub fn error_width(&self) -> usize {
        terminal_size::terminal_size_of(io::stderr()).map_or(WIDTH_OF_A_PIPE, |(width, _)| usize::from(width.0).max(60))
    }

    /// The room that a plan has; `full` shows texts whole.
    pub fn room(&self, full: bool) -> Room {
        Room { width: self.width(), full }
    }
}
