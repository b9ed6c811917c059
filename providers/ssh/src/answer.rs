//! The answer of a node while it arrives: moorfast keeps a bounded part of it, whatever the node prints.
//!
//! Of stdout only the framed lines of the script are kept. Of stderr each section keeps its first and its last lines.

use std::collections::VecDeque;

use tokio::io::{AsyncRead, AsyncReadExt};
use zeroize::Zeroizing;

use crate::script::Script;

/// The largest answer of one section, in bytes.
const SECTION: usize = 4 << 20;
/// The largest answer of a whole script, in bytes.
const ANSWER: usize = 256 << 20;
/// The most bytes that a node may print outside of its answer, on stdout and on stderr before the first section: the output of a login shell.
const NOISE: usize = 1 << 20;
/// The most bytes that are kept of one line on stderr.
const LINE: usize = 1 << 10;
/// The most bytes that are kept of the first and of the last lines of a section's stderr.
const HEAD: usize = 4 << 10;
const TAIL: usize = 28 << 10;
/// The most bytes that are kept of the stderr of all sections together.
const STDERR_TOTAL: usize = 32 << 20;

/// A limit that the output of a node exceeded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LimitExceeded {
    /// The node printed too much outside of its answer.
    Noise,
    /// The answer of one section is too long.
    Section,
    /// The whole answer is too long.
    Answer,
}

impl LimitExceeded {
    /// Returns the words that complete "NODE printed more than ".
    pub(crate) fn description(self) -> &'static str {
        match self {
            Self::Noise => "1 MiB outside of its answer",
            Self::Section => "4 MiB about one object",
            Self::Answer => "256 MiB in one answer",
        }
    }
}

/// One of the streams of an answer.
pub(crate) trait Stream {
    /// Takes the next bytes and returns whether the stream is at its end.
    fn take(&mut self, bytes: &[u8]) -> Result<bool, LimitExceeded>;
}

/// Reads until the last line of the script, the end of the stream, or the first exceeded limit.
pub(crate) async fn read(mut from: impl AsyncRead + Unpin, into: &mut impl Stream) -> Result<(), LimitExceeded> {
    let mut buffer = Zeroizing::new(vec![0; 64 << 10]);
    loop {
        match from.read(&mut buffer).await {
            Ok(0) | Err(_) => return Ok(()),
            Ok(n) if into.take(&buffer[..n])? => return Ok(()),
            Ok(_) => {}
        }
    }
}

/// A splitter of bytes into lines, which keeps at most `limit` bytes of a line.
struct Lines {
    line: Zeroizing<Vec<u8>>,
    limit: usize,
}

impl Lines {
    fn new(limit: usize) -> Self {
        Self { line: Zeroizing::default(), limit }
    }

    /// Calls `each` for every line that `bytes` complete, and returns its first error.
    fn feed<E>(&mut self, bytes: &[u8], mut each: impl FnMut(&[u8]) -> Result<(), E>) -> Result<(), E> {
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            let text = part.strip_suffix(b"\n").unwrap_or(part);
            let room = self.limit.saturating_sub(self.line.len());
            self.line.extend_from_slice(&text[..text.len().min(room)]);
            if text.len() != part.len() {
                let line = std::mem::take(&mut self.line);
                each(&line)?;
            }
        }
        Ok(())
    }
}

/// The stdout of a script, reduced to its framed lines.
pub(crate) struct Stdout {
    nonce: Vec<u8>,
    lines: Lines,
    kept: Zeroizing<Vec<u8>>,
    /// The number of bytes since the last section started.
    section: usize,
    noise: usize,
    done: bool,
    /// The limit of `kept`.
    limit: usize,
}

impl Stdout {
    pub(crate) fn of(script: &Script) -> Self {
        Self {
            nonce: script.nonce().as_bytes().to_vec(),
            lines: Lines::new(SECTION + 1),
            kept: Zeroizing::default(),
            section: 0,
            noise: 0,
            done: false,
            limit: ANSWER,
        }
    }

    /// Returns the framed lines received so far.
    pub(crate) fn kept(&self) -> &[u8] {
        &self.kept
    }
}

