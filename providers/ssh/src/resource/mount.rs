//! `ssh_mount`: a file system that is mounted, now and at boot.

use moorfast_engine::model::{Attribute, Attributes, Kind, ReadAttributes, Schema, Value};
use moorfast_engine::provider::{
    Class, Consequence, Declaration, Invalid, Observed, Operation, OperationAction, PlanRequest, Proposal,
    ProposedAction, ProviderError, TargetKind,
};
use serde_json::json;

use super::fstab::{Entry, Mounted, escaped, is_read_only};
use super::proposal::propose;
use super::{Resource, ShellTask, TEXT_FILE, absolute_path, not_sensitive};
use crate::object_answer::Answer;
use crate::script::{Section, quote};
use crate::sources::Sources;
use crate::subject::Subject;

/// The resource type `ssh_mount`.
pub(crate) struct Mount;

const FUNCTIONS: &str = include_str!("mount/functions.sh");

const READ: &str = include_str!("mount/read.sh");

/// The attributes that decide which file system is mounted.
const FILE_SYSTEM: &[&str] = &["source", "fstype"];

impl Resource for Mount {
    fn declaration(&self) -> Declaration {
        let schema = Schema::new(
            "A file system that is mounted now, and at boot by its line in `/etc/fstab`. All other lines of that file stay as they are. \
             Another file system at the mount point is unmounted first. A change of `options` mounts the file system again in place. A mount point that does not exist is created (mode 0755). \
             A destroy unmounts the file system and removes its line, unless both existed before moorfast; a file system that is in use is an error.",
            [
                Attribute::required("path", Kind::String, "The absolute path of the mount point.").replaces(),
                Attribute::required("source", Kind::String, "The file system: a device (`/dev/sdb1`, `UUID=…`, `LABEL=…`), the directory of a bind mount, `server:/path` for NFS, or a name such as `tmpfs`."),
                Attribute::required("fstype", Kind::String, "The type of the file system: `ext4`, `nfs`, `tmpfs`, or `none` for a bind mount."),
                Attribute::optional("options", Kind::list(Kind::String), "The mount options: `[\"noatime\", \"nofail\"]`, `[\"bind\"]`.").or(vec!["defaults"]),
                Attribute::optional("dump", Kind::Integer, "Whether `dump` saves the file system (0 or 1).").or(0),
                Attribute::optional("pass", Kind::Integer, "The order in which file systems are checked at boot: 1 for the root file system, 2 for others, 0 for no check.").or(0),
                Attribute::optional("mounted", Kind::Bool, "Whether the file system is mounted now. With false only the line is written, and the file system is unmounted.").or(true),
                Attribute::computed("at_boot", Kind::Bool, "Whether `/etc/fstab` has a line for the mount point."),
                Attribute::computed("mounted_source", Kind::String, "What is mounted at the mount point now. Empty if nothing is."),
                Attribute::computed("read_only", Kind::Bool, "Whether it is mounted read-only now. The kernel may have done so after an error of the disk."),
            ],
        );
        Declaration { name: "ssh_mount", target_kind: TargetKind::Node, schema }
    }

    fn validate(&self, attributes: &Attributes) -> Vec<Invalid> {
        let mut invalid: Vec<Invalid> = absolute_path(attributes, "path").into_iter().collect();
        for name in ["source", "options"] {
            let help = "every user of the node can see it; name a file with the secret (`credentials=/etc/…`)";
            invalid.extend(not_sensitive(attributes, name, help));
        }
        for name in FILE_SYSTEM {
            if attributes.text(name).is_some_and(|text| text.is_empty() || text.starts_with('#') || text.contains('\0'))
            {
                invalid.push(Invalid::new(name, format!("{name} must not be empty, nor begin with `#`")));
            }
        }
        if let Some(fstype) = attributes.text("fstype") {
            if fstype == "swap" {
                invalid.push(Invalid::new("fstype", "swap is not mounted".to_owned()).help("use ssh_swap"));
            } else if fstype.contains(char::is_whitespace) {
                invalid.push(Invalid::new("fstype", format!("`{fstype}` is not a valid type of a file system")));
            }
        }
        if attributes.get("options").and_then(Value::as_list).is_some_and(<[Value]>::is_empty) {
            invalid.push(
                Invalid::new("options", "options is an empty list".to_owned()).help("omit it, or write [\"defaults\"]"),
            );
        }
        for option in attributes.texts("options") {
            if option.is_empty() || option.contains([',', '\0']) {
                let message = format!("`{option}` is not a valid mount option");
                invalid.push(Invalid::new("options", message).help("write each option as an element of the list"));
            }
        }
        for (name, most) in [("dump", 1), ("pass", 2)] {
            if number(attributes, name).is_some_and(|n| !(0..=most).contains(&n)) {
                invalid.push(Invalid::new(name, format!("{name} must be between 0 and {most}")));
            }
        }
        invalid
    }

