//! `ssh_user`: an account.

use moorfast_engine::{
    Attribute, Attributes, Invalid, Kind, Observed, Operation, OperationAction, PlanRequest, Proposal, ProviderError,
    ResourceType, Schema, Scope, Value,
};
use serde_json::json;

use super::account::name_rule;
use super::{Resource, Step, absolute, flag, propose, text, texts, written};
use crate::script::{Section, print_bytes, quote};
use crate::sources::Sources;
use crate::subject::Subject;

/// The resource type `ssh_user`.
pub(crate) struct User;

/// Tells the account `$U`: its line, its primary group, its further groups.
const LOOK: &str = r#"X=$(getent passwd -- "$U" || true)
if [ -n "$X" ]; then
  printf %s "$X" | blob passwd
  id -gn -- "$U" | blob group
  id -Gn -- "$U" | blob groups
fi"#;

/// Shell functions that go to the keys of the account whose line is `$X`. Its owner may have put links into their place, also meanwhile: what these lead to
/// is neither shown to us nor given to him.
const TO_KEYS: &str = r#"H=${X%:*}; H=${H##*:}
plain() { kind "$1"; case $K in absent|"$2"*) ;; *) fail conflict "$3 is a $K: it is neither read nor written" ;; esac; }
enter() {
  kind "$H/.ssh/."
  cd -- "$H"; R=$(pwd -P)
  cd -- .ssh; [ "$(pwd -P)" = "${R%/}/.ssh" ] || fail conflict "$H/.ssh became a symbolic link"
  plain authorized_keys regular "$H/.ssh/authorized_keys"
}
plain "$H/.ssh" directory "$H/.ssh""#;

/// Tells the keys. Where they may not be read that is no account without keys.
const LOOK_AT_KEYS: &str = r#"if [ "$K" != absent ]; then
  enter
  if [ "$K" != absent ]; then
    dd if=authorized_keys iflag=nofollow count=0 status=none
    dd if=authorized_keys iflag=nofollow status=none | blob keys
  fi
fi"#;

/// Takes the keys that come on 5 as those of `$U`.
const TAKE_KEYS: &str = r#"mkdir -p -m 0700 -- "$H/.ssh"
enter
G=$(id -gn -- "$U")
chown -- "$U:$G" .; chmod 0700 .
opened .
cat <&5 >&6
chown -- "$U:$G" /proc/self/fd/6; chmod 0600 /proc/self/fd/6
mv -fT -- "$T" authorized_keys"#;

impl Resource for User {
    fn resource_type(&self) -> ResourceType {
        let schema = Schema::new(
            "An account. It gets no password. A destroy removes it, if it was made by moorfast.",
            [
                Attribute::required("name", Kind::String, "Its name.").replaces(),
                Attribute::optional("uid", Kind::Integer, "Its number. Where it is not written the node chooses.").or_computed(),
                Attribute::optional("group", Kind::String, "Its primary group, which must exist. Where it is not written a new account gets a group of its own name, or what the node's useradd is set to.").or_computed(),
                Attribute::optional("groups", Kind::list(Kind::String), "Its further groups, exactly these, in any order. They must exist. Left as they are where not written.").or_computed(),
                Attribute::optional("home", Kind::String, "Its home directory. Where it is not written the node chooses, usually `/home/NAME`.").or_computed(),
                Attribute::optional("shell", Kind::String, "Its login shell. Where it is not written the node chooses.").or_computed(),
                Attribute::optional("comment", Kind::String, "Its full name or purpose.").or_computed(),
                Attribute::optional("system", Kind::Bool, "Is a new account one of the system's (its number chosen below 1000)?").or(false),
                Attribute::optional("create_home", Kind::Bool, "Does a new account get its home directory?").or(true),
                Attribute::optional("remove_home", Kind::Bool, "Does a destroy remove the home directory with all in it?").or(false),
                Attribute::optional("authorized_keys", Kind::list(Kind::String), "The public keys that may log in as it, exactly these: the whole `~/.ssh/authorized_keys`, one line each. A symbolic link in the place of that file or its folder is an error. Left as they are where not written."),
            ],
        );
        ResourceType { name: "ssh_user", scope: Scope::Node, schema }
    }

    fn validate(&self, attributes: &Attributes) -> Vec<Invalid> {
        let mut invalid: Vec<Invalid> = name_rule(attributes, "name").into_iter().collect();
        invalid.extend(["home", "shell"].iter().filter_map(|name| absolute(attributes, name)));
        for name in ["comment", "shell", "home"] {
            if text(attributes, name).is_some_and(|t| t.contains([':', '\n'])) {
                let message = format!("{name} can't hold a colon or a line break");
                invalid.push(Invalid { attribute: Some(name), message, help: None });
            }
        }
        invalid
    }

    fn identity(&self, attributes: &Attributes) -> Option<String> {
        Some(format!("user:{}", text(attributes, "name")?))
    }

