//! The findings about a node: the answers to the questions that resource types ask.

mod answer;

use std::collections::{HashMap, HashSet};

use moorfast_engine::provider::Class;
use zeroize::Zeroizing;

pub(crate) use self::answer::{Access, Directory, Module, Parameter, Room, Status, Unit};
use self::answer::{
    access, installed, memberships, module_of, parameters, records, room_of, status_of, texts, unit_of,
};
use crate::question::{Question, Topic};
use crate::script::Section;

/// The answers to the questions that were asked about a node.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    asked: HashSet<Question>,
    /// The answers of the questions that could not be answered.
    failures: HashMap<Question, Section>,
    statuses: HashMap<String, Status>,
    digests: HashMap<String, String>,
    contents: HashMap<String, Zeroizing<Vec<u8>>>,
    blocks: HashMap<String, Zeroizing<String>>,
    directories: HashMap<String, Directory>,
    closed: HashMap<String, String>,
    /// The users and groups that do not exist.
    missing: HashSet<Question>,
    /// The lines of the users and groups that exist.
    accounts: HashMap<Question, String>,
    /// The groups of users, by name and number, the primary group first.
    memberships: HashMap<String, Vec<(String, String)>>,
    modules: HashMap<String, Module>,
    versions: HashMap<String, String>,
    units: HashMap<String, Unit>,
    parameters: HashMap<String, Parameter>,
}

impl Findings {
    /// Whether the question was asked.
    pub(crate) fn was_asked(&self, question: &Question) -> bool {
        self.asked.contains(question)
    }

