//! `ssh_exec`: a command, for what no other resource type does.

use std::time::Duration;

use moorfast_engine::{
    Attribute, Attributes, Invalid, Kind, Observed, Operation, OperationAction, PlanRequest, Proposal, ProposedAction,
    ProviderError, ResourceType, Schema, Scope, Value, named,
};

use super::{Resource, Step, absolute, propose, public, text, texts, written};
use crate::duration;
use crate::script::{self, Section, quote, quote_all};
use crate::secrets::Secrets;
use crate::sources::Sources;
use crate::subject::Subject;

/// The resource type `ssh_exec`.
pub(crate) struct Exec;

/// Attributes that decide whether it runs again.
const REASONS: &[&str] = &["command", "script", "rerun_when"];

/// Attributes that are on the node only while it runs.
const PASSING: &[&str] = &["environment", "unless", "only_if", "timeout"];

impl Resource for Exec {
    fn resource_type(&self) -> ResourceType {
        let schema = Schema::new(
            "A command, for what no other resource type does. \
             It runs when it is created, when `command`, `script` or `rerun_when` changes, and when a resource of `restart_on` changes. \
             With `creates` or `unless` the world itself says whether it is done: then it runs whenever it is not. It fails by a status other than 0.",
            [
                Attribute::optional(
                    "name",
                    Kind::String,
                    "What it is known as on its node. Default: how the command begins, with a digest of the whole. Needed only to tell apart two with the same command.",
                ),
                Attribute::optional(
                    "command",
                    Kind::list(Kind::String),
                    "The program and its arguments, without a shell. Exactly one of `command` and `script` is written. Others on the node can see it run: secrets go through `environment`.",
                ),
                Attribute::optional(
                    "script",
                    Kind::String,
                    "A script for POSIX sh; `set -e` is up to it. It is in no process's arguments.",
                ),
                Attribute::optional(
                    "environment",
                    Kind::map(Kind::String),
                    "Further environment variables; may be sensitive. A change does not run it again.",
                ),
                Attribute::optional(
                    "working_directory",
                    Kind::String,
                    "Where it runs: an absolute path. Default: the home of the user that moorfast logs in as.",
                ),
                Attribute::optional("creates", Kind::String, "It is done where this absolute path exists."),
                Attribute::optional(
                    "unless",
                    Kind::Any,
                    "It is done where this command ends with status 0: a list of arguments, or a line for sh. It runs with every plan and must not change anything. It gets `environment`, and can't itself be sensitive.",
                ),
                Attribute::optional(
                    "only_if",
                    Kind::Any,
                    "There is nothing to do where this command ends with another status than 0; as of `unless`.",
                ),
                Attribute::optional(
                    "rerun_when",
                    Kind::map(Kind::Any),
                    "Values of your choice: it runs again when one of them changes. They can't be sensitive.",
                ),
                Attribute::optional(
                    "timeout",
                    Kind::Duration,
                    "How long it may run; then it and what it started is killed.",
                )
                .or("5m"),
                Attribute::optional(
                    "on_destroy",
                    Kind::list(Kind::String),
                    "The program and its arguments that a destroy runs; it does not get `environment`. Default: a destroy does nothing.",
                ),
                Attribute::computed("exit_code", Kind::Integer, "The status of the last run."),
                Attribute::computed(
                    "stdout",
                    Kind::String,
                    "What the last run printed, up to 16 KiB; not kept where `environment` is sensitive.",
                ),
            ],
        );
        ResourceType { name: "ssh_exec", scope: Scope::Node, schema }
    }

