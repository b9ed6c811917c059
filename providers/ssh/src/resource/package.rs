//! `ssh_package`: packages of the distribution.

use std::time::Duration;

use moorfast_engine::model::{Attribute, Attributes, Kind, Schema, Value};
use moorfast_engine::provider::{
    Consequence, Invalid, Observed, Operation, OperationAction, PlanRequest, Proposal, ProviderError, ResourceType,
    TargetKind,
};
use moorfast_engine::state::Record;
use serde_json::json;

use super::transaction::{TRANSACTION, Transaction};
use super::{Resource, Step, flag, propose, text, texts};
use crate::script::{Section, quote, quote_all};
use crate::sources::Sources;
use crate::subject::Subject;

/// The resource type `ssh_package`.
pub(crate) struct Package;

/// `version NAME` prints the installed version, or nothing.
const LOOK: &str = r#"if [ -x /usr/bin/apt-get ]; then
  version() { dpkg-query -W -f '${db:Status-Status} ${Version}\n' -- "$1" 2>/dev/null | while read -r S V; do [ "$S" != installed ] || printf '%s\n' "$V"; done || true; }
elif [ -x /usr/bin/dnf ]; then
  version() { if X=$(rpm -q --qf '%{VERSION}-%{RELEASE}\n' -- "$1" 2>/dev/null); then printf '%s\n' "$X" | head -n 1; fi; }
else
  fail failed 'it has neither apt nor dnf'
fi
"#;

/// `stands_for_others NAME` tells a name that is no package of its own, `all` prints what is installed, `refresh` gets the lists, `mend` ends what was cut off, `strangers` prints all that a removal would take,
/// `orphans` what is needed no longer.
const MANAGER: &str = r#"
export DEBIAN_FRONTEND=noninteractive NEEDRESTART_SUSPEND=1
if [ -x /usr/bin/apt-get ]; then
  apt() { apt-get -y -q -o DPkg::Lock::Timeout=300 -o Dpkg::Use-Pty=0 -o Dpkg::Options::=--force-confdef -o Dpkg::Options::=--force-confold "$@"; }
  stands_for_others() {
    X=$(apt-cache show -- "$1" 2>/dev/null) && [ -z "$X" ] && [ -n "$(apt-cache showpkg -- "$1" 2>/dev/null | sed '1,/^Reverse Provides:/d')" ]
  }
  all() { dpkg-query -W -f '${db:Status-Status} ${Package}\n' | while read -r S P; do [ "$S" != installed ] || printf '%s\n' "$P"; done | sort -u; }
  refresh() {
    C=0
    until X=$(apt-get -q update 2>&1); do
      case $X in *'Could not get lock'*) C=$((C + 1)); [ "$C" -lt 60 ] || break; sleep 2 ;; *) break ;; esac
    done
    printf '%s\n' "$X" >&2
  }
  mend() { [ -z "$(ls -A /var/lib/dpkg/updates 2>/dev/null)" ] || dpkg --configure -a; }
  install() { apt install $allowed $only -- "$@"; }
  purge() { apt purge $allowed -- "$@"; }
  strangers() { apt-get -s -q purge -- "$@" | while read -r A P _; do case $A in Remv|Purg) printf '%s\n' "$P" ;; esac; done | sort -u; }
  orphans() { apt-get -s -q autoremove --purge | while read -r A P _; do case $A in Remv|Purg) printf '%s\n' "$P" ;; esac; done | sort -u; }
elif [ -x /usr/bin/dnf ]; then
  stands_for_others() { false; }
  all() { rpm -qa --qf '%{NAME}\n' | sort -u; }
  refresh() { dnf -y -q makecache >&2 || true; }
  mend() { :; }
  install() { dnf -y -q --allowerasing install -- "$@"; }
  purge() { dnf -y -q remove --setopt=clean_requirements_on_remove=False -- "$@"; }
  strangers() { transaction purge -- "$@" | while read -r _ P _; do printf '%s\n' "$P"; done; }
  orphans() { dnf -q repoquery --unneeded --qf '%{name}' 2>/dev/null | sort -u; }
else
  fail failed 'it has neither apt nor dnf'
fi
"#;

