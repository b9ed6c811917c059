//! `ssh_package`: packages of the distribution.

use std::time::Duration;

use moorfast_engine::model::{Attribute, Attributes, Kind, ReadAttributes, Schema, Value};
use moorfast_engine::provider::{
    Consequence, Declaration, Invalid, Need, Observed, Operation, OperationAction, PlanRequest, Proposal,
    ProviderError, TargetKind,
};
use moorfast_engine::state::Record;
use serde_json::json;

use super::proposal::propose;
use super::transaction::{TRANSACTION, Transaction};
use super::{Resource, ShellTask};
use crate::object_answer::Answer;
use crate::question::{Question, Topic};
use crate::script::{Section, quote, quote_all};
use crate::sources::Sources;
use crate::subject::Subject;

/// The resource type `ssh_package`.
pub(crate) struct Package;

const READ: &str = include_str!("package/read.sh");

const SIMULATE: &str = include_str!("package/simulate.sh");

const CHANGE: &str = concat!(include_str!("package/manager.sh"), "\n", include_str!("package/change.sh"));

const VERSION_SYNTAX: &str = include_str!("package/version_syntax.sh");

impl Resource for Package {
    fn declaration(&self) -> Declaration {
        let schema = Schema::new(
            "Packages of the distribution, installed with apt or dnf. Packages that are installed already are not changed. \
             The plan names every other package that is removed or downgraded; the apply removes no other package. \
             A destroy purges the packages that moorfast installed, with their dependencies that no other package needs. Other packages stay.",
            [
                Attribute::required("names", Kind::list(Kind::String), "The packages, each as `name` or `name=version`. `*` in a version stands for any text. The first name is the identity of the list on its node."),
                Attribute::optional("state", Kind::OneOf(&["present", "absent"]), "Whether the packages are installed.").or("present"),
                Attribute::optional("allow_downgrade", Kind::Bool, "Whether a package may be replaced by the older version in `names`. If false, the plan shows that the apply will fail.").or(false).instruction(),
                Attribute::optional("allow_held", Kind::Bool, "Whether held packages (`apt-mark hold`) may be changed. They stay held. If false, the plan shows that the apply will fail.").or(false).instruction(),
                Attribute::optional("cache_update", Kind::Bool, "Whether the package lists are refreshed before an installation. They are always refreshed when a package is not found.").or(false).instruction(),
            ],
        );
        Declaration { name: "ssh_package", target_kind: TargetKind::Node, schema }
    }

    fn need(&self) -> Option<Need> {
        Some(Need::PackageManager)
    }

    fn validate(&self, attributes: &Attributes) -> Vec<Invalid> {
        let fits = |name: &String| {
            let name = name_of(name);
            !name.is_empty()
                && name.starts_with(|c: char| c.is_ascii_alphanumeric())
                && name.chars().all(|c| c.is_ascii_alphanumeric() || "+-._:".contains(c))
        };
        let names = attributes.texts("names");
        let mut invalid: Vec<Invalid> = names
            .iter()
            .filter(|name| !fits(name))
            .map(|name| Invalid {
                attribute: Some("names"),
                message: format!("`{name}` is not a valid package name"),
                help: None,
            })
            .collect();
        if attributes.get("names").and_then(Value::as_list).is_some_and(<[Value]>::is_empty) {
            invalid.push(Invalid {
                attribute: Some("names"),
                message: "names is an empty list".to_owned(),
                help: None,
            });
        }
        if attributes.text("state") == Some("absent") && names.iter().any(|name| name.contains('=')) {
            let help = Some("write the name alone".to_owned());
            invalid.push(Invalid {
                attribute: Some("names"),
                message: "an absent package cannot have a version".to_owned(),
                help,
            });
        }
        invalid
    }

    fn identity(&self, attributes: &Attributes) -> Option<String> {
        let first = attributes.get("names")?.as_list()?.first()?;
        Some(format!("package:{}", name_of(first.as_str()?)))
    }

    fn is_same_object(&self, record: &Record, attributes: &Attributes) -> bool {
        let recorded = record.attributes.get("names").and_then(|names| names.as_array()).into_iter().flatten();
        let recorded: Vec<_> = recorded.filter_map(|name| name.as_str()).map(name_of).collect();
        attributes.texts("names").iter().any(|name| recorded.contains(&name_of(name)))
    }