impl Stream for Stdout {
    fn take(&mut self, bytes: &[u8]) -> Result<bool, LimitExceeded> {
        let Self { nonce, lines, kept, section, noise, done, limit } = self;
        lines.feed(bytes, |line| {
            let Some(framed) = line.strip_prefix(nonce.as_slice()) else {
                *noise += line.len() + 1;
                return if *noise > NOISE { Err(LimitExceeded::Noise) } else { Ok(()) };
            };
            *done |= framed == b" done";
            *section = if framed.starts_with(b" begin ") { 0 } else { *section + line.len() };
            if *section > SECTION {
                return Err(LimitExceeded::Section);
            }
            if kept.len() + line.len() > *limit {
                return Err(LimitExceeded::Answer);
            }
            kept.extend_from_slice(line);
            kept.push(b'\n');
            Ok(())
        })?;
        // A line that never ends must fail too, so the limits are checked before its end.
        let (line, framed) = (lines.line.len(), lines.line.starts_with(nonce));
        match framed {
            false if *noise + line > NOISE => Err(LimitExceeded::Noise),
            true if *section + line > SECTION => Err(LimitExceeded::Section),
            _ => Ok(*done),
        }
    }
}

/// The stderr of a script, reduced to the first and the last lines of each section.
pub(crate) struct Stderr {
    nonce: String,
    /// The number of sections that have not started yet.
    sections: usize,
    lines: Lines,
    kept: Vec<u8>,
    /// The number of bytes of the section's first lines in `kept`.
    head: usize,
    tail: VecDeque<Vec<u8>>,
    tail_bytes: usize,
    omitted: usize,
    before: usize,
    started: bool,
    done: bool,
}

impl Stderr {
    pub(crate) fn of(script: &Script) -> Self {
        Self {
            nonce: script.nonce().to_owned(),
            sections: script.sections(),
            lines: Lines::new(LINE),
            kept: Vec::new(),
            head: 0,
            tail: VecDeque::new(),
            tail_bytes: 0,
            omitted: 0,
            before: 0,
            started: false,
            done: false,
        }
    }

    /// Returns the lines received so far, with a note where lines were omitted.
    pub(crate) fn kept(mut self) -> Vec<u8> {
        let rest = std::mem::take(&mut *self.lines.line);
        self.line(&rest);
        self.end_section();
        self.kept
    }

    fn line(&mut self, line: &[u8]) {
        let marker = line.strip_prefix(self.nonce.as_bytes());
        let begins = marker.is_some_and(|rest| rest.starts_with(b" begin ")) && self.sections > 0;
        let ends = marker == Some(b" done") && !self.done;
        if begins || ends {
            self.end_section();
            self.sections -= usize::from(begins);
            (self.started, self.done) = (true, ends);
            self.kept.extend_from_slice(line);
            self.kept.push(b'\n');
        } else if self.head + line.len() < HEAD && self.omitted == 0 && self.tail.is_empty() {
            self.head += line.len() + 1;
            self.keep(line);
        } else {
            self.tail_bytes += line.len() + 1;
            self.tail.push_back(line.to_vec());
            while self.tail_bytes > TAIL
                && let Some(first) = self.tail.pop_front()
            {
                self.tail_bytes -= first.len() + 1;
                self.omitted += 1;
            }
        }
    }

    fn end_section(&mut self) {
        if self.omitted > 0 {
            let note = format!("[{} lines omitted]", self.omitted);
            self.keep(note.as_bytes());
        }
        for line in std::mem::take(&mut self.tail) {
            self.keep(&line);
        }
        (self.head, self.tail_bytes, self.omitted) = (0, 0, 0);
    }

    fn keep(&mut self, line: &[u8]) {
        if self.kept.len() + line.len() < STDERR_TOTAL {
            self.kept.extend_from_slice(line);
            self.kept.push(b'\n');
        }
    }
}

