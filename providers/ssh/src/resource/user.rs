//! `ssh_user`: an account.

use moorfast_engine::model::{Attribute, Attributes, Kind, ReadAttributes, Schema, Value};
use moorfast_engine::provider::{
    Declaration, Invalid, Observed, Operation, OperationAction, PlanRequest, Proposal, ProposedAction, ProviderError,
    TargetKind,
};
use moorfast_engine::state::Record;
use serde_json::json;

use super::account::{self, name_rule, number_rule};
use super::proposal::propose;
use super::{Resource, ShellTask, absolute_path};
use crate::object_answer::Answer;
use crate::question::{Question, Topic};
use crate::script::{Section, print_bytes, quote};
use crate::sources::Sources;
use crate::subject::Subject;

/// The resource type `ssh_user`.
pub(crate) struct User;

const ENTER_SSH_FOLDER: &str = include_str!("user/enter_ssh_folder.sh");

const READ_KEYS: &str = include_str!("user/read_keys.sh");

const WRITE_KEYS: &str = include_str!("user/write_keys.sh");

/// Shell that removes the keys of `$U`, if the account had none before moorfast.
const REMOVE_KEYS: &str = r#"if [ "$K" != absent ]; then enter; rm -f -- authorized_keys; fi"#;

const MOVE_HOME: &str = include_str!("user/move_home.sh");

/// The lists that are restored when they are removed from the manifest.
const LISTS: &[&str] = &["groups", "authorized_keys"];

impl Resource for User {
    fn declaration(&self) -> Declaration {
        let schema = Schema::new(
            "An account without a password. A destroy removes the account only if moorfast created it.",
            [
                Attribute::required("name", Kind::String, "The name of the account.").replaces(),
                Attribute::optional("uid", Kind::Integer, "The user ID. If unset, the node chooses it.").or_computed(),
                Attribute::optional("group", Kind::String, "The primary group, by name or number. It must exist. If unset, a new account gets the default group of the node's useradd, usually a group with its own name.").or_computed(),
                Attribute::optional("groups", Kind::list(Kind::String), "The supplementary groups, by name or number: exactly these, in any order. They must exist. If unset, they are kept. If the list is removed from the manifest, the groups that the account had before are restored.").or_computed(),
                Attribute::optional("home", Kind::String, "The home directory. If unset, the node chooses it, usually `/home/NAME`. With `create_home`, a change moves the content of the old home, if the account owns it and the new directory does not exist.").or_computed(),
                Attribute::optional("shell", Kind::String, "The login shell. If unset, the node chooses it.").or_computed(),
                Attribute::optional("comment", Kind::String, "The full name or the purpose of the account.").or_computed(),
                Attribute::optional("system", Kind::Bool, "Whether a new account is a system account, with a user ID below 1000.").or(false).instruction(),
                Attribute::optional("create_home", Kind::Bool, "Whether the home directory of a new account, or of an account with a changed home, is created.").or(true).instruction(),
                Attribute::optional("remove_home", Kind::Bool, "Whether a destroy removes the home directory with its content.").or(false).instruction(),
                Attribute::optional("authorized_keys", Kind::list(Kind::String), "The public keys that may log in: the whole content of `~/.ssh/authorized_keys`, one line each. It is an error if that file or its folder is a symbolic link. If unset, the keys are kept. If the list is removed from the manifest, the keys that the account had before are restored."),
                Attribute::computed("keys_trusted", Kind::Bool, "Whether sshd with StrictModes accepts the `authorized_keys`: only the account and root own or can change the file and its folder, and the account can read both. An apply corrects owner and mode."),
            ],
        );
        Declaration { name: "ssh_user", target_kind: TargetKind::Node, schema }
    }

    fn validate(&self, attributes: &Attributes) -> Vec<Invalid> {
        let mut invalid: Vec<Invalid> = name_rule(attributes, "name").into_iter().collect();
        invalid.extend(number_rule(attributes, "uid"));
        invalid.extend(["home", "shell"].iter().filter_map(|name| absolute_path(attributes, name)));
        for name in ["comment", "shell", "home"] {
            if attributes.text(name).is_some_and(|t| t.contains([':', '\n'])) {
                let message = format!("{name} must not contain a colon or a line break");
                invalid.push(Invalid::new(name, message));
            }
        }
        invalid
    }

    fn identity(&self, attributes: &Attributes) -> Option<String> {
        Some(format!("user:{}", attributes.text("name")?))
    }

