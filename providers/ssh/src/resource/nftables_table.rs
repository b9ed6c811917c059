//! `ssh_nftables_table`: one table of the packet filter, now and at boot.

use moorfast_engine::model::{Attribute, Attributes, Kind, ReadAttributes, Schema, Value};
use moorfast_engine::provider::{
    Consequence, Declaration, Invalid, Observed, Operation, OperationAction, PlanRequest, Proposal, ProposedAction,
    ProviderError, TargetKind,
};
use serde_json::json;

use super::nftables_ruleset::{comparable, is_balanced};
use super::proposal::propose;
use super::{Resource, ShellTask, TEXT_FILE, not_sensitive};
use crate::object_answer::Answer;
use crate::script::{print_bytes, quote};
use crate::sources::Sources;
use crate::subject::Subject;

/// The resource type `ssh_nftables_table`.
pub(crate) struct NftablesTable;

const FUNCTIONS: &str = include_str!("nftables_table/functions.sh");

const READ: &str = include_str!("nftables_table/read.sh");

const APPLY: &str = include_str!("nftables_table/apply.sh");

const REMOVE: &str = include_str!("nftables_table/remove.sh");

const FAMILIES: &[&str] = &["inet", "ip", "ip6", "arp", "bridge", "netdev"];

/// How to get nft.
pub(crate) const MISSING: &str = "nft is not installed (install the package nftables with ssh_package)";

impl Resource for NftablesTable {
    fn declaration(&self) -> Declaration {
        let schema = Schema::new(
            "One table of nftables: the firewall rules of a node that moorfast owns. The table is replaced in one step, and loaded at boot by a file in `/etc/nftables.d` and a unit of its own, also after `nftables.service` has flushed all tables. \
             All other tables stay as they are. The plan shows what nft refuses, and drift compares the rules that the kernel has, without counters and without the elements of sets with `dynamic` or `timeout`. \
             Take care that the rules permit SSH: the next connection needs it. A destroy removes the table; a table that existed before is loaded again, until the next boot.",
            [
                Attribute::optional(
                    "family",
                    Kind::String,
                    "The address family of the table: `inet`, `ip`, `ip6`, `arp`, `bridge` or `netdev`.",
                )
                .or("inet")
                .replaces(),
                Attribute::required("name", Kind::String, "The name of the table.").replaces(),
                Attribute::required(
                    "rules",
                    Kind::String,
                    "The content of the table in the language of nft: what is between the braces of `table inet NAME { … }`.",
                ),
                Attribute::computed(
                    "ruleset",
                    Kind::String,
                    "The table as the kernel has it now, as `nft -s list table` prints it. Empty if it is not loaded.",
                ),
                Attribute::computed("at_boot", Kind::Bool, "Whether the unit of moorfast loads the table at boot."),
            ],
        );
        Declaration { name: "ssh_nftables_table", target_kind: TargetKind::Node, schema }
    }

    fn validate(&self, attributes: &Attributes) -> Vec<Invalid> {
        let mut invalid = Vec::new();
        if let Some(family) = attributes.text("family").filter(|family| !FAMILIES.contains(family)) {
            let message = format!("`{family}` is not an address family of nftables");
            invalid.push(Invalid::new("family", message).help(format!("write one of {}", FAMILIES.join(", "))));
        }
        if let Some(name) = attributes.text("name").filter(|name| !is_name(name)) {
            let message = format!("`{name}` is not a valid name of a table");
            invalid.push(Invalid::new("name", message).help("use letters, digits, `_` and `-`, with a letter first"));
        }
        invalid.extend(not_sensitive(attributes, "rules", "`nft list ruleset` and the plan show them"));
        if attributes.text("rules").is_some_and(|rules| !is_balanced(rules)) {
            let message = "the braces in rules do not match".to_owned();
            invalid.push(
                Invalid::new("rules", message)
                    .help("write only the content of the table, without `table … { }` around it"),
            );
        }
        invalid
    }