    fn settings(&self) -> &'static [&'static str] {
        &["state", "cache_update", "allow_downgrade", "allow_held"]
    }

    fn questions(&self, subject: &Subject, _: &Answer) -> Vec<Question> {
        entries(subject).iter().map(|name| Topic::Package.of(name_of(name))).collect()
    }

    fn observe(&self, subject: &Subject, answer: &Answer) -> Result<Option<Observed>, ProviderError> {
        let absent = subject.text("state") == Some("absent");
        let desired = subject.attributes.texts("names");
        let now = |entry: String| {
            let version = answer.node.version(name_of(&entry)).unwrap_or_default();
            if version.is_empty() != absent {
                return None;
            }
            match entry.contains('=') && desired.contains(&entry) || !desired.iter().any(|w| name_of(w) == entry) {
                true if entry.contains('=') && !is_version(&entry, version) => {
                    Some(format!("{}={version}", name_of(&entry)))
                }
                _ => Some(entry),
            }
        };
        let names: Vec<String> = entries(subject).into_iter().filter_map(now).collect();
        if names.is_empty() {
            return Ok(None);
        }
        let attributes = Attributes::from([("names".to_owned(), Value::from(names))]);
        Ok(Some(Observed { attributes, private: serde_json::Value::Null }))
    }

    fn plan(&self, request: &PlanRequest, _: &Sources) -> Result<Proposal, ProviderError> {
        let mut planned = request.desired.clone();
        let observed = request.observed.as_ref().and_then(|o| o.attributes.get("names"));
        if let Some(names) = observed.filter(|names| same_set(names, planned.get("names"))) {
            planned.insert("names".to_owned(), names.clone());
        }
        Ok(propose(self, request, planned))
    }

    fn simulation(&self, request: &PlanRequest) -> Option<String> {
        let names = request.desired.texts("names");
        let change = match request.desired.text("state") {
            Some("absent") => call("simulate_purge", &names),
            _ => format!("set -- {}\n{VERSION_SYNTAX}\nsimulate install \"$@\"", words(&names)),
        };
        let dropped = dropped(request.recorded.as_deref(), request.observed.as_ref(), &names);
        let drop = call("report_with_unneeded dropped", &dropped);
        Some(format!("{READ}{TRANSACTION}{SIMULATE}held | blob held\n{change}\n{drop}"))
    }

    fn add_simulation(&self, request: &PlanRequest, answer: &Section, proposal: &mut Proposal) {
        let transaction = Transaction::of(answer);
        let allows = |name| request.desired.flag(name);
        proposal.consequences.extend(transaction.consequences(allows("allow_downgrade"), allows("allow_held")));
        let own = request.recorded.as_ref().map(|record| own(&record.private)).unwrap_or_default();
        for (name, version) in removed(&answer.text("dropped").unwrap_or_default()) {
            let removal = Consequence::Removal { object: format!("package {name} {version}") };
            if own.contains(&name) && !proposal.consequences.contains(&removal) {
                proposal.consequences.push(removal);
            }
        }
        if transaction.is_unknown() {
            proposal.notes.push(
                "the package lists on the node are outdated, so further changes are unknown: the apply refreshes the lists and removes no other package"
                    .to_owned(),
            );
        }
    }

    fn removal_simulation(&self, record: &Record) -> Option<String> {
        let names = removable(record);
        (!names.is_empty()).then(|| {
            let [purge, unneeded] = ["simulate_purge", "report_with_unneeded unneeded"].map(|task| call(task, &names));
            format!("{READ}{TRANSACTION}{SIMULATE}{purge}\n{unneeded}")
        })
    }

    fn removal_consequences(&self, record: &Record, answer: &Section) -> Vec<Consequence> {
        let (own, named) = (own(&record.private), removable(record));
        let transaction = Transaction::of(answer);
        let is_own = |(name, _): &&(String, String)| own.contains(&name.split(':').next().unwrap_or(name).to_owned());
        let (needed, foreign): (Vec<_>, Vec<_>) = transaction.removed.iter().partition(is_own);
        let unneeded = removed(&answer.text("unneeded").unwrap_or_default());
        let mut gone: Vec<_> = needed.into_iter().chain(unneeded.iter().filter(is_own)).collect();
        gone.retain(|(name, _)| !named.contains(name));
        gone.sort();
        gone.dedup();
        let removal =
            |(name, version): &(String, String)| Consequence::Removal { object: format!("package {name} {version}") };
        let foreign: Vec<&str> = foreign.into_iter().map(|(name, _)| name.as_str()).collect();
        let obstacle = (!foreign.is_empty()).then(|| Consequence::Obstacle {
            message: format!("packages that moorfast did not install need them: {}", foreign.join(" ")),
        });
        let failed = transaction.consequences(true, true).into_iter();
        let failed = failed.filter(|consequence| matches!(consequence, Consequence::Obstacle { .. }));
        gone.into_iter().map(removal).chain(obstacle).chain(failed).collect()
    }

    fn apply_script(&self, operation: &Operation, subject: &Subject, _: &Sources) -> Result<ShellTask, ProviderError> {
        let own = own(&subject.private);
        let names = subject.attributes.texts("names");
        let body = match &operation.action {
            OperationAction::Delete if own.is_empty() => {
                "note 'the packages were installed before moorfast and are kept'".to_owned()
            }
            OperationAction::Delete => {
                let named = names.iter().map(|name| name_of(name).to_owned());
                call("remove_own", &named.filter(|name| own.contains(name)).collect::<Vec<_>>())
            }
            _ if subject.attributes.text("state") == Some("absent") => call("purge_all", &names),
            _ => {
                let dropped = dropped(operation.recorded.as_deref(), operation.observed.as_ref(), &names);
                let drop = if dropped.is_empty() { String::new() } else { call("remove_own", &dropped) };
                format!("{}{drop}", install(&names, subject.attributes.flag("cache_update")))
            }
        };
        let permitted = format!("{}own={}\n", Permit::of(operation, subject).shell(), quote(&own.join(" ")));
        Ok(ShellTask {
            packages: true,
            limit: Some(Duration::from_secs(1800)),
            ..ShellTask::long(format!("{READ}{TRANSACTION}{permitted}{CHANGE}{body}"))
        })
    }

    fn initial_private_data(&self, desired: &Attributes, observed: Option<&Observed>) -> Option<serde_json::Value> {
        if desired.text("state") == Some("absent") {
            return None;
        }
        let there = observed.map(|o| o.attributes.texts("names")).unwrap_or_default();
        let names = desired.texts("names").into_iter().map(|name| name_of(&name).to_owned());
        let missing: Vec<String> = names.filter(|name| !there.iter().any(|t| name_of(t) == name)).collect();
        Some(json!({ "installed": missing }))
    }

    fn private(&self, subject: &Subject, answer: &Section) -> serde_json::Value {
        let gone = answer.text("gone").unwrap_or_default();
        let mut own: Vec<String> =
            own(&subject.private).into_iter().filter(|name| !gone.lines().any(|g| g == name)).collect();
        own.extend(answer.text("new").unwrap_or_default().lines().map(str::to_owned));
        own.sort();
        own.dedup();
        json!({ "installed": own })
    }
}