    fn settings(&self) -> &'static [&'static str] {
        &["system", "create_home", "remove_home"]
    }

    fn lost_on_overwrite(&self) -> &'static [&'static str] {
        &["uid", "group", "groups", "home", "shell", "comment", "authorized_keys"]
    }

    fn questions(&self, subject: &Subject, _: &Answer) -> Vec<Question> {
        let name = subject.text("name").into_iter();
        name.flat_map(|name| [Topic::User.of(name), Topic::Membership.of(name)]).collect()
    }

    fn read_script(&self, subject: &Subject) -> String {
        if !reads_keys(subject) {
            return String::new();
        }
        format!(
            "X=$(getent passwd -- {} || true)\nif [ -n \"$X\" ]; then\n{ENTER_SSH_FOLDER}\n{READ_KEYS}\nfi",
            quote(subject.text("name").unwrap_or_default())
        )
    }

    fn observe(&self, subject: &Subject, answer: &Answer) -> Result<Option<Observed>, ProviderError> {
        let name = subject.text("name").unwrap_or_default();
        let Some(line) = answer.node.account(&Topic::User.of(name)) else { return Ok(None) };
        let parts: Vec<&str> = line.split(':').collect();
        let [_, _, uid, _, comment, home, shell] = parts[..] else { return Ok(None) };
        let groups = answer.node.groups_of(name).iter();
        let mut groups = groups.map(|(name, number)| (name.as_str(), number.as_str()));
        let primary = groups.next().unwrap_or_default();
        let further: Vec<(&str, &str)> = groups.filter(|group| *group != primary).collect();
        // The recorded spelling comes first, so that another spelling in the manifest is not drift.
        let recorded = subject.recorded.as_ref();
        let mut known = recorded.map(|r| r.texts("groups")).unwrap_or_default();
        known.extend(subject.attributes.texts("groups"));
        let as_known = |(name, number): &(&str, &str)| {
            let known = known.iter().find(|known| account::is_same(known, name, number));
            known.cloned().unwrap_or_else(|| (*name).to_owned())
        };
        let mut further_shown: Vec<String> = further.iter().map(as_known).collect();
        further_shown.sort();
        let is_primary = |group: &&str| account::is_same(group, primary.0, primary.1);
        let group = recorded.and_then(|r| r.text("group")).filter(is_primary).or(subject.text("group"));
        let mut attributes = Attributes::new();
        let mut put = |name: &str, value: Value| attributes.insert(name.to_owned(), value);
        if let Some(name) = subject.attributes.get("name") {
            put("name", name.clone());
        }
        put("uid", Value::from(uid.parse::<i64>().unwrap_or_default()));
        put("comment", Value::from(comment));
        put("home", Value::from(home));
        put("shell", Value::from(shell));
        put("group", Value::from(account::spelled(group, primary.0, primary.1)));
        put("groups", Value::from(further_shown));
        let mut private = json!({ "primary": primary, "further": further });
        if reads_keys(subject) {
            let distrust = key_problems(uid, home, answer.own);
            put("authorized_keys", Value::from(lines(&answer.own.text("keys").unwrap_or_default())));
            put("keys_trusted", Value::from(distrust.is_empty()));
            private["distrust"] = json!(distrust);
        }
        Ok(Some(Observed { attributes, private }))
    }

    fn plan(&self, request: &PlanRequest, _: &Sources) -> Result<Proposal, ProviderError> {
        let as_shown = self.propose(request, true);
        Ok(match as_shown.action {
            ProposedAction::NoOp => as_shown,
            _ => self.propose(request, false),
        })
    }

    fn apply_script(&self, operation: &Operation, subject: &Subject, _: &Sources) -> Result<ShellTask, ProviderError> {
        let attributes = &subject.attributes;
        let start = format!("U={}", quote(subject.text("name").unwrap_or_default()));
        let body = match &operation.action {
            OperationAction::Delete if subject.private["made"] == true => {
                let home = if attributes.flag("remove_home") { "-r" } else { "" };
                format!("if getent passwd -- \"$U\" >/dev/null; then userdel {home} -- \"$U\"; fi")
            }
            OperationAction::Delete => "note 'the account existed before moorfast and is kept'".to_owned(),
            OperationAction::Create(_) => {
                let home = if attributes.flag("create_home") { "-m" } else { "-M" };
                let system = if attributes.flag("system") { "-r" } else { "" };
                let options = format!("{home} {system} {}", options(attributes, None));
                format!("{}\nfield made yes\n{}", add(&options, attributes), keys(attributes))
            }
            OperationAction::Update(_) => {
                let before = operation.observed.as_ref().map(|o| &o.attributes);
                let back = restored_lists(attributes, operation.recorded.as_deref());
                let attributes: Attributes = attributes.clone().into_iter().chain(back.clone()).collect();
                let options = options(&attributes, before);
                let change = if options.is_empty() { ":".to_owned() } else { format!("usermod {options} -- \"$U\"") };
                let home = match attributes.text("home") {
                    Some(home)
                        if attributes.flag("create_home") && before.and_then(|b| b.text("home")) != Some(home) =>
                    {
                        format!("D={}\n{MOVE_HOME}\n", quote(home))
                    }
                    _ => String::new(),
                };
                let keys = match back.get("authorized_keys").and_then(Value::as_list) {
                    Some([]) => format!("X=$(getent passwd -- \"$U\")\n{ENTER_SSH_FOLDER}\n{REMOVE_KEYS}"),
                    _ => keys(&attributes),
                };
                format!("{home}{change}\n{keys}")
            }
        };
        Ok(ShellTask::quick(format!("{start}\n{body}")))
    }

    fn initial_private_data(&self, desired: &Attributes, observed: Option<&Observed>) -> Option<serde_json::Value> {
        let mut found = previous_lists(desired, observed.map(|o| &o.attributes));
        if observed.is_none() {
            found.insert("made".to_owned(), true.into());
        }
        (!found.is_empty()).then(|| found.into())
    }

    fn private(&self, subject: &Subject, answer: &Section) -> serde_json::Value {
        let mut private = subject.private.as_object().cloned().unwrap_or_default();
        if answer.is("made") {
            private.insert("made".to_owned(), true.into());
        }
        for (name, found) in previous_lists(&subject.attributes, subject.before.as_ref()) {
            private.entry(name).or_insert(found);
        }
        if answer.status == Some(0) {
            private.retain(|name, _| !LISTS.contains(&name.as_str()) || subject.attributes.is_set(name));
        }
        if private.is_empty() { serde_json::Value::Null } else { private.into() }
    }
}

