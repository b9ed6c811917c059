//! What a node answers about an object, and how it is read: records of parts that end with a zero byte, and lines of databases.

use std::collections::HashMap;
use std::sync::Arc;

use crate::script::Section;

/// A kernel parameter.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Parameter {
    /// The value, as the kernel prints it.
    pub(crate) value: String,
    /// The permissions of its file in octal.
    pub(crate) mode: String,
    /// What is true of its file, in the words of `question/parameter.sh`.
    marks: Vec<String>,
    /// Whether root asks.
    pub(crate) by_root: bool,
    /// The lines of the files read at boot that may set it, each after the path of its file and a zero byte.
    pub(crate) boot_lines: Arc<str>,
}

impl Parameter {
    /// Whether this is true of the file, in the words of `question/parameter.sh`.
    pub(crate) fn is(&self, mark: &str) -> bool {
        self.marks.iter().any(|m| m == mark)
    }

    /// Returns the answer that the value cannot be read, by the user with this ID.
    pub(super) fn refusal(&self, uid: Option<&str>) -> Option<Section> {
        if self.is("directory") {
            return Some(Section::refused("failed", "Is a directory", uid));
        }
        (!self.is("readable")).then(|| match self.mode.contains(['4', '5', '6', '7']) {
            true => Section::refused("denied", "Permission denied", uid),
            false => Section::refused("invalid", "the parameter is write-only: its value cannot be read", uid)
                .with_help("write the parameter with a command (ssh_exec)"),
        })
    }
}

/// A kernel module.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Module {
    /// Whether it is loaded or built into the kernel.
    pub(crate) loaded: bool,
    /// The lines of the file of moorfast that loads it at boot.
    pub(crate) boot: Vec<String>,
}

/// The status of a systemd unit.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Unit {
    /// The name of the unit, also if it was asked for by an alias.
    pub(crate) id: String,
    /// Whether the unit is loaded: `LoadState`.
    pub(crate) load: String,
    /// Whether the unit runs: `ActiveState`.
    pub(crate) active: String,
    /// Whether the unit is enabled: `UnitFileState`.
    pub(crate) file_state: String,
    /// Whether its files changed since systemd read them.
    pub(crate) needs_reload: bool,
    /// What else is true of it, in the words of `question/unit.sh`.
    marks: Vec<String>,
}

impl Unit {
    /// Whether this is true of the unit, in the words of `question/unit.sh`.
    pub(crate) fn is(&self, mark: &str) -> bool {
        self.marks.iter().any(|m| m == mark)
    }
}

/// The status of an object at a path.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Status {
    /// The kind of the object, in the words of `stat`.
    pub(crate) kind: String,
    /// The permissions in octal.
    pub(crate) mode: String,
    /// The size in bytes.
    pub(crate) size: u64,
    /// The user ID and the group ID.
    pub(crate) ids: [String; 2],
    /// The names of the user and of the group, or `UNKNOWN`.
    pub(crate) names: [String; 2],
    /// The target of a symbolic link.
    pub(crate) target: Option<String>,
}

impl Status {
    /// Whether it is a regular file.
    pub(crate) fn is_regular(&self) -> bool {
        self.kind.starts_with("regular")
    }
}

/// A directory in which objects may be created.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Directory {
    /// The nearest existing object at or above its path.
    pub(crate) above: String,
    /// Whether objects can be created there.
    pub(crate) access: Access,
}

/// Whether objects can be created in a directory.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Access {
    /// They can, as long as the file system has room, if it reports its room.
    Open(Option<Room>),
    /// They cannot.
    Closed {
        /// Whether not even root can create them.
        to_root: bool,
        /// The attributes of the directory, as `lsattr` prints them.
        attributes: String,
    },
    /// The object is not a directory.
    NoDirectory,
}

/// The room in a file system.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Room {
    /// The free bytes.
    pub(crate) bytes: u64,
    /// Whether the file system has no free inode.
    pub(crate) no_inode: bool,
}

/// Splits an answer into records of `N` parts, each ended by a zero byte.
pub(super) fn records<const N: usize>(bytes: &[u8]) -> impl Iterator<Item = [&[u8]; N]> {
    let mut parts = bytes.split_inclusive(|byte| *byte == 0).filter_map(|part| part.strip_suffix(&[0]));
    std::iter::from_fn(move || {
        let mut record = [&[][..]; N];
        for part in &mut record {
            *part = parts.next()?;
        }
        Some(record)
    })
}

/// Returns the parts of a record as texts.
pub(super) fn texts<'a, const N: usize>(record: &[&'a [u8]; N]) -> Option<[&'a str; N]> {
    let mut texts = [""; N];
    for (text, part) in texts.iter_mut().zip(record) {
        *text = std::str::from_utf8(part).ok()?;
    }
    Some(texts)
}

