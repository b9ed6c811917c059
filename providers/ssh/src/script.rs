//! Scripts, which carry the requests to a node in one exec, and their framed answers.
//!
//! A script is a list of sections. Each runs in a subshell of its own, so that a failure does not stop the other sections.
//! The output of a node's shell profile or of a command goes to stderr. On stdout there are only lines that start with the
//! nonce of this script.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use moorfast_engine::provider::{Class, ProviderError};
use zeroize::{Zeroize, Zeroizing};

/// Functions for all sections. `N` is the nonce; descriptor 3 is the input from moorfast, descriptor 4 gets the answer.
///
/// The shell code of a resource type reports and fails with these functions:
///
/// | function | effect |
/// |---|---|
/// | `field NAME VALUE` | reports one line: [`Section::field`]; with the value `yes`, [`Section::is`] |
/// | `COMMAND \| blob NAME` | reports any bytes: [`Section::text`], [`Section::blob`] |
/// | `report COMMAND…` | reports the stdout of a command as the blob `answer`, and its stderr, if it is not empty, as the blob `errors` |
/// | `note TEXT` | shows a message to the user after a successful operation |
/// | `fail CLASS REASON` | ends the section with the error "cannot … on NODE: REASON"; the classes are those of [`Section::failure`] |
/// | `… \| blob help`, `… \| blob detail` | before `fail`: what to do, and further lines of the error |
/// | `kind PATH` | sets `K` to what is at the path, in the words of `stat` (`symbolic link`), or `absent` |
/// | `create_temporary DIRECTORY` | sets `T` to a new empty file there, which is removed when the section ends; `mv -fT -- "$T" PATH` keeps it |
///
/// A section runs under `set -e`. It may set any variable except `N`, `MACHINE` and `MOORFAST_RUN`; the functions change `E`, `K`, `T`, `LEFT`, `OWNER`, `STAT` and
/// the descriptor 6. An operation and the own reading of its type are one section: what the first sets, the second sees.
///
/// `create_temporary` chooses the name of its file before the file exists, so that the file is removed whenever the script ends. In a directory of another user,
/// that user may replace the file by a link at any moment: `open_temporary` does the same for a file that is written and changed only through descriptor 6. `open_existing` opens
/// the existing object at a path there, and no link.
/// The name of a temporary file contains the machine and the pid of the script, so that `remove_stale` finds the files of killed scripts. It waits up to 5 seconds for a script that is about to end, because the client that started it is gone. Files of an older moorfast are removed by age.
/// `watch` ends every process that the script started when moorfast goes away, which closes descriptor 3. `find_started` collects these processes in `S`, also in other
/// sessions and after their parents have ended: the process group, every process that inherited `MOORFAST_RUN`, and their descendants. As root, `contain` puts the script into a
/// cgroup of its own, which also has the processes without any of these marks; `leave_cgroup` removes it at the end of the script, with the empty ones of daemons that have ended since. `end_all` signals the main shell first: otherwise
/// it could report the result of a command that was only killed.
const PRELUDE: &str = include_str!("script/prelude.sh");

/// Returns `text` as one word of a POSIX shell.
pub(crate) fn quote(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// Returns these words as a command line.
pub(crate) fn quote_all<'a>(words: impl IntoIterator<Item = &'a str>) -> String {
    words.into_iter().map(quote).collect::<Vec<_>>().join(" ")
}

/// Returns shell that runs a line of the manifest. It needs a subshell of its own: a mistake in the line ends only that, and the line does not see the functions of the script.
pub(crate) fn user_command(line: &str) -> String {
    const FUNCTIONS: &str = "contain leave_cgroup find_started end_all watch begin end_answer on_machine finish field blob report note fail kind is_orphan await_end remove_stale open_temporary create_temporary open_existing";
    format!("set +e; unset -f {FUNCTIONS}; eval {}", quote(line))
}

/// Returns a shell command that prints `bytes` without a process that has them in its arguments. printf is built in.
pub(crate) fn print_bytes(bytes: &[u8]) -> String {
    format!("printf %s {} | base64 -d", quote(&STANDARD.encode(bytes)))
}