impl User {
    /// Returns the proposal for `request`. With `as_shown`, equal groups keep the observed spelling.
    fn propose(&self, request: &PlanRequest, as_shown: bool) -> Proposal {
        let mut planned = request.desired.clone();
        planned.extend(restored_lists(&request.desired, request.recorded.as_deref()));
        let observed = request.observed.as_ref();
        let known = observed.map(|o| &o.private).unwrap_or(&serde_json::Value::Null);
        let pair = |json: &serde_json::Value| Some((json[0].as_str()?.to_owned(), json[1].as_str()?.to_owned()));
        let further: Vec<_> = known["further"].as_array().into_iter().flatten().filter_map(pair).collect();
        let primary = pair(&known["primary"]);
        let is_primary = |group: &str| primary.iter().any(|(name, number)| account::is_same(group, name, number));
        if let (true, Some(shown)) = (as_shown && planned.text("group").is_some_and(is_primary), observed) {
            planned.extend(shown.attributes.get("group").map(|group| ("group".to_owned(), group.clone())));
        }
        let primary = match planned.text("group") {
            Some(desired) if !is_primary(desired) => Some((desired.to_owned(), desired.to_owned())),
            _ => primary,
        };
        let shown = match as_shown {
            true => observed.map(|o| o.attributes.texts("groups")).unwrap_or_default(),
            false => planned.texts("groups"),
        };
        rewrite(&mut planned, "groups", |groups| {
            let is_primary =
                |desired: &String| primary.iter().any(|(name, number)| account::is_same(desired, name, number));
            let settle = |desired: String| {
                let same = further.iter().find(|(name, number)| account::is_same(&desired, name, number));
                let shown =
                    |(name, number): &(String, String)| shown.iter().find(|s| account::is_same(s, name, number));
                same.and_then(shown).cloned().unwrap_or(desired)
            };
            let mut groups: Vec<String> = groups.into_iter().filter(|g| !is_primary(g)).map(settle).collect();
            groups.sort();
            groups.dedup();
            groups
        });
        rewrite(&mut planned, "authorized_keys", |keys| lines(&keys.join("\n")));
        let keys = planned.is_set("authorized_keys");
        if keys {
            planned.insert("keys_trusted".to_owned(), Value::from(true));
        }
        let mut proposal = propose(self, request, planned);
        if !keys {
            proposal.planned.remove("keys_trusted");
        }
        let distrust = known["distrust"].as_array().into_iter().flatten().filter_map(|line| line.as_str());
        proposal.notes.extend(distrust.filter(|_| keys).map(str::to_owned));
        let moves = proposal
            .planned
            .get("home")
            .is_some_and(|home| observed.is_some_and(|o| o.attributes.get("home") != Some(home)));
        if moves && request.desired.flag("create_home") {
            proposal.notes.push("the content of the old home moves to the new one".to_owned());
        }
        proposal
    }
}

/// Returns the lists of `desired` with their values from before moorfast. Keys that may be secret are left out.
fn previous_lists(desired: &Attributes, observed: Option<&Attributes>) -> serde_json::Map<String, serde_json::Value> {
    let found = |name: &&str| {
        let list = observed.and_then(|o| o.get(name));
        let secret = list.is_some_and(|list| list != &list.reveal_deep());
        (desired.is_set(name) && !secret)
            .then(|| ((*name).to_owned(), json!(observed.map(|o| o.texts(name)).unwrap_or_default())))
    };
    LISTS.iter().filter_map(found).collect()
}

