//! The preconditions of a change: what is at the paths that it writes, and the program that it runs. They are read together with the object, so that the plan shows what the
//! apply would refuse.

use std::collections::BTreeMap;

use moorfast_engine::model::{Address, Attributes, ReadAttributes, Value};
use moorfast_engine::provider::{Consequence, PlanRequest, Proposal, ProposedAction};

use crate::findings::{Access, Directory, Findings, Room};
use crate::path::parent;
use crate::question::{Question, Topic};
use crate::resource::{exec, file_block, nftables_table, sysctl, timezone, unit};
use crate::script::{Section, quote};

/// A path that an operation writes.
struct WrittenPath {
    path: String,
    /// Whether the operation creates missing parent directories.
    parents: bool,
}

/// Returns the paths that an operation on an instance writes.
fn written_paths(kind: &str, attributes: &Attributes) -> Vec<WrittenPath> {
    let written = |path: &str, parents: bool| WrittenPath { path: path.to_owned(), parents };
    let own = |parents| attributes.text("path").map(|path| written(path, parents)).into_iter().collect();
    match kind {
        "ssh_file" | "ssh_directory" => own(attributes.flag("parents")),
        "ssh_link" | "ssh_file_block" => own(false),
        "ssh_archive" => attributes.text("path").map(|path| written(&format!("{path}/."), true)).into_iter().collect(),
        "ssh_systemd_unit" if attributes.is_set("content") || attributes.is_set("drop_ins") => {
            vec![written("/etc/systemd/system/.", true)]
        }
        "ssh_sysctl" => vec![written("/etc/sysctl.d/.", true)],
        "ssh_kernel_module" => vec![written("/etc/modules-load.d/.", true)],
        "ssh_swap" | "ssh_mount" => vec![written("/etc/fstab", true)],
        "ssh_timezone" => vec![written("/etc/localtime", true), written("/etc/timezone", true)],
        "ssh_nftables_table" => vec![written("/etc/nftables.d/.", true), written("/etc/systemd/system/.", true)],
        "ssh_apt_repository" => {
            vec![written("/etc/apt/sources.list.d/.", true), written("/etc/apt/keyrings/.", true)]
        }
        "ssh_dnf_repository" => vec![written("/etc/yum.repos.d/.", true), written("/etc/pki/rpm-gpg/.", true)],
        "ssh_hostname" => vec![written("/etc/hostname", true)],
        "ssh_user" => vec![written("/etc/passwd", true), written("/etc/shadow", true)],
        "ssh_group" => vec![written("/etc/group", true)],
        _ => Vec::new(),
    }
}

/// An account that must exist before a change.
struct NeededAccount {
    question: Question,
    /// Whether its name is sensitive.
    hidden: bool,
}

/// Returns the accounts, by name, that an instance needs: the owner and the group of a path, the groups of a user.
fn needed_accounts(kind: &str, attributes: &Attributes) -> Vec<NeededAccount> {
    let attributes_and_topics: &[_] = match kind {
        "ssh_user" => &[("group", Topic::Group), ("groups", Topic::Group)],
        _ if attributes.text("path").is_some() => &[("owner", Topic::User), ("group", Topic::Group)],
        _ => &[],
    };
    let is_name = |account: &&str| !account.bytes().all(|byte| byte.is_ascii_digit());
    let of_attribute = |(name, topic): &(&str, Topic)| {
        let hidden = attributes.get(name).is_some_and(Value::is_sensitive);
        let names = attributes.text(name).map(|one| vec![one.to_owned()]).unwrap_or_else(|| attributes.texts(name));
        let needed = |account: &String| NeededAccount { question: topic.of(account), hidden };
        names.iter().filter(|account| is_name(&account.as_str())).map(needed).collect::<Vec<_>>()
    };
    attributes_and_topics.iter().flat_map(of_attribute).collect()
}

/// Returns the questions about the preconditions of an instance.
pub(crate) fn questions(kind: &str, desired: &Attributes) -> Vec<Question> {
    let mut questions = Vec::new();
    for written in written_paths(kind, desired) {
        questions.push(Topic::Directory.of(parent(&written.path)));
        questions.push(Topic::Closed.of(written.path));
    }
    questions.extend(needed_accounts(kind, desired).into_iter().map(|account| account.question));
    questions
}