    /// Returns the answer of the first of `questions` that could not be answered.
    pub(crate) fn failure<'a>(&self, questions: impl IntoIterator<Item = &'a Question>) -> Option<&Section> {
        questions.into_iter().find_map(|question| self.failures.get(question))
    }

    /// Returns the object at `path`, if there is one.
    pub(crate) fn status(&self, path: &str) -> Option<&Status> {
        self.statuses.get(path)
    }

    /// Returns the SHA-256 of the regular file at `path`, in hexadecimal digits.
    pub(crate) fn digest(&self, path: &str) -> Option<&str> {
        self.digests.get(path).map(String::as_str)
    }

    /// Returns the content of the regular file at `path`, or its beginning if it is longer than what a plan shows.
    pub(crate) fn content(&self, path: &str) -> Option<&[u8]> {
        self.contents.get(path).map(|content| content.as_slice())
    }

    /// Returns the lines of the blocks of moorfast in the regular file at `path`, with the marker lines.
    pub(crate) fn blocks(&self, path: &str) -> Option<&str> {
        self.blocks.get(path).map(|lines| lines.as_str())
    }

    /// Returns whether objects can be created in the directory at `path`.
    pub(crate) fn directory(&self, path: &str) -> Option<&Directory> {
        self.directories.get(path)
    }

    /// Returns the attributes of the object at `path`, as `lsattr` prints them, if even root cannot write it.
    pub(crate) fn closed(&self, path: &str) -> Option<&str> {
        self.closed.get(path).map(String::as_str)
    }

    /// Whether the user or group of `question` does not exist.
    pub(crate) fn is_missing(&self, question: &Question) -> bool {
        self.missing.contains(question)
    }

    /// Returns the line in its database of the user or group of `question`, if it exists.
    pub(crate) fn account(&self, question: &Question) -> Option<&str> {
        self.accounts.get(question).map(String::as_str)
    }

    /// Returns the groups of the user `name` by name and number, the primary group first.
    pub(crate) fn groups_of(&self, name: &str) -> &[(String, String)] {
        self.memberships.get(name).map(Vec::as_slice).unwrap_or_default()
    }

    /// Returns the kernel module with this name in the kernel.
    pub(crate) fn module(&self, name: &str) -> Option<&Module> {
        self.modules.get(name)
    }

    /// Returns the installed version of the package `name`.
    pub(crate) fn version(&self, name: &str) -> Option<&str> {
        self.versions.get(name).map(String::as_str)
    }

    /// Returns the status of the systemd unit `name`.
    pub(crate) fn unit(&self, name: &str) -> Option<&Unit> {
        self.units.get(name)
    }

    /// Returns the kernel parameter with this name, if it exists.
    pub(crate) fn parameter(&self, name: &str) -> Option<&Parameter> {
        self.parameters.get(name)
    }

    /// Adds newer findings.
    pub(crate) fn extend(&mut self, newer: Self) {
        for question in &newer.asked {
            self.forget(question);
        }
        self.asked.extend(newer.asked);
        self.failures.extend(newer.failures);
        self.statuses.extend(newer.statuses);
        self.digests.extend(newer.digests);
        self.contents.extend(newer.contents);
        self.blocks.extend(newer.blocks);
        self.directories.extend(newer.directories);
        self.closed.extend(newer.closed);
        self.missing.extend(newer.missing);
        self.accounts.extend(newer.accounts);
        self.memberships.extend(newer.memberships);
        self.modules.extend(newer.modules);
        self.versions.extend(newer.versions);
        self.units.extend(newer.units);
        self.parameters.extend(newer.parameters);
    }

    /// Returns only what decides whether an object can be written.
    pub(crate) fn about_writing(self) -> Self {
        let Self { directories, closed, missing, mut asked, .. } = self;
        asked
            .retain(|question| matches!(question.topic, Topic::Directory | Topic::Closed | Topic::User | Topic::Group));
        Self { asked, directories, closed, missing, ..Self::default() }
    }

    /// Forgets the questions whose script was interrupted for another reason than a cancellation, so that they can be asked again.
    pub(crate) fn forget_interrupted(&mut self) {
        let is_again =
            |answer: &Section| answer.interrupted.as_ref().is_some_and(|error| error.class != Class::Cancelled);
        let again = self.failures.iter().filter(|(_, answer)| is_again(answer));
        for question in again.map(|(question, _)| question.clone()).collect::<Vec<_>>() {
            self.failures.remove(&question);
            self.asked.remove(&question);
        }
    }

    fn forget(&mut self, question: &Question) {
        self.failures.remove(question);
        self.missing.remove(question);
        self.accounts.remove(question);
        let name = &question.name;
        match question.topic {
            Topic::Path => drop(self.statuses.remove(name)),
            Topic::Digest => drop(self.digests.remove(name)),
            Topic::Content => drop(self.contents.remove(name)),
            Topic::Blocks => drop(self.blocks.remove(name)),
            Topic::Directory => drop(self.directories.remove(name)),
            Topic::Closed => drop(self.closed.remove(name)),
            Topic::Package => drop(self.versions.remove(name)),
            Topic::Unit => drop(self.units.remove(name)),
            Topic::Parameter => drop(self.parameters.remove(name)),
            Topic::Membership => drop(self.memberships.remove(name)),
            Topic::Module => drop(self.modules.remove(name)),
            Topic::User | Topic::Group => {}
        }
    }

    /// Adds the answer to the questions of `topic` about `names`.
    pub(crate) fn add(&mut self, topic: Topic, names: Vec<String>, answer: Section) {
        let bytes = Zeroizing::new(answer.blob("answer").unwrap_or_default());
        let errors = answer.text("errors").unwrap_or_default();
        let last_error = errors.lines().last();
        let mut errors = errors.lines();
        let uid = answer.field("uid");
        let is_answered = answer.status == Some(0);
        if is_answered {
            self.add_answer(topic, &names, &bytes, &answer);
        }
        for name in names {
            let question = topic.of(name);
            if !is_answered {
                self.failures.insert(question.clone(), answer.clone());
            } else if topic == Topic::Parameter {
                let user = answer.field("user");
                let refusal = self.parameter(&question.name).and_then(|parameter| parameter.refusal(user));
                self.failures.extend(refusal.map(|refusal| (question.clone(), refusal)));
            } else if self.needs_error(&question) {
                // The command reports an error for each of these names, in their order.
                let error = errors.next().or(last_error).unwrap_or("it changed while it was read");
                if !(topic == Topic::Path && is_absence(error)) {
                    self.failures.insert(question.clone(), Section::refused(class_of(topic), error, uid));
                }
            }
            self.asked.insert(question);
        }
    }

    /// Whether the command that answered `question` reported an error instead of an answer.
    fn needs_error(&self, question: &Question) -> bool {
        let is_regular = |path: &str| self.status(path).is_some_and(Status::is_regular);
        match question.topic {
            Topic::Path => self.status(&question.name).is_none(),
            Topic::Unit => self.unit(&question.name).is_none(),
            Topic::Digest => self.digest(&question.name).is_none() && is_regular(&question.name),
            Topic::Blocks => self.blocks(&question.name).is_none() && is_regular(&question.name),
            _ => false,
        }
    }

    fn add_answer(&mut self, topic: Topic, names: &[String], bytes: &[u8], answer: &Section) {
        match topic {
            Topic::Path => self.statuses.extend(records(bytes).filter_map(status_of)),
            Topic::Digest => {
                let digest = |[entry]: [&str; 1]| {
                    let (digest, path) = entry.split_once("  ")?;
                    Some((path.to_owned(), digest.to_owned()))
                };
                self.digests.extend(records(bytes).filter_map(|record| digest(texts(&record)?)));
            }
            Topic::Content => {
                let is_present = answer.blob("answer").is_some();
                self.contents.extend(names.first().filter(|_| is_present).cloned().map(|p| (p, bytes.to_vec().into())));
            }
            Topic::Blocks => {
                let blocks = |[path, lines]: [&[u8]; 2]| {
                    let path = std::str::from_utf8(path).ok()?;
                    Some((path.to_owned(), Zeroizing::new(String::from_utf8_lossy(lines).into_owned())))
                };
                self.blocks.extend(records(bytes).filter_map(blocks));
            }
            Topic::Directory => {
                let space = answer.blob("space").unwrap_or_default();
                let rooms: HashMap<String, Room> =
                    records(&space).filter_map(|record| room_of(texts(&record)?)).collect();
                let directory = |[path, above, state]: [&str; 3]| {
                    Some((
                        path.to_owned(),
                        Directory { above: above.to_owned(), access: access(state, rooms.get(above))? },
                    ))
                };
                self.directories.extend(records(bytes).filter_map(|record| directory(texts(&record)?)));
            }
            Topic::Closed => {
                let closed = |[path, attributes]: [&str; 2]| (path.to_owned(), attributes.to_owned());
                self.closed.extend(records(bytes).filter_map(|record| Some(closed(texts(&record)?))));
            }
            Topic::User | Topic::Group => {
                let account = |[name, line]: [&str; 2]| (topic.of(name), line.to_owned());
                self.accounts.extend(records(bytes).filter_map(|record| Some(account(texts(&record)?))));
                let missing = names.iter().map(|name| topic.of(name.as_str()));
                self.missing.extend(missing.filter(|question| !self.accounts.contains_key(question)));
            }
            Topic::Membership => self.memberships.extend(memberships(bytes, answer)),
            Topic::Module => self.modules.extend(records(bytes).filter_map(|record| Some(module_of(texts(&record)?)))),
            Topic::Parameter => self.parameters.extend(parameters(bytes, answer)),
            Topic::Unit => {
                self.units.extend(records(bytes).filter_map(|record| Some(unit_of(texts(&record)?))));
            }
            Topic::Package => {
                let installed = installed(&String::from_utf8_lossy(bytes));
                let version = |name: &String| Some((name.clone(), installed.get(name)?.clone()));
                self.versions.extend(names.iter().filter_map(version));
            }
        }
    }
}

