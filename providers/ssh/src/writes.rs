//! Objects in one directory that are written together: a constant number of processes for all files and directories. Each object still appears by a rename of its own, a
//! file after its content is on disk.
//!
//! An object that cannot be written in this way is reported as not written, and is then written alone, which reports its own error.

use std::collections::{BTreeMap, HashSet};

use zeroize::Zeroizing;

use crate::path::parent;
use crate::script::{Section, quote};

/// The shell functions for a group.
const FUNCTIONS: &str = include_str!("writes.sh");

/// The most bytes of names in one group. They are the arguments of one command, and the system permits at least 128 KiB.
const NAMES: usize = 64 << 10;

/// An object that can be written together with others.
#[derive(Clone, Debug)]
pub(crate) struct Write {
    /// The absolute path.
    pub(crate) path: String,
    /// The object itself.
    pub(crate) object: Object,
    /// The owner and the group.
    pub(crate) owner: Owner,
    /// The permissions as an argument of chmod. A link has none.
    pub(crate) mode: Option<String>,
    /// Whether missing parent directories are created.
    pub(crate) parents: bool,
}

/// An object that is written.
#[derive(Clone, Debug)]
pub(crate) enum Object {
    /// A file with this content, new or in place of another file or link.
    File(Zeroizing<Vec<u8>>),
    /// A new directory.
    Directory,
    /// A new symbolic link to this target.
    Link(String),
}

/// The owner and the group of a new object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Owner {
    /// The user who writes it.
    Writer,
    /// The owner of the file that it replaces, in the form of chown, if the writer may set it.
    Kept(String),
    /// An owner in the form of chown.
    Set(String),
}

/// Objects in one directory that are written together.
#[derive(Debug)]
pub(crate) struct Group<'a> {
    directory: &'a str,
    parents: bool,
    /// The objects, each with the index that its caller gave it.
    writes: Vec<(usize, &'a Write)>,
    names: usize,
}

/// Returns the groups of `writes`. An object that is alone in its directory is in no group.
pub(crate) fn grouped<'a>(writes: impl IntoIterator<Item = (usize, &'a Write)>) -> Vec<Group<'a>> {
    let mut directories: BTreeMap<(&str, bool), Vec<Group>> = BTreeMap::new();
    for (index, write) in writes {
        let key = (parent(&write.path), write.parents);
        let groups = directories.entry(key).or_default();
        match groups.last_mut() {
            Some(group) if group.names + write.path.len() <= NAMES => {
                group.names += write.path.len();
                group.writes.push((index, write));
            }
            _ => groups.push(Group {
                directory: key.0,
                parents: key.1,
                writes: vec![(index, write)],
                names: write.path.len(),
            }),
        }
    }
    directories.into_values().flatten().filter(|group| group.writes.len() > 1).collect()
}