/// Returns the lists that were removed from the manifest, with their values from before moorfast.
fn restored_lists(desired: &Attributes, recorded: Option<&Record>) -> Attributes {
    let found = |name: &&str| {
        let items = recorded?.private[*name].as_array().filter(|_| !desired.is_set(name))?;
        let items: Vec<String> = items.iter().filter_map(|item| item.as_str().map(str::to_owned)).collect();
        Some(((*name).to_owned(), Value::from(items)))
    };
    LISTS.iter().filter_map(found).collect()
}

/// Whether the keys of the account are read: they are in the manifest, or were removed from it.
fn reads_keys(subject: &Subject) -> bool {
    let left = subject.recorded.is_some() && subject.private["authorized_keys"].is_array();
    subject.attributes.is_set("authorized_keys") || left
}

/// Returns why sshd with StrictModes refuses the keys of the account `uid`, one line per path.
fn key_problems(uid: &str, home: &str, answer: &Section) -> Vec<String> {
    let folder = format!("{home}/.ssh");
    let places = [("folder_access", folder.clone(), 0o5), ("keys_access", format!("{folder}/authorized_keys"), 0o4)];
    let check = |(field, path, needed): (&str, String, u32)| {
        let (owner, mode) = answer.field(field)?.split_once(' ')?;
        let bits = u32::from_str_radix(mode, 8).ok()?;
        match owner {
            _ if owner != uid && owner != "0" => {
                Some(format!("sshd refuses {path}: it belongs to another user ({owner})"))
            }
            _ if bits & 0o022 != 0 => Some(format!("sshd refuses {path}: other users can write it (mode {mode:0>4})")),
            _ if owner == uid && (bits >> 6) & needed != needed => {
                Some(format!("the account cannot read {path} (mode {mode:0>4})"))
            }
            _ if owner != uid && bits & needed != needed => {
                Some(format!("the account cannot read {path} (owner root, mode {mode:0>4})"))
            }
            _ => None,
        }
    };
    places.into_iter().filter_map(check).collect()
}

/// Returns shell that creates the account. useradd creates an unusual name only with `--badname`.
fn add(options: &str, attributes: &Attributes) -> String {
    if attributes.text("name").is_none_or(account::is_portable) {
        return format!("useradd {options} -- \"$U\"");
    }
    format!(
        "X=$(useradd {options} -- \"$U\" 2>&1) || case $X in *badname*) useradd --badname {options} -- \"$U\" ;; *) printf '%s\\n' \"$X\" >&2; exit 1 ;; esac"
    )
}

/// Replaces the list `name`, if it is known, by the result of `new`. It stays as sensitive as it was.
fn rewrite(attributes: &mut Attributes, name: &str, new: impl FnOnce(Vec<String>) -> Vec<String>) {
    let Some(value) = attributes.get(name).filter(|v| !v.is_null() && !v.is_unknown() && !v.is_retained()) else {
        return;
    };
    let hidden = value.is_sensitive();
    let value = Value::from(new(attributes.texts(name)));
    attributes.insert(name.to_owned(), if hidden { value.sensitive() } else { value });
}

/// Returns the lines of `text` that are not empty.
fn lines(text: &str) -> Vec<String> {
    text.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect()
}

/// Returns the options of useradd and usermod for the attributes that are set and differ from `before`.
fn options(attributes: &Attributes, before: Option<&Attributes>) -> String {
    let differs = |name: &str| before.is_none_or(|b| b.get(name) != attributes.get(name));
    let mut options = Vec::new();
    let plain = [("comment", "-c"), ("home", "-d"), ("shell", "-s"), ("group", "-g")];
    for (name, option) in plain.iter().filter(|(name, _)| differs(name)) {
        if let Some(value) = attributes.text(name) {
            options.push(format!("{option} {}", quote(value)));
        }
    }
    if let Some(uid) = attributes.get("uid").and_then(Value::as_i64).filter(|_| differs("uid")) {
        options.push(format!("-u {uid}"));
    }
    if attributes.is_set("groups") && differs("groups") {
        options.push(format!("-G {}", quote(&attributes.texts("groups").join(","))));
    }
    options.join(" ")
}

fn keys(attributes: &Attributes) -> String {
    if !attributes.is_set("authorized_keys") {
        return String::new();
    }
    let keys = lines(&attributes.texts("authorized_keys").join("\n"));
    let text: String = keys.iter().map(|key| format!("{key}\n")).collect();
    format!(
        "X=$(getent passwd -- \"$U\")\n{ENTER_SSH_FOLDER}\n{} | {{ exec 5<&0 </dev/null\n{WRITE_KEYS}}}",
        print_bytes(text.as_bytes())
    )
}