/// A script, section by section.
pub(crate) struct Script {
    nonce: String,
    body: Zeroizing<String>,
    sections: usize,
    watch: Watch,
}

/// When a script starts to watch for the end of moorfast.
#[derive(Clone, Copy, PartialEq)]
enum Watch {
    AtOnce,
    /// After it has read the upload.
    Received,
    /// Never: it runs to its end.
    Never,
}

impl Script {
    /// Returns an empty script.
    pub(crate) fn new() -> Self {
        Self {
            nonce: format!("mf{:032x}", rand::random::<u128>()),
            body: Zeroizing::default(),
            sections: 0,
            watch: Watch::AtOnce,
        }
    }

    /// Returns a script with one section, which reads an upload from descriptor 3 and then calls `watch`.
    pub(crate) fn receiving(body: &str) -> Self {
        Self { watch: Watch::Received, ..Self::of(body) }
    }

    /// Returns a script with one section that must not be interrupted: it runs to its end even if moorfast goes away.
    pub(crate) fn unstoppable(body: &str) -> Self {
        Self { watch: Watch::Never, ..Self::of(body) }
    }

    /// Returns a script with one section.
    pub(crate) fn of(body: &str) -> Self {
        let mut script = Self::new();
        script.section(body);
        script
    }

    /// Adds a section, which runs under `set -e`, and returns its index.
    pub(crate) fn section(&mut self, body: &str) -> usize {
        let section = Zeroizing::new(format!("begin {}\n( set -e\n{body}\n)\nfinish $?\n", self.sections));
        self.body.push_str(&section);
        self.sections += 1;
        self.sections - 1
    }

    /// Returns the number of sections.
    pub(crate) fn sections(&self) -> usize {
        self.sections
    }

    /// Returns the whole text for the stdin of the node's shell. With a machine-id the script does nothing on a machine with another one.
    pub(crate) fn text(&self, only_on: Option<&str>) -> Zeroizing<String> {
        let watch = match self.watch {
            Watch::AtOnce => "contain\nwatch\n",
            Watch::Received => "contain\n",
            Watch::Never => "CGROUP=\n",
        };
        let Self { nonce, body, .. } = self;
        let body = body.as_str();
        let guard = only_on.map(|id| format!("on_machine {}\n", quote(id))).unwrap_or_default();
        let end = "[ -z \"$W\" ] || { kill -KILL \"$W\"; wait \"$W\"; } 2>/dev/null\nleave_cgroup \"$$\"\nend_answer\n";
        Zeroizing::new(format!("N={nonce}\n{PRELUDE}{guard}{watch}{body}{end}"))
    }

    /// Whether the script ran on another machine than intended.
    pub(crate) fn is_elsewhere(&self, stdout: &[u8]) -> bool {
        self.framed(stdout).any(|words| words == ("elsewhere", ""))
    }

    /// Returns the word that starts every line of the answer.
    pub(crate) fn nonce(&self) -> &str {
        &self.nonce
    }

    /// Returns the sections of an answer, as far as they were received.
    pub(crate) fn parse(&self, stdout: &[u8], stderr: &[u8]) -> Vec<Section> {
        let mut sections = vec![Section::default(); self.sections];
        let mut current = None;
        for words in self.framed(stdout) {
            match words {
                ("begin", index) => current = index.parse::<usize>().ok().filter(|i| *i < self.sections),
                ("end", status) => {
                    if let Some(section) = current.take().and_then(|i| sections.get_mut(i)) {
                        section.status = status.parse().ok();
                    }
                }
                (name, value) => {
                    if let Some(section) = current.and_then(|i| sections.get_mut(i)) {
                        section.fields.entry(name.to_owned()).or_default().push(value.to_owned());
                    }
                }
            }
        }
        self.assign_stderr(stderr, &mut sections);
        sections
    }