    fn identity(&self, attributes: &Attributes) -> Option<String> {
        Some(format!("table:{} {}", attributes.text("family")?, attributes.text("name")?))
    }

    fn read_script(&self, subject: &Subject) -> String {
        let rules = subject.text("rules");
        let has_rules = if rules.is_some() { "yes" } else { "" };
        format!("{}HAS_RULES={has_rules}\n{READ}", Table::of(&subject.attributes).shell())
    }

    fn observe(&self, subject: &Subject, answer: &Answer) -> Result<Option<Observed>, ProviderError> {
        let table = Table::of(&subject.attributes);
        let (file, live) = (answer.own.text("file"), answer.own.text("live"));
        if file.is_none() && live.is_none() {
            return Ok(None);
        }
        // A table with a file is moorfast's own.
        let found = live.as_ref().filter(|_| file.is_none());
        let private = json!({ "live": found, "expected": answer.own.text("expected").as_deref().map(comparable) });
        let at_boot = answer.own.is("enabled") && answer.own.text("unit").is_some_and(|unit| unit == table.unit());
        let mut attributes = Attributes::from([
            ("ruleset".to_owned(), Value::from(live.as_deref().map(comparable).unwrap_or_default())),
            ("at_boot".to_owned(), Value::from(at_boot)),
        ]);
        for name in ["family", "name"] {
            attributes.extend(subject.attributes.get(name).map(|value| (name.to_owned(), value.clone())));
        }
        attributes.extend(file.map(|file| ("rules".to_owned(), Value::from(table.rules_in(&file)))));
        Ok(Some(Observed { attributes, private }))
    }

    fn plan(&self, request: &PlanRequest, _: &Sources) -> Result<Proposal, ProviderError> {
        let mut planned = request.desired.clone();
        planned.insert("at_boot".to_owned(), Value::from(true));
        let observed = request.observed.as_ref();
        let now = |name: &str| observed.and_then(|observed| observed.attributes.text(name));
        let expected = observed.and_then(|observed| observed.private["expected"].as_str());
        let is_kept = now("rules").is_some() && now("rules") == planned.text("rules");
        let ruleset = match expected {
            Some(expected) => Value::from(expected),
            // nft cannot say on this node how it would print the rules.
            None => now("ruleset").filter(|now| is_kept && !now.is_empty()).map_or(Value::Unknown, Value::from),
        };
        planned.insert("ruleset".to_owned(), ruleset);
        let mut proposal = propose(self, request, planned);
        let loses = now("ruleset").is_some_and(|now| !now.is_empty() && Some(now) != expected);
        if request.foreign && loses && proposal.action == ProposedAction::Update {
            proposal.consequences.push(Consequence::Overwrite);
        }
        Ok(proposal)
    }

    fn apply_script(&self, operation: &Operation, subject: &Subject, _: &Sources) -> Result<ShellTask, ProviderError> {
        let table = Table::of(&subject.attributes);
        let shell = table.shell();
        if matches!(operation.action, OperationAction::Delete) {
            let before = subject.private["live"].as_str();
            let load = before.map(|text| format!("{} | nft -f -", print_bytes(text.as_bytes()))).unwrap_or_default();
            return Ok(ShellTask::quick(format!("{shell}{REMOVE}{load}")));
        }
        Ok(ShellTask::quick(format!(
            "{TEXT_FILE}{shell}print_file() {{ {}; }}\nprint_unit() {{ {}; }}\n{APPLY}",
            print_bytes(table.file().as_bytes()),
            print_bytes(table.unit().as_bytes()),
        )))
    }

    fn initial_private_data(&self, _: &Attributes, observed: Option<&Observed>) -> Option<serde_json::Value> {
        Some(json!({ "live": observed.map(|observed| &observed.private["live"]) }))
    }
}

