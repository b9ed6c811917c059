//! The resource types, one file each, and what they have in common.

mod account;
mod archive;
mod directory;
mod exec;
pub(crate) mod facts;
mod file;
mod group;
mod install;
mod kernel_module;
mod link;
mod mode;
mod package;
mod swap;
mod sysctl;
mod sysctl_boot;
mod sysctl_value;
mod transaction;
mod unit;
mod user;

use std::path::PathBuf;
use std::time::Duration;

use moorfast_engine::model::{Attributes, Value};
use moorfast_engine::provider::{
    Consequence, Invalid, Observed, Operation, PlanRequest, Proposal, ProposedAction, ProviderError, ResourceType,
};
use moorfast_engine::state::Record;
use zeroize::Zeroizing;

use crate::script::Section;
use crate::secrets::Secrets;
use crate::sources::Sources;
use crate::subject::Subject;

/// All resource types.
pub(crate) const ALL: &[&dyn Resource] = &[
    &archive::Archive,
    &directory::Directory,
    &exec::Exec,
    &file::File,
    &group::Group,
    &kernel_module::KernelModule,
    &link::Link,
    &package::Package,
    &swap::Swap,
    &sysctl::Sysctl,
    &unit::Unit,
    &user::User,
];

/// The resource type of this name.
pub(crate) fn named(name: &str) -> Option<&'static dyn Resource> {
    ALL.iter().find(|resource| resource.resource_type().name == name).copied()
}

/// A resource type: how it is declared, looked at, planned and changed.
pub(crate) trait Resource: Send + Sync {
    /// Its declaration.
    fn resource_type(&self) -> ResourceType;

    /// Rules beyond the schema.
    fn validate(&self, _attributes: &Attributes) -> Vec<Invalid> {
        Vec::new()
    }

    /// The natural key within a node, unique over all types: `KIND:NAME`.
    fn identity(&self, attributes: &Attributes) -> Option<String>;

    /// Is what `record` remembers still what `attributes` mean?
    fn is_same_object(&self, record: &Record, attributes: &Attributes) -> bool {
        self.identity(attributes).is_some_and(|identity| identity == record.identity)
    }

    /// The local file that is sent, as the manifest names it.
    fn source(&self, _attributes: &Attributes) -> Option<String> {
        None
    }

    /// Attributes that say how moorfast acts and cannot be read from the node: they are as the last apply used them.
    fn settings(&self) -> &'static [&'static str] {
        &[]
    }

    /// The attributes whose values are lost if an object that is not in the state is brought to the manifest. Empty for a type that has no content.
    fn contents(&self) -> &'static [&'static str] {
        &[]
    }

    /// The attribute with a command of the manifest that a look runs.
    fn look_runs(&self, _attributes: &Attributes) -> Option<&'static str> {
        None
    }

    /// Shell that tells what is there, by fields. It changes nothing.
    fn look(&self, subject: &Subject) -> String;

    /// What the fields say: the attributes of the object, without settings; `None` where there is none.
    fn observe(&self, subject: &Subject, seen: &Section) -> Result<Option<Observed>, ProviderError>;

    /// What would be done.
    fn plan(&self, request: &PlanRequest, sources: &Sources) -> Result<Proposal, ProviderError>;

    /// Shell that finds out, by fields and without changing anything, what a proposed change would do beyond the object itself. Asked only of what changes.
    fn rehearsal(&self, _request: &PlanRequest) -> Option<String> {
        None
    }

    /// Adds to `proposal` what the rehearsal found.
    fn foresee(&self, _request: &PlanRequest, _seen: &Section, _proposal: &mut Proposal) {}

    /// The shell that does `operation`. Where that is not a removal, the look at the result follows it.
    fn act(&self, operation: &Operation, subject: &Subject, sources: &Sources) -> Result<Step, ProviderError>;

    /// Shell that prints what the object says when something that depends on it did not come about.
    fn explain(&self, _subject: &Subject) -> Option<String> {
        None
    }

    /// Shell that fails unless the object is healthy, and stays so for a moment; `None` for a type that has no health.
    fn health(&self, _subject: &Subject) -> Option<String> {
        None
    }

    /// What is kept of how it was found, before it is made or first changed: what [`Resource::private`] tells where all goes well.
    fn initial_private_data(&self, _desired: &Attributes, _observed: Option<&Attributes>) -> Option<serde_json::Value> {
        None
    }

    /// What is kept for the next time. Of an operation that failed or was cut off there may be less to see.
    fn private(&self, subject: &Subject, _seen: &Section) -> serde_json::Value {
        subject.private.clone()
    }
}