    /// Returns the lines on stderr before the first section: from a login shell, or from sudo.
    pub(crate) fn before(&self, stderr: &[u8]) -> Vec<String> {
        let text = String::from_utf8_lossy(stderr);
        let end = text.find(&format!("{} begin 0", self.nonce)).unwrap_or(text.len());
        lines_of(&text[..end])
    }

    fn framed<'a>(&'a self, stdout: &'a [u8]) -> impl Iterator<Item = (&'a str, &'a str)> {
        let prefix = self.nonce.as_bytes();
        // If the connection was lost, the last line is incomplete.
        stdout.split_inclusive(|b| *b == b'\n').filter_map(move |line| {
            let line = line.strip_prefix(prefix)?.strip_suffix(b"\n")?;
            let rest = std::str::from_utf8(line).ok()?.strip_prefix(' ')?;
            Some(rest.split_once(' ').unwrap_or((rest, "")))
        })
    }

    fn assign_stderr(&self, stderr: &[u8], sections: &mut [Section]) {
        let text = String::from_utf8_lossy(stderr);
        for part in text.split(&format!("{} begin ", self.nonce)).skip(1) {
            let Some((index, lines)) = part.split_once('\n') else { continue };
            let lines = lines.split(&format!("{} done", self.nonce)).next().unwrap_or_default();
            if let Some(section) = index.parse::<usize>().ok().and_then(|i| sections.get_mut(i)) {
                section.stderr = lines_of(lines);
            }
        }
    }
}

fn lines_of(text: &str) -> Vec<String> {
    text.lines().map(str::trim_end).filter(|line| !line.is_empty()).map(str::to_owned).collect()
}

/// The answer of one section.
#[derive(Clone, Debug, Default)]
pub(crate) struct Section {
    /// Its exit status, or `None` if it has not ended.
    pub(crate) status: Option<i32>,
    /// Its stderr, without empty lines.
    pub(crate) stderr: Vec<String>,
    /// Why it did not end.
    pub(crate) interrupted: Option<ProviderError>,
    fields: BTreeMap<String, Vec<String>>,
}

/// The fields may contain a secret, for example the content of a file.
impl Drop for Section {
    fn drop(&mut self) {
        self.fields.values_mut().for_each(Zeroize::zeroize);
    }
}

impl Section {
    /// Returns the section of a failed exec.
    pub(crate) fn interrupted_by(error: ProviderError) -> Self {
        let mut section = Self::default();
        section.interrupted = Some(error);
        section
    }

    /// Returns a section that failed as by `fail CLASS SUMMARY`, by the user with this ID.
    pub(crate) fn refused(class: &str, summary: &str, uid: Option<&str>) -> Self {
        let summary = STANDARD.encode(summary);
        let fields = [("error", Some(class)), ("summary", Some(&summary)), ("uid", uid)];
        Self::ended(1, fields.into_iter().filter_map(|(name, value)| Some((name, value?.to_owned()))))
    }

    /// Returns the section with this advice for its error.
    pub(crate) fn with_help(mut self, help: &str) -> Self {
        self.fields.insert("help".to_owned(), vec![STANDARD.encode(help)]);
        self
    }

    /// Returns a section that ended with this status and these fields.
    pub(crate) fn ended<'a>(status: i32, fields: impl IntoIterator<Item = (&'a str, String)>) -> Self {
        let mut section = Self::default();
        section.status = Some(status);
        section.fields = fields.into_iter().map(|(name, value)| (name.to_owned(), vec![value])).collect();
        section
    }

    /// Returns the value of `field NAME VALUE`.
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        self.fields.get(name)?.last().map(String::as_str)
    }

    /// Whether the section reported `field NAME yes`.
    pub(crate) fn is(&self, name: &str) -> bool {
        self.field(name) == Some("yes")
    }

    /// Whether the section failed although root ran it.
    pub(crate) fn failed_as_root(&self) -> bool {
        self.field("uid") == Some("0")
    }

    /// Returns the bytes of `blob NAME`.
    pub(crate) fn blob(&self, name: &str) -> Option<Vec<u8>> {
        STANDARD.decode(self.field(name)?).ok()
    }

    /// Returns the text of `blob NAME`.
    pub(crate) fn text(&self, name: &str) -> Option<String> {
        self.blob(name).map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Returns all texts of `blob NAME`, in order.
    pub(crate) fn texts(&self, name: &str) -> Vec<String> {
        let values = self.fields.get(name).map(Vec::as_slice).unwrap_or_default();
        values
            .iter()
            .filter_map(|value| STANDARD.decode(value).ok())
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .collect()
    }

    /// Returns the failure of `fail CLASS SUMMARY`.
    pub(crate) fn failure(&self) -> Option<(Class, String)> {
        let class = match self.field("error")? {
            "denied" => Class::Denied,
            "conflict" => Class::Conflict,
            "invalid" => Class::Invalid,
            "timeout" => Class::Timeout,
            _ => Class::Failed,
        };
        Some((class, self.text("summary").unwrap_or_default()))
    }
}