impl Group<'_> {
    /// Returns the indexes of the objects.
    pub(crate) fn indexes(&self) -> impl Iterator<Item = usize> {
        self.writes.iter().map(|(index, _)| *index)
    }

    /// Returns shell that writes the objects.
    pub(crate) fn script(&self) -> Zeroizing<String> {
        let parents = if self.parents { "parents" } else { "" };
        let mut body = Zeroizing::new(format!("{FUNCTIONS}stage {} '{parents}'\n", quote(self.directory)));
        let (mut files, mut directories, mut others) = (Names::default(), Names::default(), Names::default());
        let mut owners: BTreeMap<&Owner, Names> = BTreeMap::new();
        let mut modes: BTreeMap<&str, Names> = BTreeMap::new();
        for (_, write) in &self.writes {
            let name = relative(write);
            match &write.object {
                Object::File(content) => {
                    body.push_str(&format!("put {} '", quote(&name)));
                    push_format(&mut body, content);
                    body.push_str("'\n");
                    files.add(&name);
                }
                Object::Directory => {
                    directories.add(&name);
                    others.add(&name);
                }
                Object::Link(target) => {
                    body.push_str(&format!("ln -s -- {} {}\n", quote(target), quote(&name)));
                    others.add(&name);
                }
            }
            owners.entry(&write.owner).or_default().add(&name);
            if let Some(mode) = &write.mode {
                modes.entry(mode).or_default().add(&name);
            }
        }
        directories.append(&mut body, "mkdir -m 0700 --", "");
        // chown comes first, because it may clear the setuid bit.
        for (owner, names) in owners {
            match owner {
                Owner::Writer => {}
                Owner::Kept(owner) => {
                    names.append(&mut body, &format!("chown -- {}", quote(owner)), " 2>/dev/null || true");
                }
                Owner::Set(owner) => names.append(&mut body, &format!("chown -- {}", quote(owner)), ""),
            }
        }
        for (mode, names) in modes {
            names.append(&mut body, &format!("chmod -- {}", quote(mode)), "");
        }
        files.append(&mut body, "sync --", "");
        files.append(&mut body, "mv -f -t .. --", " || true");
        // Unlike a file, a directory or a link never replaces another object.
        others.append(&mut body, "mv -n -t .. --", " || true");
        files.append(&mut body, "report_written", &others.0);
        if files.0.is_empty() {
            others.append(&mut body, "report_written", "");
        }
        body
    }

    /// Returns the indexes of the objects that were written.
    pub(crate) fn written(&self, answer: &Section) -> Vec<usize> {
        let written = answer.blob("written").unwrap_or_default();
        let names: HashSet<&[u8]> = written.split(|byte| *byte == 0).collect();
        let is_written = |write: &Write| names.contains(relative(write).as_bytes());
        self.writes.iter().filter(|(_, write)| is_written(write)).map(|(index, _)| *index).collect()
    }
}

/// Names as arguments of a command, each after a space.
#[derive(Default)]
struct Names(String);

impl Names {
    fn add(&mut self, name: &str) {
        self.0.push(' ');
        self.0.push_str(&quote(name));
    }

    /// Adds to `body` the command with these arguments and with `end`, if there are any.
    fn append(&self, body: &mut String, command: &str, end: &str) {
        if !self.0.is_empty() {
            body.extend([command, &self.0, end, "\n"]);
        }
    }
}

/// Returns the path of the object in the private directory.
fn relative(write: &Write) -> String {
    format!("./{}", write.path.rsplit('/').next().unwrap_or_default())
}

/// Adds `bytes` as a format of printf, within single quotes. printf is built in, so that no process has them in its arguments.
fn push_format(body: &mut String, bytes: &[u8]) {
    let text = std::str::from_utf8(bytes).ok().filter(|text| !text.contains('\0'));
    match text {
        Some(text) => {
            for (at, c) in text.char_indices() {
                match c {
                    '\\' => body.push_str("\\\\"),
                    '%' => body.push_str("%%"),
                    '\'' => body.push_str("'\\''"),
                    // A format must not look like an option.
                    '-' if at == 0 => body.push_str("\\055"),
                    c => body.push(c),
                }
            }
        }
        None => bytes.iter().for_each(|byte| body.push_str(&format!("\\{byte:03o}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str) -> Write {
        Write { path: path.to_owned(), object: Object::Directory, owner: Owner::Writer, mode: None, parents: false }
    }

    #[test]
    fn objects_in_one_directory_are_a_group() {
        let files = ["/a/x", "/b/x", "/a/y", "/c/x", "/b/y"].map(file);
        let groups = grouped(files.iter().enumerate());
        let indexes: Vec<Vec<usize>> = groups.iter().map(|group| group.indexes().collect()).collect();
        assert_eq!(indexes, [[0, 2], [1, 4]]);
    }

    #[test]
    fn printf_writes_every_byte() {
        let all: Vec<u8> = (0..=255).collect();
        for content in [&b"-n 100% 'it' \\n \\c\n"[..], "ä\n\t".as_bytes(), &all, b"", b"--"] {
            let mut format = String::new();
            push_format(&mut format, content);
            let script = format!("{FUNCTIONS}cd -- \"$1\"; put ./f '{format}'");
            let dir = tempfile::tempdir().unwrap();
            let status =
                std::process::Command::new("sh").args(["-ec", &script, "sh"]).arg(dir.path()).status().unwrap();
            assert!(status.success());
            assert_eq!(std::fs::read(dir.path().join("f")).unwrap(), content);
        }
    }
}