impl Stream for Stderr {
    fn take(&mut self, bytes: &[u8]) -> Result<bool, LimitExceeded> {
        let mut lines = std::mem::replace(&mut self.lines, Lines::new(LINE));
        let fed = lines.feed(bytes, |line| {
            self.line(line);
            Ok::<(), LimitExceeded>(())
        });
        self.lines = lines;
        fed?;
        if !self.started {
            self.before += bytes.len();
        }
        if self.before > NOISE { Err(LimitExceeded::Noise) } else { Ok(self.done) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn script(sections: usize) -> Script {
        let mut script = Script::new();
        for _ in 0..sections {
            script.section("true");
        }
        script
    }

    /// Feeds `chunk` until the stream ends, at most `times` times.
    fn flood(stream: &mut impl Stream, chunk: &[u8], times: usize) -> Result<bool, LimitExceeded> {
        (0..times).try_fold(false, |_, _| stream.take(chunk))
    }

    #[test]
    fn endless_noise_on_stdout_is_an_error_and_is_not_kept() {
        for chunk in [&[0; 64 << 10][..], b"y\n", b"\n", b"Welcome to the machine\n"] {
            let mut stdout = Stdout::of(&script(1));
            assert_eq!(flood(&mut stdout, chunk, 2 << 20), Err(LimitExceeded::Noise));
            assert!(stdout.kept().is_empty());
            assert!(stdout.lines.line.capacity() <= 2 * NOISE, "{}", stdout.lines.line.capacity());
        }
    }

    #[test]
    fn an_answer_without_end_is_an_error() {
        let script = script(2);
        let begin = format!("\n{} begin 0\n", script.nonce());
        let field = format!("{} field {}\n", script.nonce(), "x".repeat(1000));
        let mut many = Stdout::of(&script);
        many.take(begin.as_bytes()).unwrap();
        assert_eq!(flood(&mut many, field.as_bytes(), 10_000), Err(LimitExceeded::Section));
        let mut one = Stdout::of(&script);
        one.take(format!("{begin}{} content ", script.nonce()).as_bytes()).unwrap();
        assert_eq!(flood(&mut one, &[b'A'; 64 << 10], 10_000), Err(LimitExceeded::Section));
        let mut sections = Stdout { limit: 3 * SECTION, ..Stdout::of(&script) };
        let section = format!("{begin}{} content {}\n", script.nonce(), "A".repeat(SECTION - 100));
        assert_eq!(flood(&mut sections, section.as_bytes(), 100), Err(LimitExceeded::Answer));
    }

    #[test]
    fn the_framed_lines_of_a_noisy_node_are_kept_in_any_pieces() {
        let script = script(1);
        let nonce = script.nonce();
        let text = format!("motd\n\n{nonce} begin 0\n{nonce} answer 42\nlost\n{nonce} end 0\n\n{nonce} done\n");
        for size in [1, 7, text.len()] {
            let mut stdout = Stdout::of(&script);
            let ends: Vec<_> = text.as_bytes().chunks(size).map(|chunk| stdout.take(chunk).unwrap()).collect();
            assert!(ends.iter().rev().skip(1).all(|end| !end) && ends.ends_with(&[true]), "{size}");
            assert_eq!(script.parse(stdout.kept(), b"")[0].field("answer"), Some("42"));
        }
    }

    #[test]
    fn a_section_with_long_stderr_keeps_its_first_and_last_lines() {
        let script = script(2);
        let nonce = script.nonce();
        let mut stderr = Stderr::of(&script);
        stderr.take(format!("motd\n\n{nonce} begin 0\nfirst\n").as_bytes()).unwrap();
        assert_eq!(flood(&mut stderr, &b"y\n".repeat(1 << 10), 100), Ok(false));
        stderr.take(&vec![b'z'; 1 << 20]).unwrap();
        assert_eq!(stderr.take(format!("\nlast\n\n{nonce} begin 1\nquiet\n\n{nonce} done\n").as_bytes()), Ok(true));
        let kept = stderr.kept();
        assert!(kept.len() < HEAD + TAIL + 2 * LINE, "{}", kept.len());
        let sections = script.parse(b"", &kept);
        assert_eq!(sections[0].stderr.first().unwrap(), "first");
        assert_eq!(sections[0].stderr.last().unwrap(), "last");
        assert_eq!(sections[0].stderr.iter().rev().nth(1).unwrap().len(), LINE, "a line without end is cut");
        assert!(
            sections[0].stderr.iter().any(|line| line.ends_with("lines omitted]")),
            "{:?}",
            &sections[0].stderr[..9]
        );
        assert_eq!(sections[1].stderr, ["quiet"]);
        assert_eq!(script.before(&kept), ["motd"]);
    }

    #[test]
    fn endless_stderr_of_a_login_shell_is_an_error() {
        for chunk in [&[0; 64 << 10][..], b"y\n"] {
            assert_eq!(flood(&mut Stderr::of(&script(1)), chunk, 2 << 20), Err(LimitExceeded::Noise));
        }
    }

    #[test]
    fn forged_sections_do_not_grow_what_is_kept() {
        let script = script(1);
        let mut stderr = Stderr::of(&script);
        let forged = format!("{} begin 0\n{}\n", script.nonce(), "x".repeat(900));
        assert_eq!(flood(&mut stderr, forged.as_bytes(), 10_000), Ok(false));
        assert!(stderr.kept().len() < HEAD + TAIL + 2 * LINE);
    }
}