    fn settings(&self) -> &'static [&'static str] {
        &["system", "create_home", "remove_home"]
    }

    fn contents(&self) -> &'static [&'static str] {
        &["uid", "group", "groups", "home", "shell", "comment", "authorized_keys"]
    }

    fn look(&self, subject: &Subject) -> String {
        let keys = match written(&subject.attributes, "authorized_keys") {
            true => format!("if [ -n \"$X\" ]; then\n{TO_KEYS}\n{LOOK_AT_KEYS}\nfi"),
            false => String::new(),
        };
        format!("U={}\n{LOOK}\n{keys}", quote(subject.text("name").unwrap_or_default()))
    }

    fn observe(&self, subject: &Subject, seen: &Section) -> Result<Option<Observed>, ProviderError> {
        let Some(line) = seen.text("passwd") else { return Ok(None) };
        let parts: Vec<&str> = line.trim_end().split(':').collect();
        let [_, _, uid, _, comment, home, shell] = parts[..] else { return Ok(None) };
        let group = seen.text("group").unwrap_or_default().trim().to_owned();
        let further = seen.text("groups").unwrap_or_default();
        let mut further: Vec<String> = further.split_whitespace().filter(|g| *g != group).map(str::to_owned).collect();
        further.sort();
        let mut attributes = Attributes::new();
        let mut put = |name: &str, value: Value| attributes.insert(name.to_owned(), value);
        if let Some(name) = subject.attributes.get("name") {
            put("name", name.clone());
        }
        put("uid", Value::from(uid.parse::<i64>().unwrap_or_default()));
        put("comment", Value::from(comment));
        put("home", Value::from(home));
        put("shell", Value::from(shell));
        put("group", Value::from(group));
        put("groups", Value::from(further));
        if written(&subject.attributes, "authorized_keys") {
            put("authorized_keys", Value::from(lines(&seen.text("keys").unwrap_or_default())));
        }
        Ok(Some(Observed { attributes, private: serde_json::Value::Null }))
    }

    fn plan(&self, request: &PlanRequest, _: &Sources) -> Result<Proposal, ProviderError> {
        let mut planned = request.desired.clone();
        let observed = request.observed.as_ref().map(|o| &o.attributes);
        let primary = text(&planned, "group").or_else(|| text(observed?, "group")).map(str::to_owned);
        rewrite(&mut planned, "groups", |groups| {
            let mut groups: Vec<String> = groups.into_iter().filter(|g| Some(g) != primary.as_ref()).collect();
            groups.sort();
            groups.dedup();
            groups
        });
        rewrite(&mut planned, "authorized_keys", |keys| lines(&keys.join("\n")));
        Ok(propose(self, request, planned))
    }

    fn act(&self, operation: &Operation, subject: &Subject, _: &Sources) -> Result<Step, ProviderError> {
        let attributes = &subject.attributes;
        let start = format!("U={}", quote(subject.text("name").unwrap_or_default()));
        let body = match &operation.action {
            OperationAction::Delete if subject.private["made"] == true => {
                let home = if flag(attributes, "remove_home") { "-r" } else { "" };
                format!("if getent passwd -- \"$U\" >/dev/null; then userdel {home} -- \"$U\"; fi")
            }
            OperationAction::Delete => "note 'it was there before, and stays'".to_owned(),
            OperationAction::Create(_) => {
                let home = if flag(attributes, "create_home") { "-m" } else { "-M" };
                let system = if flag(attributes, "system") { "-r" } else { "" };
                format!(
                    "useradd {home} {system} {} -- \"$U\"\nfield made yes\n{}",
                    options(attributes, None),
                    keys(attributes)
                )
            }
            OperationAction::Update(_) => {
                let options = options(attributes, operation.observed.as_ref().map(|o| &o.attributes));
                let change = if options.is_empty() { ":".to_owned() } else { format!("usermod {options} -- \"$U\"") };
                format!("{change}\n{}", keys(attributes))
            }
        };
        Ok(Step::quick(format!("{start}\n{body}")))
    }

    fn found(&self, _: &Attributes, observed: Option<&Attributes>) -> Option<serde_json::Value> {
        observed.is_none().then(|| json!({ "made": true }))
    }

    fn private(&self, subject: &Subject, seen: &Section) -> serde_json::Value {
        if seen.is("made") { json!({ "made": true }) } else { subject.private.clone() }
    }
}

/// Puts the list `name`, where it is known, as `new` says it; it stays as sensitive as it is.
fn rewrite(attributes: &mut Attributes, name: &str, new: impl FnOnce(Vec<String>) -> Vec<String>) {
    let Some(value) = attributes.get(name).filter(|v| !v.is_null() && !v.is_unknown() && !v.is_retained()) else {
        return;
    };
    let hidden = value.is_sensitive();
    let value = Value::from(new(texts(attributes, name)));
    attributes.insert(name.to_owned(), if hidden { value.sensitive() } else { value });
}

/// The lines of `text` that say something.
fn lines(text: &str) -> Vec<String> {
    text.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect()
}

/// The options of useradd and usermod for what is written and differs from `before`.
fn options(attributes: &Attributes, before: Option<&Attributes>) -> String {
    let differs = |name: &str| before.is_none_or(|b| b.get(name) != attributes.get(name));
    let mut options = Vec::new();
    let plain = [("comment", "-c"), ("home", "-d"), ("shell", "-s"), ("group", "-g")];
    for (name, option) in plain.iter().filter(|(name, _)| differs(name)) {
        if let Some(value) = text(attributes, name) {
            options.push(format!("{option} {}", quote(value)));
        }
    }
    if let Some(uid) = attributes.get("uid").and_then(Value::as_i64).filter(|_| differs("uid")) {
        options.push(format!("-u {uid}"));
    }
    if written(attributes, "groups") && differs("groups") {
        options.push(format!("-G {}", quote(&texts(attributes, "groups").join(","))));
    }
    options.join(" ")
}

fn keys(attributes: &Attributes) -> String {
    if !written(attributes, "authorized_keys") {
        return String::new();
    }
    let keys = lines(&texts(attributes, "authorized_keys").join("\n"));
    let text: String = keys.iter().map(|key| format!("{key}\n")).collect();
    format!(
        "X=$(getent passwd -- \"$U\")\n{TO_KEYS}\n{} | {{ exec 5<&0 </dev/null; {TAKE_KEYS}; }}",
        print_bytes(text.as_bytes())
    )
}
