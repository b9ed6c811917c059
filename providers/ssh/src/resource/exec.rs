//! `ssh_exec`: a command, for tasks that no other resource type covers.

mod program;
mod user_script;

use std::time::Duration;

use moorfast_engine::model::{Attribute, Attributes, Kind, ReadAttributes, Schema, Value, named};
use moorfast_engine::provider::{
    Declaration, Invalid, Observed, Operation, OperationAction, PlanRequest, Proposal, ProposedAction, ProviderError,
    Redaction, TargetKind,
};

pub(crate) use self::program::program;
use self::user_script::UserScript;
use super::proposal::propose;
use super::{Resource, ShellTask, absolute_path, no_interpreter_line, not_sensitive};
use crate::duration;
use crate::object_answer::Answer;
use crate::question::{Question, Topic};
use crate::script::{self, quote, quote_all};
use crate::sources::Sources;
use crate::subject::Subject;

/// The resource type `ssh_exec`.
pub(crate) struct Exec;

/// The attributes whose change runs the command again.
const RERUN_ATTRIBUTES: &[&str] = &["command", "script", "rerun_when"];

/// The attributes that have no effect after a run.
const ONLY_DURING_RUN: &[&str] = &["environment", "unless", "only_if", "timeout"];

impl Resource for Exec {
    fn declaration(&self) -> Declaration {
        let schema = Schema::new(
            "A command, for tasks that no other resource type covers. \
             It runs when it is created, when `command`, `script` or `rerun_when` changes, and when a resource of `restart_on` changes. \
             With `creates` or `unless`, the node decides: the command runs whenever the node does not have the result. An exit status other than 0 is a failure.",
            [
                Attribute::optional(
                    "name",
                    Kind::String,
                    "The identity of the command on its node. Default: the beginning of the command and a digest of it. Required only if two resources have the same command.",
                ),
                Attribute::optional(
                    "command",
                    Kind::list(Kind::String),
                    "The program and its arguments, without a shell. Exactly one of `command` and `script` is required. Other users of the node can see the arguments: pass secrets in `environment`.",
                ),
                Attribute::optional(
                    "script",
                    Kind::String,
                    "A script, run by the interpreter of its first line (`#!/bin/bash`), or by POSIX sh if it has none. Write `set -e` yourself. The text of the script is not visible in the process list.",
                ),
                Attribute::optional(
                    "environment",
                    Kind::map(Kind::String),
                    "Additional environment variables. May be sensitive. A change does not run the command again.",
                ),
                Attribute::optional(
                    "working_directory",
                    Kind::String,
                    "The working directory of the command: an absolute path. Default: the home of the user that moorfast logs in as.",
                ),
                Attribute::optional("creates", Kind::String, "An absolute path. If it exists, the command does not run."),
                Attribute::optional(
                    "unless",
                    Kind::Any,
                    "A check command: a list of arguments, or a line for sh. If it exits with status 0, the command does not run. It runs in every plan and must not change anything. It gets `environment` and cannot be sensitive.",
                ),
                Attribute::optional(
                    "only_if",
                    Kind::Any,
                    "A check command, in the form of `unless`. If it exits with a status other than 0, the command does not run.",
                ),
                Attribute::optional(
                    "rerun_when",
                    Kind::map(Kind::Any),
                    "Any values. The command runs again when one of them changes. They cannot be sensitive.",
                ),
                Attribute::optional(
                    "timeout",
                    Kind::Duration,
                    "How long the command may run. After that it is killed with every process that it started, also those in another session.",
                )
                .or("5m"),
                Attribute::optional(
                    "on_destroy",
                    Kind::list(Kind::String),
                    "The program and its arguments that a destroy runs, without `environment`. Default: a destroy does nothing.",
                ),
                Attribute::computed("exit_code", Kind::Integer, "The exit status of the last run."),
                Attribute::computed(
                    "stdout",
                    Kind::String,
                    "The standard output of the last run, up to 16 KiB. Not recorded if `environment` is sensitive.",
                ),
            ],
        );
        Declaration { name: "ssh_exec", target_kind: TargetKind::Node, schema }
    }