    fn validate(&self, attributes: &Attributes) -> Vec<Invalid> {
        let mut invalid: Vec<Invalid> =
            ["working_directory", "creates"].iter().filter_map(|name| absolute(attributes, name)).collect();
        if written(attributes, "command") == written(attributes, "script") {
            let message = match written(attributes, "command") {
                true => "both command and script are written",
                false => "there is neither a command nor a script",
            };
            invalid.push(Invalid {
                attribute: None,
                message: message.to_owned(),
                help: Some("write one of them".to_owned()),
            });
        }
        let open = ["command", "script", "rerun_when", "on_destroy", "unless", "only_if"];
        invalid
            .extend(open.iter().filter_map(|name| public(attributes, name, "hand secrets over through environment")));
        for name in ["command", "on_destroy"] {
            if attributes.get(name).and_then(Value::as_list).is_some_and(<[Value]>::is_empty) {
                let message = format!("{name} has no program");
                invalid.push(Invalid { attribute: Some(name), message, help: None });
            }
        }
        for name in attributes.get("environment").and_then(Value::as_map).into_iter().flat_map(|m| m.keys()) {
            let fits = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
                && !name.starts_with(|c: char| c.is_ascii_digit());
            if !fits || name.is_empty() {
                let message = format!("`{name}` is no name of an environment variable");
                invalid.push(Invalid { attribute: Some("environment"), message, help: None });
            }
        }
        invalid
    }

    fn identity(&self, attributes: &Attributes) -> Option<String> {
        if let Some(name) = text(attributes, "name") {
            return Some(format!("exec:{name}"));
        }
        let made_of: Vec<&Value> =
            ["command", "script", "creates"].iter().filter_map(|name| attributes.get(*name)).collect();
        if made_of.iter().any(|value| value.is_unknown()) {
            return None;
        }
        let digest = blake3::hash(format!("{made_of:?}").as_bytes()).to_hex();
        Some(format!("exec:{} ({})", beginning(attributes), &digest[..8]))
    }

    fn settings(&self) -> &'static [&'static str] {
        &[
            "name",
            "command",
            "script",
            "working_directory",
            "creates",
            "rerun_when",
            "on_destroy",
            "exit_code",
            "stdout",
        ]
    }

    fn look(&self, subject: &Subject) -> String {
        let mut body = String::new();
        if let Some(path) = subject.text("creates") {
            body.push_str(&format!("P={}; kind \"$P\"; [ \"$K\" = absent ] || field creates yes\n", quote(path)));
        }
        for name in ["unless", "only_if"] {
            if let Some(command) = subject.attributes.get(name).and_then(command_line) {
                let surroundings = surroundings(&subject.attributes);
                body.push_str(&format!(
                    "if ( {surroundings}{command}\n) 3<&- 4>&- >/dev/null 2>&1; then field {name} yes; fi\n"
                ));
            }
        }
        body.push_str("field looked yes");
        body
    }

    fn observe(&self, subject: &Subject, seen: &Section) -> Result<Option<Observed>, ProviderError> {
        let asks = |name: &str| written(&subject.attributes, name);
        let idle = asks("only_if") && !seen.is("only_if");
        let ran = seen.field("exit_code").is_some();
        let done = match asks("creates") || asks("unless") {
            true => seen.is("creates") || seen.is("unless"),
            false => subject.recorded.is_some() && !subject.incomplete,
        };
        if !(idle || done || ran) {
            return Ok(None);
        }
        let mut attributes = Attributes::new();
        if let Some(code) = seen.field("exit_code").and_then(|c| c.parse::<i64>().ok()) {
            attributes.insert("exit_code".to_owned(), Value::from(code));
        }
        let hides = subject.attributes.get("environment").is_some_and(Value::is_sensitive);
        if let Some(stdout) = seen.text("stdout").filter(|_| !hides) {
            attributes.insert("stdout".to_owned(), Value::from(stdout));
        }
        Ok(Some(Observed { attributes, private: serde_json::Value::Null }))
    }

    fn plan(&self, request: &PlanRequest, _: &Sources) -> Result<Proposal, ProviderError> {
        let mut planned = request.desired.clone();
        if request.observed.is_some() {
            planned.retain(|name, _| !PASSING.contains(&name.as_str()));
        }
        let mut proposal = propose(self, request, planned);
        let Some(observed) = &request.observed else { return Ok(proposal) };
        let changed: Vec<&str> = REASONS
            .iter()
            .copied()
            .filter(|name| proposal.planned.get(*name).is_some_and(|v| observed.attributes.get(*name) != Some(v)))
            .collect();
        let reasons: Vec<String> = changed.iter().map(|n| (*n).to_owned()).chain(named(&request.triggers)).collect();
        if !reasons.is_empty() {
            let verb = if changed.len() + request.triggers.len() == 1 { "changes" } else { "change" };
            proposal.notes.push(format!("run again: {} {verb}", reasons.join(", ")));
            proposal.action = ProposedAction::Update;
            proposal.planned.insert("exit_code".to_owned(), Value::Unknown);
            proposal.planned.insert("stdout".to_owned(), Value::Unknown);
        }
        Ok(proposal)
    }

    fn act(&self, operation: &Operation, subject: &Subject, _: &Sources) -> Result<Step, ProviderError> {
        let attributes = &subject.attributes;
        if matches!(operation.action, OperationAction::Delete) {
            let command = texts(attributes, "on_destroy");
            if command.is_empty() {
                return Ok(Step::quick(":"));
            }
            return Ok(Step::long(run(attributes, &exec(&command))));
        }
        let before = operation.observed.as_ref().map(|o| &o.attributes);
        let again = REASONS.iter().any(|name| before.is_none_or(|b| b.get(*name) != attributes.get(*name)));
        if !again && operation.triggers.is_empty() {
            return Ok(Step::quick(before.map(keep).unwrap_or_default()));
        }
        let command = match text(attributes, "script") {
            Some(script) => script::written(script),
            None => exec(&texts(attributes, "command")),
        };
        Ok(Step {
            limit: Some(duration::of(attributes, "timeout").unwrap_or(Duration::from_secs(300))),
            secrets: Secrets::of(attributes.get("environment")),
            ..Step::long(run(attributes, &command))
        })
    }
}

