//! The only place that writes to standard output and standard error.

use std::io::{self, IsTerminal, Write};

use anstream::{AutoStream, ColorChoice};

use crate::error::Error;
use crate::render::style::{WARNING, paint};
use crate::render::{TextOptions, escape_json, escape_text, failure, json};

/// The width in columns if the output is not a terminal.
const WIDTH_OF_A_PIPE: usize = 120;

/// Standard output and standard error, with the options about their format.
#[derive(Clone, Copy, Debug)]
pub struct Ui {
    color: ColorChoice,
    quiet: bool,
    json: bool,
}

impl Ui {
    /// Creates the output. `quiet` is whether to print only results and errors, `json` whether results are JSON.
    pub fn new(color: ColorChoice, quiet: bool, json: bool) -> Self {
        Self { color, quiet, json }
    }

    /// Writes the error of a failed command to standard error, as text or JSON.
    pub fn fail(&self, error: &Error) {
        self.err(match self.json {
            true => escape_json(&json::error(error)).into_owned(),
            false => failure::error(error, self.error_width()),
        });
    }

    /// Writes a result for a person to standard output. Characters that hide or reorder text are escaped.
    ///
    /// # Errors
    /// If standard output is closed or cannot be written.
    pub fn out(&self, text: impl AsRef<str>) -> Result<(), Error> {
        self.data(escape_text(text.as_ref()))
    }

    /// Writes a JSON document to standard output. Characters that hide or reorder text are escaped as JSON does.
    ///
    /// # Errors
    /// The same as [`Ui::out`].
    pub fn json(&self, document: impl AsRef<str>) -> Result<(), Error> {
        self.data(escape_json(document.as_ref()))
    }

    /// Writes a result to standard output as it is, for programs.
    ///
    /// # Errors
    /// The same as [`Ui::out`].
    pub fn data(&self, text: impl AsRef<str>) -> Result<(), Error> {
        let mut stream = AutoStream::new(io::stdout(), self.color);
        stream.write_all(text.as_ref().as_bytes()).and_then(|()| stream.flush()).map_err(Error::Output)
    }

    /// Writes a message to standard error. Errors of writing are ignored.
    pub fn err(&self, text: impl AsRef<str>) {
        let mut stream = AutoStream::new(io::stderr(), self.color);
        let text = escape_text(text.as_ref());
        let _ = stream.write_all(text.as_bytes()).and_then(|()| stream.flush());
    }

    /// Writes a note about progress to standard error, unless quiet.
    pub fn note(&self, text: impl AsRef<str>) {
        if !self.quiet {
            self.err(text);
        }
    }

    /// Writes a warning to standard error.
    pub fn warn(&self, text: impl AsRef<str>) {
        self.err(format!("{} {}\n", paint(WARNING, "warning:"), text.as_ref()));
    }

    /// Returns whether standard error can show progress bars.
    pub fn is_live(&self) -> bool {
        !self.quiet && io::stderr().is_terminal()
    }

    /// Returns whether a person can answer questions on standard input.
    pub fn can_ask(&self) -> bool {
        io::stdin().is_terminal()
    }

    /// Returns the width of standard output in columns.
    pub fn width(&self) -> usize {
        terminal_size::terminal_size_of(io::stdout()).map_or(WIDTH_OF_A_PIPE, |(width, _)| usize::from(width.0).max(60))
    }

    /// Returns the width of standard error in columns.
    pub fn error_width(&self) -> usize {
        terminal_size::terminal_size_of(io::stderr()).map_or(WIDTH_OF_A_PIPE, |(width, _)| usize::from(width.0).max(60))
    }

    /// Returns the options of text on standard output. `full` is whether to show long texts in full.
    pub fn text_options(&self, full: bool) -> TextOptions {
        TextOptions { width: self.width(), full }
    }
}
