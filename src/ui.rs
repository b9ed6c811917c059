//! The only place that writes to standard output and standard error.

use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd;

use anstream::stream::RawStream;
use anstream::{AutoStream, ColorChoice};
use terminal_size::{Width, terminal_size_of};

use crate::error::Error;
use crate::render::terminal::Terminal;
use crate::render::text::{Line, Text};
use crate::render::wording::warning;
use crate::render::{escape_json, escape_text, failure, json};

/// The width in columns if the output is not a terminal.
const WIDTH_OF_A_PIPE: usize = 120;
/// The width in columns that a narrow terminal is treated as.
const MINIMUM_WIDTH: usize = 60;

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
        match self.json {
            true => self.err(escape_json(&json::error(error)).into_owned()),
            false => self.err(failure::error(error)),
        }
    }

    /// Writes a result for a person to standard output. Characters that hide or reorder text are escaped.
    ///
    /// # Errors
    /// If standard output is closed or cannot be written.
    pub fn out(&self, text: impl Into<Text>) -> Result<(), Error> {
        self.data(self.terminal(&io::stdout()).write(&text.into()))
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
        let mut stream = io::stdout();
        stream.write_all(text.as_ref().as_bytes()).and_then(|()| stream.flush()).map_err(Error::Output)
    }

    /// Writes a message to standard error. Errors of writing are ignored.
    pub fn err(&self, text: impl Into<Text>) {
        write_error(&self.error_terminal().write(&text.into()));
    }

    /// Writes a question to standard error. The answer is typed behind it.
    pub fn ask(&self, question: impl Into<Text>) {
        write_error(self.error_terminal().write(&question.into()).trim_end_matches('\n'));
    }

    /// Writes a note about progress to standard error, unless quiet.
    pub fn note(&self, text: impl Into<Text>) {
        if !self.quiet {
            self.err(text);
        }
    }

    /// Writes a warning to standard error.
    pub fn warn(&self, text: impl Into<Line>) {
        self.err(warning(text));
    }

    /// Writes help, the version or an error of the command line, in the colours of clap.
    ///
    /// # Errors
    /// The same as [`Ui::out`], if the text is not an error.
    pub fn command_line(&self, message: &clap::Error) -> Result<(), Error> {
        let terminal = if message.use_stderr() { self.error_terminal() } else { self.terminal(&io::stdout()) };
        let text = message.render().ansi().to_string();
        let text = escape_text(&text);
        let text = if terminal.colors { text } else { anstream::adapter::strip_str(&text).to_string().into() };
        if message.use_stderr() {
            write_error(&text);
            return Ok(());
        }
        self.data(text)
    }

    /// Returns whether standard error can show progress bars.
    pub fn is_live(&self) -> bool {
        !self.quiet && io::stderr().is_terminal()
    }

    /// Returns whether a person can answer questions on standard input.
    pub fn can_ask(&self) -> bool {
        io::stdin().is_terminal()
    }

    /// Returns standard error as a terminal.
    pub fn error_terminal(&self) -> Terminal {
        self.terminal(&io::stderr())
    }

    fn terminal(&self, stream: &(impl RawStream + AsFd)) -> Terminal {
        let color = if self.color == ColorChoice::Auto { AutoStream::choice(stream) } else { self.color };
        let width =
            terminal_size_of(stream).map_or(WIDTH_OF_A_PIPE, |(Width(width), _)| usize::from(width).max(MINIMUM_WIDTH));
        Terminal { width, colors: color != ColorChoice::Never }
    }

    /// Returns the width of standard output in columns.
    pub fn width(&self) -> usize {
        self.terminal(&io::stdout()).width
    }
}

fn write_error(text: &str) {
    let mut stream = io::stderr();
    let _ = stream.write_all(text.as_bytes()).and_then(|()| stream.flush());
}