/// How an operation is done.
#[derive(Debug, Default)]
pub(crate) struct Step {
    /// Shell, run under `set -e`.
    pub(crate) body: Zeroizing<String>,
    /// A file that is sent after it, and that it reads from 3 before it calls `watch`.
    pub(crate) upload: Option<(PathBuf, u64)>,
    /// May it take long, so that it gets an exec of its own?
    pub(crate) long: bool,
    /// Does it use the package manager, which takes one at a time and must not be cut off?
    pub(crate) packages: bool,
    /// How long it may take where the manifest does not say.
    pub(crate) limit: Option<Duration>,
    /// What is cut out of what it said.
    pub(crate) secrets: Secrets,
}

impl Step {
    /// A step that is over quickly.
    pub(crate) fn quick(body: impl Into<String>) -> Self {
        Self { body: Zeroizing::new(body.into()), ..Self::default() }
    }

    /// A step that may take its time.
    pub(crate) fn long(body: impl Into<String>) -> Self {
        Self { long: true, ..Self::quick(body) }
    }
}

/// The proposal to bring what `request` observed to `planned`: what is retained stays, and what the node decides is as it is, or not known yet.
pub(crate) fn propose(resource: &dyn Resource, request: &PlanRequest, planned: Attributes) -> Proposal {
    let schema = resource.resource_type().schema;
    let computed = schema.attributes.iter().filter(|a| a.computed).map(|a| a.name);
    let mut planned: Attributes = planned.into_iter().filter(|(_, value)| !value.is_null()).collect();
    let Some(observed) = request.observed.as_ref().map(|o| &o.attributes) else {
        for name in computed {
            planned.entry(name.to_owned()).or_insert(Value::Unknown);
        }
        return Proposal::new(ProposedAction::Create, planned);
    };
    planned.retain(|name, value| !value.is_retained() || observed.contains_key(name));
    for (name, value) in &mut planned {
        if let (true, Some(now)) = (value.is_retained(), observed.get(name)) {
            *value = now.clone();
        }
    }
    for name in computed {
        if let Some(value) = observed.get(name) {
            planned.entry(name.to_owned()).or_insert_with(|| value.clone());
        }
    }
    // What was hidden while nobody knew whether it is a secret is no difference.
    let differs = |name: &String, value: &Value| match observed.get(name) {
        Some(now) if now.is_sensitive() => !same(Some(now), Some(value)),
        now => now != Some(value),
    };
    let changed: Vec<String> = planned.iter().filter(|(n, v)| differs(n, v)).map(|(name, _)| name.clone()).collect();
    if changed.is_empty() {
        let stays = |(name, value)| (String::clone(name), observed.get(name).unwrap_or(value).clone());
        let planned = planned.iter().map(stays).collect();
        return Proposal::new(ProposedAction::NoOp, planned);
    }
    let forces = |name: &&String| schema.attribute(name).is_some_and(|a| a.forces_replacement);
    let forcing: Vec<String> = changed.iter().filter(forces).cloned().collect();
    let action = if forcing.is_empty() { ProposedAction::Update } else { ProposedAction::Replace(forcing) };
    let mut proposal = Proposal::new(action, planned);
    proposal.consequences.extend(request.overwrite(&proposal, resource.contents()));
    proposal
}

/// Are these equal, whether they are sensitive or not?
pub(crate) fn same(a: Option<&Value>, b: Option<&Value>) -> bool {
    a.map(Value::reveal_deep) == b.map(Value::reveal_deep)
}