    fn identity(&self, attributes: &Attributes) -> Option<String> {
        Some(format!("mount:{}", attributes.text("path")?))
    }

    fn lost_on_overwrite(&self) -> &'static [&'static str] {
        &["source", "fstype", "options"]
    }

    fn read_script(&self, subject: &Subject) -> String {
        format!("{}{FUNCTIONS}{READ}", places(&subject.attributes))
    }

    fn observe(&self, subject: &Subject, answer: &Answer) -> Result<Option<Observed>, ProviderError> {
        let entries = answer.own.text("entries").unwrap_or_default();
        let lines: Vec<&str> = entries.lines().collect();
        let path = subject.text("path").unwrap_or_default();
        if lines.len() > 1 {
            let summary = format!("/etc/fstab has {} lines for {path}", lines.len());
            return Err(ProviderError::new(Class::Conflict, summary).help("delete all of them but one"));
        }
        let line = lines.first().copied();
        let mounted = answer.own.text("mounted").as_deref().and_then(Mounted::of);
        if line.is_none() && mounted.is_none() {
            return Ok(None);
        }
        let mut attributes = Attributes::from([
            ("at_boot".to_owned(), Value::from(line.is_some())),
            ("mounted".to_owned(), Value::from(answer.own.is("same"))),
            ("mounted_source".to_owned(), Value::from(mounted.as_ref().map_or("", |mounted| &mounted.source))),
            ("read_only".to_owned(), Value::from(mounted.as_ref().is_some_and(|mounted| mounted.read_only))),
        ]);
        attributes.extend(subject.attributes.get("path").map(|path| ("path".to_owned(), path.clone())));
        if let Some(Entry { source, fstype, options, numbers: [dump, pass], .. }) = line.and_then(Entry::of) {
            attributes.extend([
                ("source".to_owned(), Value::from(source)),
                ("fstype".to_owned(), Value::from(fstype)),
                ("options".to_owned(), Value::from(options)),
                ("dump".to_owned(), Value::from(dump)),
                ("pass".to_owned(), Value::from(pass)),
            ]);
        }
        let private = json!({ "line": line, "mounted": mounted.is_some(), "wanted": answer.own.is("wanted") });
        Ok(Some(Observed { attributes, private }))
    }

    fn plan(&self, request: &PlanRequest, _: &Sources) -> Result<Proposal, ProviderError> {
        let mut planned = request.desired.clone();
        planned.insert("at_boot".to_owned(), Value::from(true));
        let mounted = planned.get("mounted").and_then(Value::as_bool);
        if mounted == Some(false) {
            planned.insert("mounted_source".to_owned(), Value::from(""));
            planned.insert("read_only".to_owned(), Value::from(false));
        } else if planned
            .get("options")
            .and_then(Value::as_list)
            .is_some_and(|list| list.iter().all(|v| v.as_str().is_some()))
        {
            let options = planned.texts("options");
            planned.insert("read_only".to_owned(), Value::from(is_read_only(options.iter().map(String::as_str))));
        }
        let mut proposal = propose(self, request, planned);
        if let Some(Observed { attributes: observed, private }) = &request.observed
            && matches!(proposal.action, ProposedAction::Update)
            && private["wanted"] != true
        {
            let now = observed.text("mounted_source").unwrap_or_default();
            let path = request.desired.text("path").unwrap_or_default();
            let is_others = request.foreign || !observed.flag("mounted");
            if !now.is_empty() && is_others {
                proposal.consequences.push(Consequence::Removal { object: format!("the mount of {now} at {path}") });
            } else if !now.is_empty() && mounted != Some(false) {
                let cause = format!("{now} is unmounted first");
                proposal.consequences.push(Consequence::Restart { cause });
            }
            if mounted != Some(false) {
                proposal.planned.insert("mounted_source".to_owned(), Value::Unknown);
            }
        }
        Ok(proposal)
    }

    fn apply_script(&self, operation: &Operation, subject: &Subject, _: &Sources) -> Result<ShellTask, ProviderError> {
        let attributes = &subject.attributes;
        let start = format!("{}{TEXT_FILE}{FUNCTIONS}", places(attributes));
        if matches!(operation.action, OperationAction::Delete) {
            return Ok(ShellTask::long(format!("{start}{}", restore(&subject.private))));
        }
        let entry = entry(attributes);
        let observed = operation.observed.as_ref().map(|observed| &observed.attributes);
        let differs = |name: &str| observed.and_then(|observed| observed.get(name)) != attributes.get(name);
        let reads_only = is_read_only(entry.options.iter().map(String::as_str));
        let again = differs("options") || observed.is_some_and(|observed| observed.flag("read_only") != reads_only);
        let mount = match attributes.flag("mounted") {
            true => format!(
                "if is_mounted \"$SOURCE\" \"$TYPE\" \"$OPTIONS\"; then {}
else
  if [ -n \"$MOUNTED\" ]; then unmount; fi
  mount_as \"$OPTIONS\"
fi",
                if again { "mount_as \"remount,$OPTIONS\"" } else { ":" }
            ),
            false => "if [ -n \"$MOUNTED\" ]; then unmount; fi".to_owned(),
        };
        Ok(ShellTask::long(format!(
            "{start}[ -e \"$P\" ] || {{ mkdir -p -- \"$P\"; field made yes; }}
find_mount
{mount}
write_entry {}",
            quote(&entry.line()),
        )))
    }

    fn initial_private_data(&self, _: &Attributes, observed: Option<&Observed>) -> Option<serde_json::Value> {
        let found = observed.map(|observed| &observed.private);
        Some(
            json!({ "line": found.map(|found| &found["line"]), "mounted": found.is_some_and(|found| found["mounted"] == true) }),
        )
    }

    fn private(&self, subject: &Subject, answer: &Section) -> serde_json::Value {
        let mut private =
            if subject.private.is_null() { subject.initial_private.clone() } else { subject.private.clone() };
        if let Some(private) = private.as_object_mut().filter(|_| answer.is("made")) {
            private.insert("made".to_owned(), json!(true));
        }
        private
    }
}