/// Returns the obstacle that nft refuses the rules, with its first message: `/dev/stdin:3:7-10: Error: syntax error`.
pub(crate) fn refusal(output: &str) -> String {
    let line = output.lines().next().unwrap_or_default();
    match line.split_once(": Error: ") {
        Some((place, error)) => {
            let number = place.rsplit(':').nth(1).unwrap_or_default();
            format!("nft refuses line {number} of the rules: {error}")
        }
        None => format!("nft refuses the rules: {line}"),
    }
}

/// Whether `name` can be the name of a table. It is a part of the names of a file and of a unit.
fn is_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || "_-".contains(c))
}

/// A table of the manifest.
struct Table<'a> {
    family: &'a str,
    name: &'a str,
    rules: &'a str,
}

impl<'a> Table<'a> {
    fn of(attributes: &'a Attributes) -> Self {
        let written = |name| attributes.text(name).unwrap_or_default();
        Self { family: written("family"), name: written("name"), rules: written("rules") }
    }

    fn path(&self) -> String {
        format!("/etc/nftables.d/moorfast-{}-{}.nft", self.family, self.name)
    }

    fn unit_name(&self) -> String {
        format!("moorfast-nftables-{}-{}.service", self.family, self.name)
    }

    /// Returns the beginning of the file. The first line makes the second one possible, if the table does not exist.
    fn header(&self) -> String {
        let Self { family, name, .. } = self;
        format!(
            "# Written by moorfast.\ntable {family} {name}\ndelete table {family} {name}\ntable {family} {name} {{\n"
        )
    }

    /// Returns the text of the file, which replaces the table in one step.
    fn file(&self) -> String {
        format!("{}{}\n}}\n", self.header(), self.rules)
    }

    /// Returns the rules in the text of the file, or the whole text if somebody changed it around them.
    fn rules_in<'b>(&self, file: &'b str) -> &'b str {
        file.strip_prefix(&self.header()).and_then(|rest| rest.strip_suffix("\n}\n")).unwrap_or(file)
    }

    /// Returns the text of the unit. nftables.service removes all tables when it starts, so this unit starts again after it.
    fn unit(&self) -> String {
        let (Self { family, name, .. }, path) = (self, self.path());
        format!(
            "# Written by moorfast.
[Unit]
Description=nftables table {family} {name}
Documentation=man:nft(8)
DefaultDependencies=no
Wants=network-pre.target
Before=network-pre.target shutdown.target
After=nftables.service
PartOf=nftables.service
ReloadPropagatedFrom=nftables.service
Conflicts=shutdown.target

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=nft -f {path}
ExecReload=nft -f {path}
ExecStop=-nft delete table {family} {name}

[Install]
WantedBy=sysinit.target
"
        )
    }

    /// Returns shell variables and functions about the table.
    fn shell(&self) -> String {
        let unit = self.unit_name();
        format!(
            "FAMILY={}; NAME={}; F={}; U={}; W={}\nprint_rules() {{ {}; }}\n{FUNCTIONS}",
            quote(self.family),
            quote(self.name),
            quote(&self.path()),
            quote(&format!("/etc/systemd/system/{unit}")),
            quote(&format!("/etc/systemd/system/sysinit.target.wants/{unit}")),
            print_bytes(self.rules.as_bytes()),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rules_are_found_in_the_file() {
        let table = Table { family: "inet", name: "x", rules: "chain a {\n}\n" };
        assert_eq!(table.rules_in(&table.file()), table.rules);
        assert_eq!(table.rules_in("table inet x {\n}\n"), "table inet x {\n}\n");
    }

    #[test]
    fn the_message_of_nft_names_the_line() {
        let output = "/dev/stdin:3:7-10: Error: syntax error, unexpected string\n  tcp dprt 22\n";
        assert_eq!(refusal(output), "nft refuses line 3 of the rules: syntax error, unexpected string");
        assert_eq!(refusal("Operation not permitted"), "nft refuses the rules: Operation not permitted");
    }
}