/// The known text of the attribute `name`.
pub(crate) fn text<'a>(attributes: &'a Attributes, name: &str) -> Option<&'a str> {
    attributes.get(name)?.as_str()
}

/// Is the attribute `name` true?
pub(crate) fn flag(attributes: &Attributes, name: &str) -> bool {
    attributes.get(name).and_then(Value::as_bool).unwrap_or_default()
}

/// Is the attribute `name` written?
pub(crate) fn written(attributes: &Attributes, name: &str) -> bool {
    attributes.get(name).is_some_and(|v| !v.is_null())
}

/// The known texts of a list.
pub(crate) fn texts(attributes: &Attributes, name: &str) -> Vec<String> {
    let items = attributes.get(name).and_then(Value::as_list).unwrap_or_default();
    items.iter().filter_map(|v| v.as_str().map(str::to_owned)).collect()
}

/// The rule that the attribute `name` is an absolute path without `.` and `..` in it.
pub(crate) fn absolute(attributes: &Attributes, name: &'static str) -> Option<Invalid> {
    let path = text(attributes, name)?;
    let plain =
        path.starts_with('/') && path.split('/').skip(1).all(|part| !part.is_empty() && part != "." && part != "..");
    let fits = plain && !path.contains('\0');
    (!fits).then(|| Invalid {
        attribute: Some(name),
        message: format!("`{path}` is not a plain absolute path"),
        help: Some("write it from / on, without `.`, `..`, doubled or trailing slashes".to_owned()),
    })
}

/// The rule that the attribute `name`, which others on the node can see, is not sensitive; `help` says how a secret goes there.
pub(crate) fn public(attributes: &Attributes, name: &'static str, help: &str) -> Option<Invalid> {
    attributes.get(name).is_some_and(Value::is_sensitive).then(|| Invalid {
        attribute: Some(name),
        message: format!("{name} must not be sensitive"),
        help: Some(help.to_owned()),
    })
}

/// The rule that a line for sh has no `#!` line, which would not be honoured.
pub(crate) fn no_interpreter(value: &Value, name: &'static str) -> Option<Invalid> {
    value.as_str()?.starts_with("#!").then(|| Invalid {
        attribute: Some(name),
        message: format!("{name} is a line for sh: its `#!` line would have no effect"),
        help: Some("write a list that names the interpreter: [\"bash\", \"-c\", \"…\"]".to_owned()),
    })
}

/// The obstacle that something of another `kind` is at the path.
pub(crate) fn in_the_way(kind: &str) -> Consequence {
    Consequence::Obstacle { message: format!("there is a {kind} at the path") }
}

