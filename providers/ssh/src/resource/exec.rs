//! `ssh_exec`: a command, for what no other resource type does.

use std::time::Duration;

use moorfast_engine::model::{Attribute, Attributes, Kind, Schema, Value, named};
use moorfast_engine::provider::{
    Invalid, Observed, Operation, OperationAction, PlanRequest, Proposal, ProposedAction, ProviderError, ResourceType,
    TargetKind,
};

use super::{Resource, Step, absolute, no_interpreter, propose, public, text, texts, written};
use crate::duration;
use crate::script::{self, Section, print_bytes, quote, quote_all};
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
                    "A script, run by the interpreter that its first line names (`#!/bin/bash`), or else by POSIX sh; `set -e` is up to it. It is in no process's arguments.",
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
                    "How long it may run; then it and everything that it started is killed, also in another session.",
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
        ResourceType { name: "ssh_exec", target_kind: TargetKind::Node, schema }
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
        if let Some((message, help)) = text(attributes, "script").and_then(|script| Script::of(script).objection()) {
            invalid.push(Invalid { attribute: Some("script"), message, help: Some(help.to_owned()) });
        }
        for name in ["unless", "only_if"] {
            invalid.extend(attributes.get(name).and_then(|value| no_interpreter(value, name)));
        }
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

    fn look_runs(&self, attributes: &Attributes) -> Option<&'static str> {
        ["unless", "only_if"].into_iter().find(|name| written(attributes, name))
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
            return Ok(Step::long(run(attributes, "", &exec(&command))));
        }
        let before = operation.observed.as_ref().map(|o| &o.attributes);
        let again = REASONS.iter().any(|name| before.is_none_or(|b| b.get(*name) != attributes.get(*name)));
        if !again && operation.triggers.is_empty() {
            return Ok(Step::quick(before.map(keep).unwrap_or_default()));
        }
        let body = match text(attributes, "script").map(Script::of) {
            Some(script) => run(attributes, &script.check(), &script.command()),
            None => run(attributes, "", &exec(&texts(attributes, "command"))),
        };
        Ok(Step {
            limit: Some(duration::of(attributes, "timeout").unwrap_or(Duration::from_secs(300))),
            secrets: Secrets::of(attributes.get("environment")),
            ..Step::long(body)
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

/// What a script that a person wrote runs: the interpreter of its `#!` line, or sh.
enum Script<'a> {
    Sh(&'a str),
    Interpreted { text: &'a str, interpreter: &'a str, argument: &'a str },
}

impl<'a> Script<'a> {
    /// Reads the first line of `text` as the kernel does: an interpreter and at most one argument.
    fn of(text: &'a str) -> Self {
        let Some(line) =
            text.strip_prefix("#!").map(|rest| rest.split('\n').next().unwrap_or_default().trim_matches([' ', '\t']))
        else {
            return Script::Sh(text);
        };
        let (interpreter, argument) = line.split_once([' ', '\t']).unwrap_or((line, ""));
        Script::Interpreted { text, interpreter, argument: argument.trim_start_matches([' ', '\t']) }
    }

    /// Returns why the `#!` line cannot work on any node, and what to write instead.
    fn objection(&self) -> Option<(String, &'static str)> {
        match self {
            Script::Interpreted { text, .. }
                if text.lines().count() > 0 && text.split('\n').next().is_some_and(|line| line.ends_with('\r')) =>
            {
                Some((
                    "the first line of the script ends with a carriage return".to_owned(),
                    "save the script with Unix line endings",
                ))
            }
            Script::Interpreted { interpreter, .. } if !interpreter.starts_with('/') => Some((
                format!("`#!{interpreter}` names no interpreter by an absolute path"),
                "write `#!/bin/bash`, or `#!/usr/bin/env python3`; without a `#!` line, sh runs the script",
            )),
            _ => None,
        }
    }

    /// Shell that runs the script, in `$F`, where its text is kept from the arguments of processes.
    fn command(&self) -> String {
        match self {
            Script::Sh(text) => script::written(text),
            Script::Interpreted { text, interpreter, argument } => {
                let words = [*interpreter, *argument].into_iter().filter(|word| !word.is_empty());
                format!("{} > \"$F/script\"\n{} \"$F/script\"", print_bytes(text.as_bytes()), quote_all(words))
            }
        }
    }

    /// Shell that fails if the interpreter does not exist.
    fn check(&self) -> String {
        match self {
            Script::Sh(_) => String::new(),
            Script::Interpreted { interpreter, .. } => format!(
                "[ -x {0} ] || {{ printf %s 'install it first (ssh_package), or correct the first line of the script' | blob help; fail invalid {1}; }}\n",
                quote(interpreter),
                quote(&format!("the interpreter {interpreter} of the script does not exist there"))
            ),
        }
    }
}

/// Shell that copies what comes on its stdin to `$F/stdout`: the first 16 KiB; the end of what follows goes to `$F/tail`. It reads on until the last
/// process that can write has ended, so that a program that stays in the background can go on printing.
const KEEP_STDOUT: &str = r#"{ dd bs=1 count=16384 of="$F/stdout" status=none; tail -c 4096 > "$F/tail"; : > "$F/heard.1"; } 2>/dev/null 3<&- 4>&-"#;

/// As [`KEEP_STDOUT`], of what is printed on stderr: passes on at most the first 32 KiB and the last 16 KiB, which go where the script's own messages go.
const KEEP_STDERR: &str =
    r#"{ dd bs=4096 count=8 status=none; tail -c 16384; : > "$F/heard.2"; } 2>/dev/null 3<&- 4>&-"#;

/// Waits until all output is heard, which takes no longer than a moment unless a program in the background keeps it open.
const HEAR: &str = r#"for D in 0.01 0.02 0.05 0.1 0.2 0.5 1; do
  if [ -e "$F/heard.1" ] && [ -e "$F/heard.2" ]; then break; fi
  sleep "$D"
done"#;

/// The last lines of stdout, without the first one where it is not whole.
const LAST_LINES: &str =
    r#"if [ -s "$F/tail" ]; then echo '…'; tail -n +2 -- "$F/tail" | tail -n 20; else tail -n 20 -- "$F/stdout"; fi"#;

/// Runs `command` with bounded output, in a folder `$F` of its own. `check` comes first.
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
{surroundings}{command}
) 3<&- 4>&- > \"$F/1\" 2> \"$F/2\"
C=$?
set -e
{HEAR}
if [ \"$C\" != 0 ]; then
  {{ {LAST_LINES}; }} | blob detail
  fail failed \"it ended with status $C\"
fi
field exit_code \"$C\"
blob stdout < \"$F/stdout\"",
        surroundings = surroundings(attributes),
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
            let found = match Script::of(text) {
                Script::Sh(_) => None,
                Script::Interpreted { interpreter, argument, .. } => Some((interpreter, argument)),
            };
            assert_eq!(found, expected, "{text:?}");
            assert_eq!(Script::of(text).objection(), None, "{text:?}");
        }
        for text in ["#!\nx", "#!bash\nx", "#!/bin/bash\r\necho x\r\n"] {
            assert!(Script::of(text).objection().is_some(), "{text:?}");
        }
    }
}