/// Returns the number of an attribute.
fn number(attributes: &Attributes, name: &str) -> Option<i64> {
    attributes.get(name).and_then(Value::as_i64)
}

/// Returns the line of `/etc/fstab` for `attributes`.
fn entry(attributes: &Attributes) -> Entry {
    let written = |name: &str| attributes.text(name).unwrap_or_default().to_owned();
    Entry {
        source: written("source"),
        path: written("path"),
        fstype: written("fstype"),
        options: attributes.texts("options"),
        numbers: ["dump", "pass"].map(|name| number(attributes, name).unwrap_or_default()),
    }
}

/// Returns shell variables: the mount point, and the file system of the manifest.
fn places(attributes: &Attributes) -> String {
    let Entry { source, path, fstype, options, .. } = entry(attributes);
    let [path, field] = [quote(&path), quote(&escaped(&path))];
    let [source, fstype, options] = [&source, &fstype, &options.join(",")].map(|text| quote(text));
    format!("P={path}; POINT={field}; SOURCE={source}; TYPE={fstype}; OPTIONS={options}\n")
}

/// Returns shell that restores the state from before moorfast. What others have mounted instead stays.
fn restore(private: &serde_json::Value) -> String {
    let unmount = match private["mounted"] == true {
        true => "if [ -n \"$MOUNTED\" ]; then note \"$P stays mounted: it was mounted before\"; fi",
        false => {
            "if is_mounted \"$SOURCE\" \"$TYPE\" \"$OPTIONS\"; then unmount; elif [ -n \"$MOUNTED\" ]; then note \"$P stays mounted: another file system is mounted there\"; fi"
        }
    };
    let entry = private["line"].as_str().map_or_else(|| "''".to_owned(), quote);
    let remove = if private["made"] == true { "\nrmdir -- \"$P\" 2>/dev/null || true" } else { "" };
    format!("find_mount\n{unmount}\nif [ -f /etc/fstab ]; then write_entry {entry}; fi{remove}")
}