    fn validate(&self, attributes: &Attributes) -> Vec<Invalid> {
        let mut invalid: Vec<Invalid> =
            ["working_directory", "creates"].iter().filter_map(|name| absolute_path(attributes, name)).collect();
        if attributes.is_set("command") == attributes.is_set("script") {
            let message = match attributes.is_set("command") {
                true => "`command` and `script` cannot be combined",
                false => "missing required attribute: `command` or `script`",
            };
            invalid.push(Invalid {
                attribute: None,
                message: message.to_owned(),
                help: Some("write exactly one of `command` and `script`".to_owned()),
            });
        }
        let open = ["command", "script", "rerun_when", "on_destroy", "unless", "only_if"];
        invalid.extend(open.iter().filter_map(|name| not_sensitive(attributes, name, "pass secrets in environment")));
        if let Some((message, help)) = attributes.text("script").and_then(|script| UserScript::of(script).problem()) {
            invalid.push(Invalid::new("script", message).help(help));
        }
        for name in ["unless", "only_if"] {
            invalid.extend(attributes.get(name).and_then(|value| no_interpreter_line(value, name)));
        }
        for name in ["command", "on_destroy"] {
            if attributes.get(name).and_then(Value::as_list).is_some_and(<[Value]>::is_empty) {
                let message = format!("{name} is an empty list");
                invalid.push(Invalid::new(name, message));
            }
        }
        for name in attributes.get("environment").and_then(Value::as_map).into_iter().flat_map(|m| m.keys()) {
            let fits = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
                && !name.starts_with(|c: char| c.is_ascii_digit());
            if !fits || name.is_empty() {
                let message = format!("`{name}` is not a valid name of an environment variable");
                invalid.push(Invalid::new("environment", message));
            }
        }
        invalid
    }

    fn identity(&self, attributes: &Attributes) -> Option<String> {
        if let Some(name) = attributes.text("name") {
            return Some(format!("exec:{name}"));
        }
        let made_of: Vec<&Value> =
            ["command", "script", "creates"].iter().filter_map(|name| attributes.get(name)).collect();
        if made_of.iter().any(|value| value.is_unknown()) {
            return None;
        }
        let digest = blake3::hash(format!("{made_of:?}").as_bytes()).to_hex();
        Some(format!("exec:{} ({})", summary(attributes), &digest[..8]))
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

    fn command_of_read(&self, attributes: &Attributes) -> Option<&'static str> {
        ["unless", "only_if"].into_iter().find(|name| attributes.is_set(name))
    }

    fn questions(&self, subject: &Subject, _: &Answer) -> Vec<Question> {
        subject.text("creates").map(|path| Topic::Path.of(path)).into_iter().collect()
    }

    fn read_script(&self, subject: &Subject) -> String {
        let mut body = String::new();
        for name in ["unless", "only_if"] {
            if let Some(command) = subject.attributes.get(name).and_then(command_line) {
                let environment = environment(&subject.attributes);
                body.push_str(&format!(
                    "if ( {environment}{command}\n) 3<&- 4>&- >/dev/null 2>&1; then field {name} yes; fi\n"
                ));
            }
        }
        body.push_str("field read yes");
        body
    }

    fn observe(&self, subject: &Subject, answer: &Answer) -> Result<Option<Observed>, ProviderError> {
        let has = |name: &str| subject.attributes.is_set(name);
        let idle = has("only_if") && !answer.own.is("only_if");
        let ran = answer.own.field("exit_code").is_some();
        let done = match has("creates") || has("unless") {
            true => {
                subject.text("creates").is_some_and(|path| answer.node.status(path).is_some())
                    || answer.own.is("unless")
            }
            false => subject.recorded.is_some() && !subject.incomplete,
        };
        if !(idle || done || ran) {
            return Ok(None);
        }
        let mut attributes = Attributes::new();
        if let Some(code) = answer.own.field("exit_code").and_then(|c| c.parse::<i64>().ok()) {
            attributes.insert("exit_code".to_owned(), Value::from(code));
        }
        let hides = subject.attributes.get("environment").is_some_and(Value::is_sensitive);
        if let Some(stdout) = answer.own.text("stdout").filter(|_| !hides) {
            attributes.insert("stdout".to_owned(), Value::from(stdout));
        }
        Ok(Some(Observed { attributes, private: serde_json::Value::Null }))
    }