/// Returns shell that reads the preconditions of an instance that no question asks.
pub(crate) fn read_script(kind: &str, desired: &Attributes) -> String {
    let mut body = String::new();
    if kind == "ssh_exec"
        && let Some(program) = exec::program(desired)
    {
        let name = quote(program.name);
        let test = match program.name.starts_with('/') {
            true => format!("[ -f {name} ] && [ -x {name} ]"),
            false => format!("[ -n \"$(command -v -- {name})\" ]"),
        };
        body.push_str(&format!("\n{test} || field no.program yes"));
    }
    if kind == "ssh_timezone"
        && let Some(name) = desired.text("name")
    {
        body.push_str(&format!("\n[ -f {} ] || field no.zone yes", quote(&timezone::file_of(name))));
    }
    if kind == "ssh_file_block"
        && let Some(path) = desired.text("path")
    {
        body.push_str(&file_block::precondition(path, desired));
    }
    body
}

/// The preconditions that were read on a node, and the changes that are planned there.
#[derive(Default)]
pub(crate) struct Preconditions {
    /// The fields that the shell of the preconditions reported.
    own: BTreeMap<Address, Section>,
    node: Findings,
    changes: BTreeMap<Address, (&'static str, Attributes)>,
}

impl Preconditions {
    /// Adds what the shell of the preconditions of an instance reported.
    pub(crate) fn note(&mut self, address: &Address, own: Section) {
        self.own.insert(address.clone(), own);
    }

    /// Adds findings about the node.
    pub(crate) fn extend(&mut self, findings: Findings) {
        self.node.extend(findings.about_writing());
    }

    /// Adds the planned change of an instance.
    pub(crate) fn plan(&mut self, request: &PlanRequest, proposal: &Proposal) {
        match proposal.action {
            ProposedAction::NoOp => self.changes.remove(&request.address),
            _ => self.changes.insert(request.address.clone(), (request.resource_type.name(), request.desired.clone())),
        };
    }

    /// Returns the obstacles of a planned change.
    pub(crate) fn obstacles(&self, request: &PlanRequest, proposal: &Proposal) -> Vec<Consequence> {
        let own = |name: &str| self.own.get(&request.address).is_some_and(|own| own.is(name));
        let size = proposal.planned.get("size").and_then(|size| size.reveal().as_i64()).unwrap_or(1);
        let mut found: Vec<String> = Vec::new();
        let kind = request.resource_type.name();
        for written in written_paths(kind, &request.desired) {
            found.extend(self.obstacle(request, &written, u64::try_from(size).unwrap_or(1)));
        }
        for NeededAccount { question, hidden } in needed_accounts(kind, &request.desired) {
            let account = question.name.as_str();
            let made = self.is_made(request, |kind, attributes| {
                matches!(kind, "ssh_user" | "ssh_group") && attributes.text("name") == Some(account)
            });
            if self.node.is_missing(&question) && !made {
                let noun = if question.topic == Topic::User { "user" } else { "group" };
                let shown = if hidden { "(sensitive)" } else { account };
                found.push(format!(
                    "the {noun} `{shown}` does not exist (create it with ssh_{noun}, or correct the name)"
                ));
            }
        }
        if let Some(program) = exec::program(&request.desired).filter(|_| own("no.program")) {
            let made = self.is_made(request, |kind, attributes| {
                matches!(kind, "ssh_file" | "ssh_link") && attributes.text("path") == Some(program.name)
            });
            found.extend((!made).then(|| program.missing()));
        }
        if let Some(name) = request.desired.text("name").filter(|_| own("no.zone")) {
            let made = self.is_made(request, |_, _| false);
            found.extend((!made).then(|| format!("{} ({})", timezone::missing(name), timezone::HELP)));
        }
        if let Some(path) = request.desired.text("path").filter(|_| own("no.file")) {
            let made = self.is_made(request, |kind, attributes| {
                matches!(kind, "ssh_file" | "ssh_file_block") && attributes.text("path") == Some(path)
            });
            found.extend((!made).then(|| format!("the file does not exist ({})", file_block::MISSING)));
        }
        found.extend(self.missing_object(request, proposal).map(str::to_owned));
        let reported = |name: &str| self.own.get(&request.address).and_then(|own| own.text(name));
        found.extend(reported("other.kind").map(|kind| format!("there is a {kind} at the path")));
        found.extend(reported("bad.pattern").map(|error| format!("the regular expression is not valid: {error}")));
        if own("no.nft") {
            found.extend((!self.is_made(request, |_, _| false)).then(|| nftables_table::MISSING.to_owned()));
        }
        found.extend(reported("refused").map(|error| nftables_table::refusal(&error)));
        found.dedup();
        found.into_iter().map(|message| Consequence::Obstacle { message }).collect()
    }