impl Resource for Package {
    fn resource_type(&self) -> ResourceType {
        let schema = Schema::new(
            "Packages of the distribution, by apt or dnf, whichever the node has. What is installed already is left alone. \
             The plan names every other package that is removed or goes back to an older version; the apply removes no other. \
             A destroy purges those that moorfast installed itself, with what came with them and nothing else needs; others stay.",
            [
                Attribute::required("names", Kind::list(Kind::String), "The packages, each `name` or `name=version`, where `*` in a version stands for any text. The first is what the list is known by on its node."),
                Attribute::optional("state", Kind::OneOf(&["present", "absent"]), "Are they installed?").or("present"),
                Attribute::optional("allow_downgrade", Kind::Bool, "Permit the replacement of a package by an older version, where `names` says one. Without it the plan says that the apply will fail.").or(false),
                Attribute::optional("allow_held", Kind::Bool, "Permit changes of packages that are held (`apt-mark hold`); they stay held. Without it the plan says that the apply will fail.").or(false),
                Attribute::optional("cache_update", Kind::Bool, "Refresh the lists of packages before installing? They are refreshed anyway when a package is not found.").or(false),
            ],
        );
        ResourceType { name: "ssh_package", target_kind: TargetKind::Node, schema }
    }

    fn validate(&self, attributes: &Attributes) -> Vec<Invalid> {
        let fits = |name: &String| {
            let name = name_of(name);
            !name.is_empty()
                && name.starts_with(|c: char| c.is_ascii_alphanumeric())
                && name.chars().all(|c| c.is_ascii_alphanumeric() || "+-._:".contains(c))
        };
        let names = texts(attributes, "names");
        let mut invalid: Vec<Invalid> = names
            .iter()
            .filter(|name| !fits(name))
            .map(|name| Invalid {
                attribute: Some("names"),
                message: format!("`{name}` is no name of a package"),
                help: None,
            })
            .collect();
        if attributes.get("names").and_then(Value::as_list).is_some_and(<[Value]>::is_empty) {
            invalid.push(Invalid { attribute: Some("names"), message: "no package is named".to_owned(), help: None });
        }
        if text(attributes, "state") == Some("absent") && names.iter().any(|name| name.contains('=')) {
            let help = Some("write the name alone".to_owned());
            invalid.push(Invalid {
                attribute: Some("names"),
                message: "an absent package has no version".to_owned(),
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
        texts(attributes, "names").iter().any(|name| recorded.contains(&name_of(name)))
    }

    fn settings(&self) -> &'static [&'static str] {
        &["state", "cache_update", "allow_downgrade", "allow_held"]
    }

    fn look(&self, subject: &Subject) -> String {
        let ask = |(index, name): (usize, &String)| {
            format!("V=$(version {}); field version.{index} \"$V\"\n", quote(name_of(name)))
        };
        format!("{LOOK}{}", entries(subject).iter().enumerate().map(ask).collect::<String>())
    }

    fn observe(&self, subject: &Subject, seen: &Section) -> Result<Option<Observed>, ProviderError> {
        let absent = subject.text("state") == Some("absent");
        let wanted = texts(&subject.attributes, "names");
        let now = |(index, entry): (usize, String)| {
            let version = seen.field(&format!("version.{index}")).unwrap_or_default();
            if version.is_empty() != absent {
                return None;
            }
            match entry.contains('=') && wanted.contains(&entry) || !wanted.iter().any(|w| name_of(w) == entry) {
                true if entry.contains('=') && !is_version(&entry, version) => {
                    Some(format!("{}={version}", name_of(&entry)))
                }
                _ => Some(entry),
            }
        };
        let names: Vec<String> = entries(subject).into_iter().enumerate().filter_map(now).collect();
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

    fn rehearsal(&self, request: &PlanRequest) -> Option<String> {
        let names = texts(&request.desired, "names");
        let quoted = quote_all(names.iter().map(String::as_str));
        let question = match text(&request.desired, "state") {
            Some("absent") => format!("{}\nset -- purge \"$@\"\n[ $# = 1 ] || ask \"$@\"", installed(&names)),
            _ => format!("set -- {quoted}\n{SPECIFIED}\nask install \"$@\""),
        };
        let dropped = dropped(request.recorded.as_deref(), request.observed.as_ref(), &names);
        let dropped = match dropped.is_empty() {
            true => String::new(),
            false => {
                format!("{}\n[ $# = 0 ] || transaction purge {AUTOREMOVE} \"$@\" | blob dropped", installed(&dropped))
            }
        };
        Some(format!(
            "{LOOK}{TRANSACTION}
ask() {{ if R=$(transaction \"$@\" 2>&1); then printf '%s\\n' \"$R\" | blob transaction; else printf '%s\\n' \"$R\" | blob failure; fi; }}
held | blob held
{question}
{dropped}"
        ))
    }

    fn foresee(&self, request: &PlanRequest, seen: &Section, proposal: &mut Proposal) {
        let transaction = Transaction::of(seen);
        let allows = |name| flag(&request.desired, name);
        proposal.consequences.extend(transaction.consequences(allows("allow_downgrade"), allows("allow_held")));
        let own = request.recorded.as_ref().map(|record| own(&record.private)).unwrap_or_default();
        for (name, version) in removed(&seen.text("dropped").unwrap_or_default()) {
            let removal = Consequence::Removal { object: format!("package {name} {version}") };
            if own.contains(&name) && !proposal.consequences.contains(&removal) {
                proposal.consequences.push(removal);
            }
        }
        if transaction.is_unknown() {
            proposal.notes.push(
                "the lists of packages on the node are too old to say what else changes: the apply refreshes them, and removes nothing else"
                    .to_owned(),
            );
        }
    }

    fn act(&self, operation: &Operation, subject: &Subject, _: &Sources) -> Result<Step, ProviderError> {
        let own = own(&subject.private);
        let names = texts(&subject.attributes, "names");
        let permit = Permit::of(operation, subject);
        let body = match &operation.action {
            OperationAction::Delete if own.is_empty() => "note 'they were there before, and stay'".to_owned(),
            OperationAction::Delete => {
                let named = names.iter().map(|name| name_of(name).to_owned());
                remove(&named.filter(|name| own.contains(name)).collect::<Vec<_>>(), &own)
            }
            _ if text(&subject.attributes, "state") == Some("absent") => purge_all(&names),
            _ => {
                let dropped = dropped(operation.recorded.as_deref(), operation.observed.as_ref(), &names);
                let drop = if dropped.is_empty() { String::new() } else { remove(&dropped, &own) };
                format!("{}\n{drop}", install(&names, flag(&subject.attributes, "cache_update")))
            }
        };
        Ok(Step {
            packages: true,
            limit: Some(Duration::from_secs(1800)),
            ..Step::long(format!("{LOOK}{MANAGER}{TRANSACTION}{}{body}", permit.shell()))
        })
    }

    fn initial_private_data(&self, desired: &Attributes, observed: Option<&Attributes>) -> Option<serde_json::Value> {
        if text(desired, "state") == Some("absent") {
            return None;
        }
        let there = observed.map(|o| texts(o, "names")).unwrap_or_default();
        let names = texts(desired, "names").into_iter().map(|name| name_of(&name).to_owned());
        let missing: Vec<String> = names.filter(|name| !there.iter().any(|t| name_of(t) == name)).collect();
        Some(json!({ "installed": missing }))
    }

    fn private(&self, subject: &Subject, seen: &Section) -> serde_json::Value {
        let gone = seen.text("gone").unwrap_or_default();
        let mut own: Vec<String> =
            own(&subject.private).into_iter().filter(|name| !gone.lines().any(|g| g == name)).collect();
        own.extend(seen.text("new").unwrap_or_default().lines().map(str::to_owned));
        own.sort();
        own.dedup();
        json!({ "installed": own })
    }
}

fn name_of(entry: &str) -> &str {
    entry.split_once('=').map_or(entry, |(name, _)| name)
}

/// Whether the entry `name=version` means `version`; `*` stands for any text.
fn is_version(entry: &str, version: &str) -> bool {
    let Some((_, wanted)) = entry.split_once('=') else { return false };
    let mut parts = wanted.split('*');
    let Some(mut rest) = version.strip_prefix(parts.next().unwrap_or_default()) else { return false };
    let Some(last) = parts.next_back() else { return rest.is_empty() };
    for part in parts {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(last)
}

/// What was installed by moorfast, with all that came with it.
fn own(private: &serde_json::Value) -> Vec<String> {
    let names = private["installed"].as_array().map(Vec::as_slice).unwrap_or_default();
    names.iter().filter_map(|name| name.as_str().map(str::to_owned)).collect()
}

/// The packages that moorfast installed and that are not in the list of `names` any more.
fn dropped(recorded: Option<&Record>, observed: Option<&Observed>, names: &[String]) -> Vec<String> {
    let own = recorded.map(|record| own(&record.private)).unwrap_or_default();
    let observed = observed.map(|o| texts(&o.attributes, "names")).unwrap_or_default();
    let observed = observed.iter().map(|name| name_of(name).to_owned());
    observed.filter(|name| own.contains(name) && !names.iter().any(|n| name_of(n) == name)).collect()
}

/// The packages that the transaction `text` removes, with their versions.
fn removed(text: &str) -> Vec<(String, String)> {
    let removed = text.lines().filter_map(|line| line.strip_prefix("- ")?.split_once(' '));
    removed.map(|(name, version)| (name.to_owned(), version.to_owned())).collect()
}

/// What the plan and the manifest permit beyond the packages that are named.
struct Permit {
    removals: String,
    downgrades: String,
    downgrade: bool,
    held: bool,
}

impl Permit {
    fn of(operation: &Operation, subject: &Subject) -> Self {
        let package = |object: &str| {
            object.strip_prefix("package ").and_then(|o| o.split(' ').next()).unwrap_or_default().to_owned()
        };
        let (mut removals, mut downgrades) = (String::from(" "), String::from(" "));
        for consequence in &operation.consequences {
            match consequence {
                Consequence::Removal { object } => removals.push_str(&(package(object) + " ")),
                Consequence::Downgrade { object, .. } => downgrades.push_str(&(package(object) + " ")),
                _ => {}
            }
        }
        if text(&subject.attributes, "state") == Some("absent") {
            removals.extend(texts(&subject.attributes, "names").iter().map(|name| format!("{name} ")));
        }
        let allows = |name| subject.setting(name).and_then(Value::as_bool).unwrap_or_default();
        Self { removals, downgrades, downgrade: allows("allow_downgrade"), held: allows("allow_held") }
    }

    /// Shell: the options of apt-get, and `review VERB NAME…`, which refuses a transaction that does more than is permitted.
    fn shell(&self) -> String {
        let older = if self.downgrade { "--allow-downgrades" } else { "" };
        let only = if self.removals.trim().is_empty() { "--no-remove" } else { "" };
        let held = if self.held { "--allow-change-held-packages" } else { "" };
        format!(
            "allowed='{older} {held}'; only={only}
holds=$(held)
review() {{
  W=$1
  R=$(transaction \"$@\") || return 1
  M=$(printf '%s\\n' \"$R\" | while read -r A P _; do case $A in
    -) case {removals} in *\" $P \"*) ;; *) printf ' %s' \"$P\" ;; esac ;;
    '<') case {downgrades} in *\" $P \"*) ;; *) printf ' %s' \"$P\" ;; esac ;;
  esac; done)
  {direction}
  if [ -n \"$M\" ]; then
    printf %s 'plan again, and review what happens to these packages' | blob help
    fail conflict \"it would remove or downgrade packages that the plan did not show:$M\"
  fi
  {hold}
}}
",
            removals = quote(&self.removals),
            downgrades = quote(&self.downgrades),
            direction = match self.downgrade {
                true => "",
                false =>
                    "O=$(printf '%s\n' \"$R\" | while read -r A P V _; do [ \"$A\" != '<' ] || printf ' %s' \"$P $V\"; done)
  if [ -n \"$O\" ]; then
    printf %s 'allow_downgrade = true permits the older version' | blob help
    fail conflict \"the installed version is newer:$O\"
  fi",
            },
            hold = match self.held {
                true => ":",
                false =>
                    "M=$(printf '%s\n' \"$R\" | while read -r A P _; do case $A in [-=\\<]) case \"
$holds
\" in *\"
$P
\"*) printf ' %s' \"$P\" ;; esac ;; esac; done)
  if [ -n \"$M\" ]; then
    printf %s 'allow_held = true permits it; apt-mark unhold ends the hold' | blob help
    fail conflict \"it would change packages that are held:$M\"
  fi",
            }
        )
    }
}

/// Writes `name=version` in the positional parameters as the package manager of the node wants it.
const SPECIFIED: &str = r#"if [ ! -x /usr/bin/apt-get ]; then
  for A in "$@"; do shift; case $A in *=*) A=${A%%=*}-${A#*=} ;; esac; set -- "$@" "$A"; done
fi"#;

/// The option by which apt-get also removes what is needed no longer; dnf has none that the rehearsal could use.
const AUTOREMOVE: &str = "$([ ! -x /usr/bin/apt-get ] || echo --auto-remove)";

/// Puts those of `names` that are installed into the positional parameters.
fn installed(names: &[String]) -> String {
    let asks = names.iter().map(|n| format!("[ -z \"$(version {0})\" ] || set -- \"$@\" {0}\n", quote(name_of(n))));
    format!("set --\n{}", asks.collect::<String>())
}

/// What to ask about: what is remembered, in its order, with the versions that are wanted now, then what is new.
fn entries(subject: &Subject) -> Vec<String> {
    let wanted = texts(&subject.attributes, "names");
    let recorded = subject.recorded.as_ref().map(|r| texts(r, "names")).unwrap_or_default();
    let mut entries: Vec<String> = Vec::new();
    for entry in recorded.iter().chain(&wanted) {
        let current = wanted.iter().find(|w| name_of(w) == name_of(entry)).unwrap_or(entry);
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

/// Installs, and tells at its end what is new, also where it fails half-way.
fn install(names: &[String], refresh: bool) -> String {
    let each = |test: &str| -> String {
        let check = |name: &String| {
            format!(
                "if {test} {0}; then fail invalid {0}' is no package of its own: name the one that provides it'; fi\n",
                quote(name_of(name))
            )
        };
        names.iter().map(check).collect()
    };
    format!(
        "missing() {{ [ -z \"$(version \"$1\")\" ]; }}
check() {{
{known}}}
new() {{ all | while IFS= read -r P; do case \"
$before
\" in *\"
$P
\"*) ;; *) printf '%s\\n' \"$P\" ;; esac; done | blob new; }}
mend
before=$(all)
trap new EXIT
{refresh}
set -- {names}
{SPECIFIED}
check
attempt() {{ review install \"$@\" && install \"$@\"; }}
if ! X=$(attempt \"$@\" 2>&1); then
  case $X in
  *'Unable to locate'*|*'no installation candidate'*|*'was not found'*|*'Unable to fetch'*|*'404 '*|*'No match for'*) refresh; check; attempt \"$@\" ;;
  *) printf '%s\\n' \"$X\" >&2; exit 1 ;;
  esac
fi
{REHOLD}
{missing}",
        known = each("stands_for_others"),
        missing = each("missing"),
        refresh = if refresh { "refresh" } else { "" },
        names = quote_all(names.iter().map(String::as_str)),
    )
}

/// Holds again what was held: a package that is installed over a hold loses it.
const REHOLD: &str = r#"if [ -n "$holds" ]; then
  for A in $holds; do if [ -n "$(version "$A")" ]; then printf '%s\n' "$A"; fi; done | while read -r A; do apt-mark hold "$A"; done
fi"#;

/// Purges all of these, whoever installed them.
fn purge_all(names: &[String]) -> String {
    format!("{}\nif [ $# -gt 0 ]; then review purge \"$@\"; purge \"$@\"; fi", installed(names))
}

/// Purges those of `names` that are installed, and what came with them and is needed no longer; never anything that is not ours.
fn remove(names: &[String], own: &[String]) -> String {
    format!(
        "own={own}
ours() {{ case \" $own \" in *\" ${{1%%:*}} \"*) return 0 ;; *) return 1 ;; esac; }}
{asks}if [ $# -gt 0 ]; then
  others=$(for P in $(strangers \"$@\"); do ours \"$P\" || printf '%s ' \"$P\"; done)
  [ -z \"$others\" ] || fail conflict \"others need them that moorfast did not install: $others\"
  printf '%s\\n' \"$@\" | blob gone
  purge \"$@\"
fi
set --; for P in $(orphans); do if ours \"$P\"; then set -- \"$@\" \"$P\"; fi; done
[ $# = 0 ] || purge \"$@\"",
        own = quote(&own.join(" ")),
        asks = installed(names),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_may_have_wildcards() {
        for entry in ["jq=1.6-2.1", "jq=1.6*", "jq=*", "jq=*2.1", "jq=1*-*1", "jq=1.6-2.1*"] {
            assert!(is_version(entry, "1.6-2.1"), "{entry}");
        }
        for entry in ["jq", "jq=1.6", "jq=1.7*", "jq=*.2", "jq=1.6-2.1*1", "jq=1*3*1"] {
            assert!(!is_version(entry, "1.6-2.1"), "{entry}");
        }
    }
}