    fn plan(&self, request: &PlanRequest, _: &Sources) -> Result<Proposal, ProviderError> {
        let mut planned = request.desired.clone();
        if request.observed.is_some() {
            planned.retain(|name, _| !ONLY_DURING_RUN.contains(&name.as_str()));
        }
        let mut proposal = propose(self, request, planned);
        let Some(observed) = &request.observed else { return Ok(proposal) };
        let changed: Vec<&str> = RERUN_ATTRIBUTES
            .iter()
            .copied()
            .filter(|name| proposal.planned.get(name).is_some_and(|v| observed.attributes.get(name) != Some(v)))
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

    fn apply_script(&self, operation: &Operation, subject: &Subject, _: &Sources) -> Result<ShellTask, ProviderError> {
        let attributes = &subject.attributes;
        if matches!(operation.action, OperationAction::Delete) {
            let command = attributes.texts("on_destroy");
            if command.is_empty() {
                return Ok(ShellTask::quick(":"));
            }
            return Ok(ShellTask::long(run(attributes, "", &exec(&command))));
        }
        let before = operation.observed.as_ref().map(|o| &o.attributes);
        let again = RERUN_ATTRIBUTES.iter().any(|name| before.is_none_or(|b| b.get(name) != attributes.get(name)));
        if !again && operation.triggers.is_empty() {
            return Ok(ShellTask::quick(before.map(report_previous).unwrap_or_default()));
        }
        let body = match attributes.text("script").map(UserScript::of) {
            Some(script) => run(attributes, &script.check(), &script.command()),
            None => run(attributes, "", &exec(&attributes.texts("command"))),
        };
        Ok(ShellTask {
            limit: Some(duration::of(attributes, "timeout").unwrap_or(Duration::from_secs(300))),
            secrets: Redaction::of(attributes.get("environment")),
            ..ShellTask::long(body)
        })
    }
}

/// Returns a recognizable beginning of the command: its first words, or the first line of the script that does something.
fn summary(attributes: &Attributes) -> String {
    const LIMIT: usize = 40;
    let does_something = |line: &&str| !line.is_empty() && !line.starts_with('#') && !line.starts_with("set ");
    let line = match attributes.text("script") {
        Some(script) => script.lines().map(str::trim).find(does_something).unwrap_or("script").to_owned(),
        None => attributes.texts("command").join(" "),
    };
    let line = line.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(LIMIT) {
        Some((end, _)) => format!("{}…", line[..end].trim_end()),
        None => line,
    }
}

/// Returns shell that reports the result of the last run again.
fn report_previous(before: &Attributes) -> String {
    let code = before.get("exit_code").and_then(Value::as_i64).unwrap_or_default();
    let stdout = before.text("stdout").map(|t| format!("printf %s {} | blob stdout", quote(t))).unwrap_or_default();
    format!("field exit_code {code}\n{stdout}")
}

fn exec(command: &[String]) -> String {
    format!("exec {}", quote_all(command.iter().map(String::as_str)))
}

/// Returns shell for a check command: a list of arguments, or a line for sh.
fn command_line(value: &Value) -> Option<String> {
    match (value.as_str(), value.as_list()) {
        (Some(line), _) => Some(script::user_command(line)),
        (None, Some(words)) => {
            let words: Option<Vec<&str>> = words.iter().map(Value::as_str).collect();
            words.filter(|w| !w.is_empty()).map(quote_all)
        }
        (None, None) => None,
    }
}

/// Returns shell that sets the environment and the working directory of a subshell.
fn environment(attributes: &Attributes) -> String {
    let mut body = String::new();
    for (name, value) in attributes.get("environment").and_then(Value::as_map).into_iter().flatten() {
        if let Some(value) = value.as_str() {
            body.push_str(&format!("export {name}={}\n", quote(value)));
        }
    }
    if let Some(directory) = attributes.text("working_directory") {
        body.push_str(&format!("cd -- {}\n", quote(directory)));
    }
    body
}

/// Shell that copies its stdin to `$F/stdout`: the first 16 KiB, and the end of the rest to `$F/tail`. It reads until the last
/// writer has ended, so that a background process can go on printing.
const KEEP_STDOUT: &str = r#"{ dd bs=1 count=16384 of="$F/stdout" status=none; tail -c 4096 > "$F/tail"; : > "$F/read.1"; } 2>/dev/null 3<&- 4>&-"#;

/// The same for stderr: passes on at most the first 32 KiB and the last 16 KiB, to the stderr of the script.
const KEEP_STDERR: &str =
    r#"{ dd bs=4096 count=8 status=none; tail -c 16384; : > "$F/read.2"; } 2>/dev/null 3<&- 4>&-"#;

const WAIT_FOR_OUTPUT: &str = include_str!("exec/wait_for_output.sh");

/// Shell that prints the last lines of stdout, without an incomplete first line.
const LAST_LINES: &str =
    r#"if [ -s "$F/tail" ]; then echo '…'; tail -n +2 -- "$F/tail" | tail -n 20; else tail -n 20 -- "$F/stdout"; fi"#;

/// Returns shell that runs `check`, then `command` with bounded output, in a private folder `$F`.
fn run(attributes: &Attributes, check: &str, command: &str) -> String {
    format!(
        "{check}F=$(mktemp -u -- \"${{TMPDIR:-/tmp}}/.moorfast-XXXXXXXX\")
trap 'rm -rf -- \"$F\"' EXIT
trap 'exit 143' TERM HUP INT
mkdir -m 0700 -- \"$F\"
mkfifo -- \"$F/1\" \"$F/2\"
{KEEP_STDOUT} < \"$F/1\" &
{KEEP_STDERR} < \"$F/2\" &
set +e
( set -e
{environment}{command}
) 3<&- 4>&- > \"$F/1\" 2> \"$F/2\"
C=$?
set -e
{WAIT_FOR_OUTPUT}
if [ \"$C\" != 0 ]; then
  {{ {LAST_LINES}; }} | blob detail
  fail failed \"exit status $C\"
fi
field exit_code \"$C\"
blob stdout < \"$F/stdout\"",
        environment = environment(attributes),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_runs_by_its_first_line_as_the_kernel_reads_it() {
        let cases = [
            ("echo x", None),
            ("# !/bin/bash\necho x", None),
            (" #!/bin/bash\necho x", None),
            ("#!/bin/bash\necho x", Some(("/bin/bash", ""))),
            ("#!/bin/bash", Some(("/bin/bash", ""))),
            ("#! /bin/sh -eu \nx", Some(("/bin/sh", "-eu"))),
            ("#!/usr/bin/env -S python3 -u\nx", Some(("/usr/bin/env", "-S python3 -u"))),
            ("#!\t/usr/bin/awk\t-f\nx", Some(("/usr/bin/awk", "-f"))),
        ];
        for (text, expected) in cases {
            let found = match UserScript::of(text) {
                UserScript::Sh(_) => None,
                UserScript::Interpreted { interpreter, argument, .. } => Some((interpreter, argument)),
            };
            assert_eq!(found, expected, "{text:?}");
            assert_eq!(UserScript::of(text).problem(), None, "{text:?}");
        }
        for text in ["#!\nx", "#!bash\nx", "#!/bin/bash\r\necho x\r\n"] {
            assert!(UserScript::of(text).problem().is_some(), "{text:?}");
        }
    }
}