/// The answer of a section, or why its script failed.
pub(crate) type Answered = Result<Section, ProviderError>;

/// Returns one result per section, and the common error for each of `count` sections if the exec failed.
pub(crate) fn per_section(answers: Result<Vec<Section>, ProviderError>, count: usize) -> Vec<Answered> {
    match answers {
        Ok(sections) => sections.into_iter().map(Ok).collect(),
        Err(error) => vec![Err(error); count],
    }
}

/// Returns the results of the first `count` sections of a script, and the answers of the others.
pub(crate) fn divided(
    answers: Result<Vec<Section>, ProviderError>,
    count: usize,
) -> (Vec<Answered>, Result<Vec<Section>, ProviderError>) {
    match answers {
        Ok(mut sections) => {
            let others = sections.split_off(count.min(sections.len()));
            (sections.into_iter().map(Ok).collect(), Ok(others))
        }
        Err(error) => (vec![Err(error.clone()); count], Err(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(script: &Script) -> Vec<Section> {
        use std::io::Write;
        let mut child = std::process::Command::new("sh")
            .arg("-c")
            .arg("echo noise; s=$(head -c \"$1\"); eval \"$s\"")
            .arg("sh")
            .arg(script.text(None).len().to_string())
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(script.text(None).as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        drop(stdin);
        script.parse(&output.stdout, &output.stderr)
    }

    #[test]
    fn a_failing_section_does_not_stop_the_next() {
        let mut script = Script::new();
        script.section("echo to stdout; ls /nowhere/at/all; field never reached");
        script.section("field answer 42; printf 'a\\nb' | blob text; note 'read this'");
        script.section("fail denied 'not yours'");
        let sections = run(&script);
        assert_ne!(sections[0].status, Some(0));
        assert_eq!(sections[0].stderr[0], "to stdout");
        assert_eq!(sections[0].field("never"), None);
        assert_eq!(sections[1].status, Some(0));
        assert_eq!(sections[1].field("answer"), Some("42"));
        assert_eq!(sections[1].text("text").unwrap(), "a\nb");
        assert_eq!(sections[1].texts("note"), ["read this"]);
        assert_eq!(sections[2].failure(), Some((Class::Denied, "not yours".to_owned())));
    }

    /// Returns the shell files in a folder and in those below it.
    fn shell_files(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
        let paths = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        let files = paths.flat_map(|path| match path.is_dir() {
            true => shell_files(&path),
            false => vec![path],
        });
        files.filter(|path| path.extension().is_some_and(|extension| extension == "sh")).collect()
    }

    #[test]
    fn shellcheck_finds_nothing_in_the_shell_code() {
        let paths = shell_files(std::path::Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/src")));
        assert!(paths.len() > 40);
        match std::process::Command::new("shellcheck").args(&paths).output() {
            Ok(output) => assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout)),
            Err(error) => eprintln!("skipped: shellcheck: {error}"),
        }
    }

    #[test]
    fn quoting_keeps_every_byte() {
        let text = "it's $HOME `x` \\ \"q\"\nnext";
        let mut script = Script::new();
        script.section(&format!("printf %s {} | blob back", quote(text)));
        assert_eq!(run(&script)[0].text("back").unwrap(), text);
    }
}