/// Returns the class of the error about a name, in the words of a script.
fn class_of(topic: Topic) -> &'static str {
    if topic == Topic::Path { "denied" } else { "failed" }
}

/// Whether `stat` reports that nothing is at the path.
fn is_absence(error: &str) -> bool {
    error.ends_with("No such file or directory") || error.ends_with("Not a directory")
}

#[cfg(test)]
mod tests {
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;

    use super::*;

    /// Returns an answer with these blobs, in which `~` stands for a zero byte.
    fn reporting(blobs: [(&str, &str); 2]) -> Section {
        Section::ended(0, blobs.map(|(name, text)| (name, STANDARD.encode(text.replace('~', "\0")))))
    }

    fn answered(topic: Topic, names: &[&str], answer: &str, errors: &str) -> Findings {
        let mut findings = Findings::default();
        let section = reporting([("answer", answer), ("errors", errors)]);
        findings.add(topic, names.iter().map(|name| (*name).to_owned()).collect(), section);
        findings
    }

    #[test]
    fn a_path_is_present_absent_or_refused() {
        let answer =
            "/a~symbolic link~777 1 0 4711 root:UNKNOWN~/a -> b -> c~/a -> b~regular file~644 7 0 0 root:root~/a -> b~";
        let errors =
            "stat: cannot statx '/gone': No such file or directory\nstat: cannot statx '/no/x': Permission denied";
        let findings = answered(Topic::Path, &["/a", "/a -> b", "/gone", "/no/x"], answer, errors);
        assert_eq!(findings.status("/a").unwrap().target.as_deref(), Some("b -> c"));
        assert_eq!(findings.status("/a").unwrap().names, ["root", "UNKNOWN"]);
        let file = findings.status("/a -> b").unwrap();
        assert!(file.is_regular() && file.target.is_none() && file.size == 7);
        assert!(findings.status("/gone").is_none() && findings.failure(&[Topic::Path.of("/gone")]).is_none());
        let refused = findings.failure(&[Topic::Path.of("/no/x")]).unwrap();
        assert_eq!(refused.failure().unwrap().1, "stat: cannot statx '/no/x': Permission denied");
    }