/// Returns the path and the status of a record of `question/path.sh`. A name may contain a space, but no colon.
pub(super) fn status_of(record: [&[u8]; 4]) -> Option<(String, Status)> {
    let [path, kind, numbers, shown] = record.map(String::from_utf8_lossy);
    let words: Vec<&str> = numbers.splitn(5, ' ').collect();
    let [mode, size, uid, gid, names] = words[..] else { return None };
    let (user, group) = names.split_once(':')?;
    let target = shown.strip_prefix(path.as_ref()).and_then(|rest| rest.strip_prefix(" -> "));
    let status = Status {
        kind: kind.into_owned(),
        mode: mode.to_owned(),
        size: size.parse().ok()?,
        ids: [uid, gid].map(str::to_owned),
        names: [user, group].map(str::to_owned),
        target: target.map(str::to_owned),
    };
    Some((path.into_owned(), status))
}

/// Returns the kernel parameters of an answer of `question/parameter.sh`.
pub(super) fn parameters(accesses: &[u8], answer: &Section) -> HashMap<String, Parameter> {
    let blob = |name: &str| answer.blob(name).unwrap_or_default();
    let (modes, lines) = (blob("modes"), blob("values"));
    let name_of = |path: &str| path.strip_prefix("/proc/sys/").map(str::to_owned);
    let mode = |[path, mode]: [&str; 2]| Some((name_of(path)?, mode.to_owned()));
    let modes: HashMap<String, String> = records(&modes).filter_map(|record| mode(texts(&record)?)).collect();
    let mut values: HashMap<String, String> = HashMap::new();
    for line in String::from_utf8_lossy(&lines).split_inclusive('\n') {
        if let Some((name, text)) = line.split_once('\0').and_then(|(path, text)| Some((name_of(path)?, text))) {
            values.entry(name).or_default().push_str(text);
        }
    }
    let boot_lines: Arc<str> = String::from_utf8_lossy(&blob("boot")).into();
    let parameter = |[name, marks]: [&str; 2]| {
        let parameter = Parameter {
            value: values.remove(name).unwrap_or_default(),
            mode: modes.get(name).cloned().unwrap_or_default(),
            marks: marks.split_whitespace().map(str::to_owned).collect(),
            by_root: answer.field("user") == Some("0"),
            boot_lines: boot_lines.clone(),
        };
        (name.to_owned(), parameter)
    };
    let accesses: Vec<[&str; 2]> = records(accesses).filter_map(|record| texts(&record)).collect();
    accesses.into_iter().map(parameter).collect()
}

/// Returns the groups of the users of an answer of `question/membership.sh`. A group that the database does not have is named by its number.
pub(super) fn memberships(lines: &[u8], answer: &Section) -> HashMap<String, Vec<(String, String)>> {
    let groups = answer.text("groups").unwrap_or_default();
    let names: HashMap<&str, &str> =
        groups.lines().filter_map(|line| line.rsplit_once(':')).map(|(name, number)| (number, name)).collect();
    let group = |number: &str| ((*names.get(number).unwrap_or(&number)).to_owned(), number.to_owned());
    let user = |line: &str| {
        let mut words = line.split(' ');
        Some((words.next()?.to_owned(), words.map(group).collect()))
    };
    String::from_utf8_lossy(lines).lines().filter_map(user).collect()
}

/// Returns the name and the module of a record of `question/module.sh`.
pub(super) fn module_of([name, loaded, boot]: [&str; 3]) -> (String, Module) {
    let boot = boot.split_terminator('|').map(str::to_owned).collect();
    (name.to_owned(), Module { loaded: loaded == "loaded", boot })
}

/// Returns the name and the status of a record of `question/unit.sh`.
pub(super) fn unit_of([name, id, load, active, file_state, reload, marks]: [&str; 7]) -> (String, Unit) {
    let unit = Unit {
        id: id.to_owned(),
        load: load.to_owned(),
        active: active.to_owned(),
        file_state: file_state.to_owned(),
        needs_reload: reload == "yes",
        marks: marks.split_whitespace().map(str::to_owned).collect(),
    };
    (name.to_owned(), unit)
}

/// Returns the directory and the room of a record of `stat -f`.
pub(super) fn room_of([directory, numbers]: [&str; 2]) -> Option<(String, Room)> {
    let numbers: Vec<u64> = numbers.split(' ').map(|number| number.parse().ok()).collect::<Option<_>>()?;
    let [free, block, inodes, free_inodes] = numbers[..] else { return None };
    let room = Room { bytes: free.checked_mul(block)?, no_inode: inodes > 0 && free_inodes == 0 };
    Some((directory.to_owned(), room))
}

/// Returns whether files can be created in a directory, from the words of `question/directory.sh`.
pub(super) fn access(state: &str, room: Option<&Room>) -> Option<Access> {
    let mut words = state.split(' ');
    match words.next()? {
        "open" => Some(Access::Open(room.copied())),
        "file" => Some(Access::NoDirectory),
        "closed" => Some(Access::Closed {
            to_root: words.next()? == "0",
            attributes: words.next().unwrap_or_default().to_owned(),
        }),
        _ => None,
    }
}

/// Returns the versions of the installed packages, by their names without and with their architectures.
pub(super) fn installed(lines: &str) -> HashMap<String, String> {
    let mut versions = HashMap::new();
    for line in lines.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        if let [name, architecture, "installed", version] = words[..] {
            for name in [name.to_owned(), format!("{name}:{architecture}")] {
                versions.entry(name).or_insert_with(|| version.to_owned());
            }
        }
    }
    versions
}