    /// Returns the obstacle of a change that cannot create its object, if the object does not exist.
    fn missing_object(&self, request: &PlanRequest, proposal: &Proposal) -> Option<&'static str> {
        if proposal.action != ProposedAction::Create {
            return None;
        }
        let name = request.desired.text("name")?;
        match request.resource_type.name() {
            "ssh_sysctl" => {
                let made = self.is_made(request, |kind, _| kind == "ssh_kernel_module");
                (!made).then_some(sysctl::MISSING)
            }
            "ssh_systemd_unit" if unit::must_exist(&request.desired) => {
                let is_definition = |path: &str| path.contains("/systemd/system/") || path.ends_with(name);
                let made = self.is_made(request, |_, attributes| attributes.text("path").is_some_and(is_definition));
                (!made).then_some(unit::MISSING)
            }
            _ => None,
        }
    }

    fn obstacle(&self, request: &PlanRequest, written: &WrittenPath, size: u64) -> Option<String> {
        let directory = parent(&written.path);
        let Directory { above, access } = self.node.directory(directory)?;
        let missing = above != directory;
        let made = || {
            self.is_made(request, |kind, attributes| {
                let path = attributes.text("path").unwrap_or_default();
                match kind {
                    "ssh_directory" | "ssh_file" => {
                        is_within(directory, path) || is_within(path, directory) || path == above
                    }
                    "ssh_user" => may_be_in_home(directory, attributes),
                    _ => false,
                }
            })
        };
        match access {
            Access::NoDirectory => (!made()).then(|| format!("{above} is not a directory")),
            Access::Closed { to_root, attributes } => Some(closed(above, *to_root, attributes)),
            Access::Open(room) => {
                if let Some(attributes) = self.node.closed(&written.path) {
                    return Some(closed(&written.path, true, attributes));
                }
                if missing && !written.parents && !made() {
                    return Some(format!(
                        "the directory {directory} does not exist (create it with ssh_directory, or set parents = true)"
                    ));
                }
                let Room { bytes, no_inode } = (*room)?;
                match (bytes < size, no_inode) {
                    (true, _) => Some(format!(
                        "the file system of {above} has {bytes} bytes of free space, and {size} are needed"
                    )),
                    (_, true) => Some(format!("the file system of {above} has no free inode")),
                    _ => None,
                }
            }
        }
    }

    /// Whether another planned change may create a missing object: a change that `fits`, or one with unknown results.
    fn is_made(&self, request: &PlanRequest, fits: impl Fn(&str, &Attributes) -> bool) -> bool {
        let opaque = |kind: &str| matches!(kind, "ssh_package" | "ssh_exec" | "ssh_archive" | "ssh_systemd_unit");
        let others = self.changes.iter().filter(|(address, _)| **address != request.address);
        others.map(|(_, change)| change).any(|(kind, attributes)| opaque(kind) || fits(kind, attributes))
    }
}

/// Whether `path` may be in the home directory of a user with these attributes. The node chooses a home that is not set, and names it like the user.
fn may_be_in_home(path: &str, user: &Attributes) -> bool {
    match (user.text("home"), user.text("name")) {
        (Some(home), _) => is_within(path, home),
        (None, Some(name)) => path.split('/').any(|part| part == name),
        (None, None) => true,
    }
}

/// Whether `path` is `directory` or below it.
fn is_within(path: &str, directory: &str) -> bool {
    path.strip_prefix(directory).is_some_and(|rest| rest.is_empty() || rest.starts_with('/') || directory == "/")
}

/// Returns why the path cannot be changed by anybody, or only by root.
fn closed(path: &str, by_root: bool, attributes: &str) -> String {
    match (attributes.contains('i'), by_root) {
        (true, _) => format!("{path} is immutable (`chattr -i` clears the attribute)"),
        (false, true) => format!("{path} is on a read-only file system"),
        (false, false) => {
            format!("the user that moorfast logs in as cannot write to {path} (sudo = true on the node makes it root)")
        }
    }
}