    #[test]
    fn a_newer_answer_replaces_the_older_one() {
        let mut findings = answered(Topic::Path, &["/a"], "/a~directory~755 1 0 0 root:root~/a~", "");
        findings.extend(answered(Topic::Path, &["/a"], "", "stat: cannot statx '/a': No such file or directory"));
        assert!(findings.status("/a").is_none() && findings.was_asked(&Topic::Path.of("/a")));
    }

    #[test]
    fn a_package_is_known_with_and_without_its_architecture() {
        let lines = "libc6 amd64 installed 2.36\nlibc6 i386 installed 2.35\njq amd64 config-files 1.6\n";
        let findings = answered(Topic::Package, &["libc6", "libc6:i386", "jq", "none"], lines, "");
        assert_eq!(findings.version("libc6"), Some("2.36"));
        assert_eq!(findings.version("libc6:i386"), Some("2.35"));
        assert!(findings.version("jq").is_none() && findings.version("none").is_none());
    }

    #[test]
    fn directories_with_their_room() {
        let answer = "/etc~/etc~open~/no/x~/no~file~/sys/x~/sys~closed 0 ----i---~";
        let section = reporting([("answer", answer), ("space", "/etc~10 4096 5 0~")]);
        let mut findings = Findings::default();
        findings.add(Topic::Directory, ["/etc", "/no/x", "/sys/x"].map(str::to_owned).to_vec(), section);
        let room = Room { bytes: 40960, no_inode: true };
        assert_eq!(findings.directory("/etc").unwrap().access, Access::Open(Some(room)));
        assert_eq!(findings.directory("/no/x").unwrap().access, Access::NoDirectory);
        let closed = Access::Closed { to_root: true, attributes: "----i---".to_owned() };
        assert_eq!(findings.directory("/sys/x").unwrap(), &Directory { above: "/sys".to_owned(), access: closed });
    }
}