fn name_of(entry: &str) -> &str {
    entry.split_once('=').map_or(entry, |(name, _)| name)
}

/// Whether the entry `name=version` matches `version`; `*` stands for any text.
fn is_version(entry: &str, version: &str) -> bool {
    let Some((_, desired)) = entry.split_once('=') else { return false };
    let mut parts = desired.split('*');
    let Some(mut rest) = version.strip_prefix(parts.next().unwrap_or_default()) else { return false };
    let Some(last) = parts.next_back() else { return rest.is_empty() };
    for part in parts {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(last)
}

/// Returns the packages that moorfast installed, with their dependencies.
fn own(private: &serde_json::Value) -> Vec<String> {
    let names = private["installed"].as_array().map(Vec::as_slice).unwrap_or_default();
    names.iter().filter_map(|name| name.as_str().map(str::to_owned)).collect()
}

/// Returns the packages that a destroy removes by their names.
fn removable(record: &Record) -> Vec<String> {
    let own = own(&record.private);
    let recorded = record.attributes.get("names").and_then(|names| names.as_array()).into_iter().flatten();
    let names = recorded.filter_map(|name| name.as_str()).map(|name| name_of(name).to_owned());
    names.filter(|name| own.contains(name)).collect()
}

/// Returns the packages that moorfast installed and that are no longer in `names`.
fn dropped(recorded: Option<&Record>, observed: Option<&Observed>, names: &[String]) -> Vec<String> {
    let own = recorded.map(|record| own(&record.private)).unwrap_or_default();
    let observed = observed.map(|o| o.attributes.texts("names")).unwrap_or_default();
    let observed = observed.iter().map(|name| name_of(name).to_owned());
    observed.filter(|name| own.contains(name) && !names.iter().any(|n| name_of(n) == name)).collect()
}

/// Returns the packages that the transaction `text` removes, with their versions.
fn removed(text: &str) -> Vec<(String, String)> {
    let removed = text.lines().filter_map(|line| line.strip_prefix("- ")?.split_once(' '));
    removed.map(|(name, version)| (name.to_owned(), version.to_owned())).collect()
}

/// The changes of other packages that the plan and the manifest permit.
struct Permit {
    removals: Vec<String>,
    downgrades: Vec<String>,
    downgrade: bool,
    held: bool,
}

impl Permit {
    fn of(operation: &Operation, subject: &Subject) -> Self {
        let package = |object: &str| {
            object.strip_prefix("package ").and_then(|o| o.split(' ').next()).unwrap_or_default().to_owned()
        };
        let (mut removals, mut downgrades) = (Vec::new(), Vec::new());
        for consequence in &operation.consequences {
            match consequence {
                Consequence::Removal { object } => removals.push(package(object)),
                Consequence::Downgrade { object, .. } => downgrades.push(package(object)),
                _ => {}
            }
        }
        if subject.attributes.text("state") == Some("absent") {
            removals.extend(subject.attributes.texts("names").iter().map(|name| name_of(name).to_owned()));
        }
        let allows = |name| subject.setting(name).and_then(Value::as_bool).unwrap_or_default();
        Self { removals, downgrades, downgrade: allows("allow_downgrade"), held: allows("allow_held") }
    }

    /// Returns the shell variables that `change.sh` reads.
    fn shell(&self) -> String {
        let flag = |is: bool| if is { "1" } else { "" };
        format!(
            "allow_downgrade={} allow_held={}\nremovals={}\ndowngrades={}\n",
            flag(self.downgrade),
            flag(self.held),
            quote(&self.removals.join(" ")),
            quote(&self.downgrades.join(" "))
        )
    }
}

/// Returns shell that calls a function with the names of packages.
fn call(function: &str, names: &[String]) -> String {
    format!("{function} {}\n", words(names))
}

/// Returns shell words.
fn words(names: &[String]) -> String {
    quote_all(names.iter().map(String::as_str))
}

/// Returns the packages to read: the recorded ones in their order, with the desired versions, then the new ones.
fn entries(subject: &Subject) -> Vec<String> {
    let desired = subject.attributes.texts("names");
    let recorded = subject.recorded.as_ref().map(|r| r.texts("names")).unwrap_or_default();
    let mut entries: Vec<String> = Vec::new();
    for entry in recorded.iter().chain(&desired) {
        let current = desired.iter().find(|w| name_of(w) == name_of(entry)).unwrap_or(entry);
        if !entries.iter().any(|e| name_of(e) == name_of(current)) {
            entries.push(current.clone());
        }
    }
    entries
}

fn same_set(a: &Value, b: Option<&Value>) -> bool {
    let sorted = |value: &Value| {
        let mut names: Vec<String> =
            value.as_list()?.iter().map(|v| v.as_str().map(str::to_owned)).collect::<Option<_>>()?;
        names.sort();
        names.dedup();
        Some(names)
    };
    sorted(a).is_some_and(|a| b.and_then(sorted) == Some(a))
}

/// Returns shell that installs packages.
fn install(names: &[String], refresh: bool) -> String {
    let plain = names.iter().map(|name| name_of(name)).collect::<Vec<_>>().join(" ");
    format!(
        "names={} cache_update={}\nset -- {}\n{VERSION_SYNTAX}\ninstall_all \"$@\"\n",
        quote(&plain),
        if refresh { "1" } else { "" },
        words(names)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_match_wildcards() {
        for entry in ["jq=1.6-2.1", "jq=1.6*", "jq=*", "jq=*2.1", "jq=1*-*1", "jq=1.6-2.1*"] {
            assert!(is_version(entry, "1.6-2.1"), "{entry}");
        }
        for entry in ["jq", "jq=1.6", "jq=1.7*", "jq=*.2", "jq=1.6-2.1*1", "jq=1*3*1"] {
            assert!(!is_version(entry, "1.6-2.1"), "{entry}");
        }
    }
}