/// By what a person knows the command again: its first words, or those of the first line of the script that does something.
fn beginning(attributes: &Attributes) -> String {
    const LIMIT: usize = 40;
    let does_something = |line: &&str| !line.is_empty() && !line.starts_with('#') && !line.starts_with("set ");
    let line = match text(attributes, "script") {
        Some(script) => script.lines().map(str::trim).find(does_something).unwrap_or("script").to_owned(),
        None => texts(attributes, "command").join(" "),
    };
    let line = line.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(LIMIT) {
        Some((end, _)) => format!("{}…", line[..end].trim_end()),
        None => line,
    }
}

/// Tells the result of the last run again, where nothing runs.
fn keep(before: &Attributes) -> String {
    let code = before.get("exit_code").and_then(Value::as_i64).unwrap_or_default();
    let stdout = text(before, "stdout").map(|t| format!("printf %s {} | blob stdout", quote(t))).unwrap_or_default();
    format!("field exit_code {code}\n{stdout}")
}

fn exec(command: &[String]) -> String {
    format!("exec {}", quote_all(command.iter().map(String::as_str)))
}

/// A guard: a list of arguments, or a line for sh.
fn command_line(value: &Value) -> Option<String> {
    match (value.as_str(), value.as_list()) {
        (Some(line), _) => Some(script::written(line)),
        (None, Some(words)) => {
            let words: Option<Vec<&str>> = words.iter().map(Value::as_str).collect();
            words.filter(|w| !w.is_empty()).map(quote_all)
        }
        (None, None) => None,
    }
}

/// The environment and the working directory, set within a subshell.
fn surroundings(attributes: &Attributes) -> String {
    let mut body = String::new();
    for (name, value) in attributes.get("environment").and_then(Value::as_map).into_iter().flatten() {
        if let Some(value) = value.as_str() {
            body.push_str(&format!("export {name}={}\n", quote(value)));
        }
    }
    if let Some(directory) = text(attributes, "working_directory") {
        body.push_str(&format!("cd -- {}\n", quote(directory)));
    }
    body
}

fn run(attributes: &Attributes, command: &str) -> String {
    format!(
        "temporary \"${{TMPDIR:-/tmp}}\"
set +e
( set -e
{surroundings}{command}
) 3<&- 4>&- > \"$T\"
C=$?
set -e
if [ \"$C\" != 0 ]; then
  tail -n 20 -- \"$T\" | blob detail
  fail failed \"it ended with status $C\"
fi
field exit_code \"$C\"
head -c 16384 -- \"$T\" | blob stdout",
        surroundings = surroundings(attributes),
    )
}