/// The directory that holds `path`.
pub(crate) fn parent(path: &str) -> &str {
    match path.rfind('/') {
        Some(0) | None => "/",
        Some(end) => &path[..end],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use moorfast_engine::provider::Provider;
    use serde_json::json;

    fn attributes(json: serde_json::Value) -> Attributes {
        match Value::from(json) {
            Value::Map(map) => map,
            other => panic!("{other:?} is no map"),
        }
    }

    #[test]
    fn every_attribute_is_documented_and_every_setting_is_one() {
        for resource in ALL {
            let declared = resource.resource_type();
            assert!(declared.schema.doc.contains(". ") || declared.schema.doc.ends_with('.'), "{}", declared.name);
            for attribute in &declared.schema.attributes {
                assert!(attribute.doc.ends_with(['.', '?']), "{}.{}", declared.name, attribute.name);
            }
            for setting in resource.settings() {
                assert!(declared.schema.attribute(setting).is_some(), "{}.{setting}", declared.name);
            }
        }
    }

    #[test]
    fn what_is_lost_where_an_object_is_not_in_the_state() {
        let overwritten = |kind: &str, now: serde_json::Value, then: serde_json::Value| {
            let request = PlanRequest {
                address: format!("{kind}.x").parse().unwrap(),
                resource_type: kind.to_owned(),
                desired: Attributes::new(),
                recorded: None,
                observed: Some(Observed { attributes: attributes(now), private: json!(null) }),
                foreign: true,
                ignored: Vec::new(),
                triggers: Vec::new(),
                dependencies: Vec::new(),
            };
            let proposal = propose(named(kind).unwrap(), &request, attributes(then));
            proposal.consequences.contains(&moorfast_engine::provider::Consequence::Overwrite)
        };
        let lost = [
            ("ssh_file", json!({ "sha256": "a" }), json!({ "sha256": "b" })),
            ("ssh_link", json!({ "target": "a" }), json!({ "target": "b" })),
            ("ssh_archive", json!({ "sha256": "a" }), json!({ "sha256": "b" })),
            ("ssh_systemd_unit", json!({ "content": "a" }), json!({ "content": "b" })),
            ("ssh_systemd_unit", json!({ "drop_ins": { "a": "1" } }), json!({ "drop_ins": { "a": "2" } })),
            ("ssh_user", json!({ "shell": "/bin/sh" }), json!({ "shell": "/bin/bash" })),
            ("ssh_user", json!({ "authorized_keys": ["a"] }), json!({ "authorized_keys": ["b"] })),
            ("ssh_group", json!({ "gid": 1 }), json!({ "gid": 2 })),
        ];
        let kept = [
            ("ssh_file", json!({ "mode": "0600" }), json!({ "mode": "0644" })),
            ("ssh_directory", json!({ "mode": "0700", "owner": "a" }), json!({ "mode": "0755", "owner": "b" })),
            (
                "ssh_systemd_unit",
                json!({ "enabled": false, "state": "stopped" }),
                json!({ "enabled": true, "state": "running" }),
            ),
            ("ssh_systemd_unit", json!({ "drop_ins": {} }), json!({ "drop_ins": { "a": "2" } })),
            ("ssh_sysctl", json!({ "value": "0" }), json!({ "value": "1" })),
            ("ssh_package", json!({ "names": ["a"] }), json!({ "names": ["b"] })),
        ];
        let of = |(kind, now, then)| (overwritten(kind, now, then), kind);
        assert!(lost.into_iter().map(of).all(|(is, _)| is));
        assert_eq!(kept.into_iter().map(of).filter(|(is, _)| *is).collect::<Vec<_>>(), []);
    }

    #[test]
    fn identities() {
        let cases = [
            ("ssh_file", json!({ "path": "/etc/motd" }), "path:/etc/motd"),
            ("ssh_directory", json!({ "path": "/etc/motd" }), "path:/etc/motd"),
            ("ssh_link", json!({ "path": "/etc/motd" }), "path:/etc/motd"),
            ("ssh_archive", json!({ "path": "/opt/cni", "name": "plugins" }), "archive:/opt/cni/plugins"),
            ("ssh_systemd_unit", json!({ "name": "kubelet.service" }), "unit:kubelet.service"),
            ("ssh_package", json!({ "names": ["jq=1.6", "curl"] }), "package:jq"),
            ("ssh_sysctl", json!({ "name": "net.ipv4.ip_forward" }), "sysctl:net/ipv4/ip_forward"),
            (
                "ssh_sysctl",
                json!({ "name": "net.ipv4.conf.eth0/1.forwarding" }),
                "sysctl:net/ipv4/conf/eth0.1/forwarding",
            ),
            ("ssh_kernel_module", json!({ "name": "br-netfilter" }), "module:br_netfilter"),
            ("ssh_user", json!({ "name": "ops" }), "user:ops"),
            ("ssh_group", json!({ "name": "ops" }), "group:ops"),
            ("ssh_swap", json!({}), "swap:all"),
            ("ssh_exec", json!({ "name": "once", "command": ["true"] }), "exec:once"),
            ("ssh_exec", json!({ "command": ["kubeadm", "init"] }), "exec:kubeadm init (17a9342a)"),
            (
                "ssh_exec",
                json!({ "script": "#!/bin/sh\nset -eu\n\n  dd if=/dev/zero of=/swapfile bs=1M count=1024\n" }),
                "exec:dd if=/dev/zero of=/swapfile bs=1M count… (3e64acfa)",
            ),
        ];
        for (kind, json, identity) in cases {
            assert_eq!(named(kind).unwrap().identity(&attributes(json)).as_deref(), Some(identity), "{kind}");
        }
    }

    #[test]
    fn what_a_manifest_may_not_say() {
        let cases = [
            ("ssh_file", json!({ "path": "etc/motd", "content": "" }), "`etc/motd` is not a plain absolute path"),
            (
                "ssh_file",
                json!({ "path": "/etc/../motd", "content": "" }),
                "`/etc/../motd` is not a plain absolute path",
            ),
            ("ssh_file", json!({ "path": "/etc/motd" }), "nothing says what is in the file"),
            ("ssh_user", json!({ "name": "a", "uid": -1 }), "uid must be between 0 and 4294967294"),
            ("ssh_user", json!({ "name": "a", "uid": 4_294_967_295_i64 }), "uid must be between 0 and 4294967294"),
            ("ssh_group", json!({ "name": "a", "gid": u64::MAX }), "gid must be between 0 and 4294967294"),
            (
                "ssh_file",
                json!({ "path": "/m", "content": "", "source": "m" }),
                "content and source both say what is in the file",
            ),
            (
                "ssh_file",
                json!({ "path": "/m", "content": "", "validate": [1] }),
                "a validation command is a list of texts, or one text",
            ),
            ("ssh_systemd_unit", json!({ "name": "kubelet" }), "`kubelet` is no full name of a unit"),
            (
                "ssh_systemd_unit",
                json!({ "name": "a.service", "content": "", "masked": true }),
                "a unit with content cannot be masked",
            ),
            (
                "ssh_systemd_unit",
                json!({ "name": "a.service", "drop_ins": { "x": "" } }),
                "`x` is no name of a drop-in",
            ),
            ("ssh_systemd_unit", json!({ "name": "a@.service", "state": "running" }), "a template does not run"),
            (
                "ssh_systemd_unit",
                json!({ "name": "a@.service", "content": "[Install]\nWantedBy=x.target\n", "enabled": true }),
                "a template without DefaultInstance= cannot be enabled",
            ),
            (
                "ssh_systemd_unit",
                json!({ "name": "a.service", "content": "[Service]\nExecStart=/bin/true\n", "enabled": true }),
                "a unit without an [Install] section cannot be enabled",
            ),
            (
                "ssh_systemd_unit",
                json!({ "name": "a.service", "enabled": true, "masked": true }),
                "a masked unit cannot be enabled",
            ),
            (
                "ssh_systemd_unit",
                json!({ "name": "a.service", "content": "", "path": "/opt/a.service" }),
                "systemd reads no units in `/opt`",
            ),
            (
                "ssh_systemd_unit",
                json!({ "name": "a.service", "content": "", "path": "/etc/systemd/system/b.service" }),
                "`/etc/systemd/system/b.service` is not the file of the unit",
            ),
            ("ssh_package", json!({ "names": ["a b"] }), "`a b` is no name of a package"),
            ("ssh_package", json!({ "names": ["--yes"] }), "`--yes` is no name of a package"),
            ("ssh_package", json!({ "names": [] }), "no package is named"),
            ("ssh_sysctl", json!({ "name": "../x" }), "`../x` is no name of a kernel parameter"),
            (
                "ssh_sysctl",
                json!({ "name": "net.ipv4.conf.*.rp_filter" }),
                "`net.ipv4.conf.*.rp_filter` is no name of a kernel parameter",
            ),
            (
                "ssh_sysctl",
                json!({ "name": "net/ipv4//ip_forward" }),
                "`net/ipv4//ip_forward` is no name of a kernel parameter",
            ),
            (
                "ssh_sysctl",
                json!({ "name": "net.ipv4.ip_forward." }),
                "`net.ipv4.ip_forward.` is no name of a kernel parameter",
            ),
            ("ssh_sysctl", json!({ "name": "vm.swappiness", "value": "1\n2" }), "value must be a single line"),
            ("ssh_user", json!({ "name": "Bad Name" }), "`Bad Name` is no name of an account"),
            ("ssh_exec", json!({}), "there is neither a command nor a script"),
            ("ssh_exec", json!({ "command": [] }), "command has no program"),
            (
                "ssh_exec",
                json!({ "script": "x", "environment": { "A-B": "" } }),
                "`A-B` is no name of an environment variable",
            ),
            ("ssh_exec", json!({ "script": "#!bash\necho x" }), "`#!bash` names no interpreter by an absolute path"),
            (
                "ssh_exec",
                json!({ "script": "#!/bin/bash\r\necho x\r\n" }),
                "the first line of the script ends with a carriage return",
            ),
            (
                "ssh_exec",
                json!({ "script": "x", "unless": "#!/bin/bash\n[[ -e x ]]" }),
                "unless is a line for sh: its `#!` line would have no effect",
            ),
            (
                "ssh_file",
                json!({ "path": "/m", "content": "", "validate": "#!/bin/bash\n[[ -e x ]]" }),
                "validate is a line for sh: its `#!` line would have no effect",
            ),
            ("ssh_archive", json!({ "path": "/a", "source": "a.rar", "sha256": "0" }), "this is no SHA-256"),
        ];
        for (kind, json, message) in cases {
            let invalid = named(kind).unwrap().validate(&attributes(json.clone()));
            assert!(invalid.iter().any(|i| i.message == message), "{kind} {json}: {invalid:?}");
        }
    }

    #[test]
    fn a_broken_rule_shows_no_secret() {
        let cases = [("ssh_file", "path"), ("ssh_user", "name"), ("ssh_package", "names"), ("ssh_sysctl", "name")];
        for (kind, name) in cases {
            let value = match name {
                "names" => Value::from(vec!["s3cr3t: none"]),
                _ => Value::from("s3cr3t: none"),
            };
            let attributes = [(name.to_owned(), value.sensitive())].into();
            let invalid = crate::SshProvider.validate(kind, &attributes);
            let about = invalid.iter().find(|i| i.attribute == Some(name)).unwrap();
            assert!(about.message.starts_with("`(sensitive)` "), "{kind}: {about:?}");
        }
    }

    #[test]
    fn what_a_command_line_would_show_may_not_be_sensitive() {
        let cases = [
            ("ssh_exec", "command", json!(["echo", "x"])),
            ("ssh_exec", "script", json!("echo x")),
            ("ssh_exec", "on_destroy", json!(["echo", "x"])),
            ("ssh_exec", "unless", json!(["test", "-e", "x"])),
            ("ssh_exec", "unless", json!("test -e x")),
            ("ssh_exec", "only_if", json!(["test", "-e", "x"])),
            ("ssh_file", "validate", json!(["test", "-e", "x"])),
            ("ssh_file", "validate", json!("test -e x")),
        ];
        for (kind, name, json) in cases {
            let mut items = vec![Value::from(json.clone()).sensitive()];
            if let Value::List(words) = Value::from(json) {
                // One of the words is enough.
                items.push(Value::List(words.into_iter().map(Value::sensitive).collect()));
            }
            for value in items {
                let attributes = [(name.to_owned(), value)].into();
                let invalid = named(kind).unwrap().validate(&attributes);
                let about = invalid.iter().find(|i| i.message == format!("{name} must not be sensitive"));
                assert!(
                    about.is_some_and(|i| i.attribute == Some(name) && i.help.is_some()),
                    "{kind} {name}: {invalid:?}"
                );
            }
        }
    }

    #[test]
    fn what_is_not_known_yet_passes() {
        for resource in ALL {
            let schema = resource.resource_type().schema;
            let unknown = |a: &&moorfast_engine::model::Attribute| a.required;
            let attributes =
                schema.attributes.iter().filter(unknown).map(|a| (a.name.to_owned(), Value::Unknown)).collect();
            let about_values = |i: &Invalid| i.attribute.is_some();
            assert!(!resource.validate(&attributes).iter().any(about_values), "{}", resource.resource_type().name);
        }
    }
}
