//! The data source `local_command`: the output of a program.

use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use async_trait::async_trait;
use moorfast_engine::model::{Attribute, Attributes, Kind, ReadAttributes, Schema, Value};
use moorfast_engine::provider::{
    Class, Context, DataRequest, Declaration, Invalid, LocalAccess, ProviderError, TargetKind,
};
use moorfast_programs::{Kept, Limits, Output, RunError, command, run};

use crate::arguments::{check_timeout, resolved};
use crate::content::{self, Decoding, LIMIT};
use crate::data::Data;

/// The part of the error output that is kept, in bytes.
const STDERR_LIMIT: usize = 4 << 10;
/// The lines of the error output that a message contains.
const STDERR_LINES: usize = 20;

/// The data source `local_command`.
pub(crate) struct Command;

#[async_trait]
impl Data for Command {
    fn declaration(&self) -> Declaration {
        let doc = "The output of a program that runs on this machine, without a shell. It must be at most 16 MiB, and the exit code must be 0. \
            The program runs in every plan, so it must not change anything.\n\n\
            The program gets the environment of moorfast without `MOORFAST_VAR_*`. If it exceeds `timeout` or the size of the output, or the run is \
            interrupted, everything that it started is killed, except processes of other users.";
        let schema = Schema::new(
            doc,
            [
                Attribute::required(
                    "command",
                    Kind::list(Kind::String),
                    "Program and its arguments. The program is a name in `PATH` or a path. Must not be sensitive, because other users of this \
                     machine see the arguments of a process.",
                ),
                Attribute::optional("stdin", Kind::String, "Text for the standard input."),
                Attribute::optional(
                    "environment",
                    Kind::map(Kind::String),
                    "Environment variables, in addition to those of moorfast.",
                ),
                Attribute::optional(
                    "working_directory",
                    Kind::String,
                    "Folder in which the program runs. Default: the folder of the manifest, where a relative path starts.",
                ),
                Attribute::optional("timeout", Kind::Duration, "How long the program may run, at most `10m`.").or("30s"),
            ]
            .into_iter()
            .chain(content::arguments())
            .chain(content::results("stdout", "Content of the standard output.")),
        );
        Declaration { name: "local_command", target_kind: TargetKind::Provider, schema }
    }

    fn access(&self) -> LocalAccess {
        LocalAccess::Command
    }

    fn validate(&self, arguments: &Attributes) -> Vec<Invalid> {
        let command = arguments.get("command");
        let is_empty = command.and_then(Value::as_list).is_some_and(|words| match words.first() {
            Some(program) => program.as_str() == Some(""),
            None => true,
        });
        let empty = is_empty.then(|| Invalid::new("command", "`command` names no program"));
        let secret = command.is_some_and(Value::is_sensitive).then(|| {
            let help = "pass the value in `stdin` or `environment`";
            let message = "`command` is sensitive, but other users of this machine can see the arguments of a program";
            Invalid::new("command", message).help(help)
        });
        empty.into_iter().chain(secret).chain(check_timeout(arguments)).collect()
    }

    async fn read(&self, context: &Context, request: &DataRequest) -> Result<Attributes, ProviderError> {
        let arguments = &request.arguments;
        let decoding = Decoding::of(arguments);
        let words = arguments.texts("command");
        let (name, rest) = words.split_first().map_or(("", &[][..]), |(name, rest)| (name.as_str(), rest));
        let folder = match arguments.text("working_directory") {
            Some(folder) => resolved(&context.root, folder),
            None => context.root.clone(),
        };
        if !folder.is_dir() {
            let summary = format!("cannot run `{name}`: the folder {} does not exist", folder.display());
            return Err(ProviderError::new(Class::Invalid, summary).attribute("working_directory"));
        }
        // A relative path starts in the working directory, as in a shell.
        let path = folder.canonicalize().unwrap_or_else(|_| folder.clone()).join(name);
        let limit = arguments.duration("timeout").unwrap_or(Duration::from_secs(30));
        let time = request.timeout.map_or(limit, |timeout| timeout.min(limit));
        let limits = Limits { time, output: LIMIT, errors: Kept::End(STDERR_LIMIT) };
        let mut program = command(if name.contains('/') { path.to_str().unwrap_or(name) } else { name });
        program.args(rest).envs(arguments.text_map("environment")).current_dir(&folder);
        program.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let input = arguments.text("stdin").unwrap_or_default();
        let output = run(&mut program, input.as_bytes(), &limits).await;
        let output = output.map_err(|error| failed(name, &folder, time, error))?;
        if !output.status.success() {
            return Err(unsuccessful(name, &output, decoding));
        }
        decoding.decode(&format!("the output of `{name}`"), "stdout", output.stdout)
    }
}

/// Returns the error of a program without a result.
fn failed(name: &str, folder: &Path, limit: Duration, error: RunError) -> ProviderError {
    let command = |class, summary: String| ProviderError::new(class, summary).attribute("command");
    match error {
        RunError::NotStarted(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let place = if name.contains('/') { format!("in {}", folder.display()) } else { "in PATH".to_owned() };
            command(Class::Failed, format!("cannot run `{name}`: the program does not exist {place}"))
                .help("install it on the machine where moorfast runs")
        }
        RunError::NotStarted(error) => command(Class::Failed, format!("cannot run `{name}`: {error}")),
        RunError::Failed(error) => command(Class::Failed, format!("cannot read the output of `{name}`: {error}")),
        RunError::TimedOut => {
            let summary = format!("`{name}` did not end within {limit:?}, so it was killed");
            ProviderError::new(Class::Timeout, summary)
                .attribute("timeout")
                .help("check what the program waits for, or increase `timeout`")
        }
        RunError::TooMuchOutput => {
            command(Class::Failed, format!("`{name}` printed more than {} MiB, so it was killed", LIMIT >> 20))
        }
    }
}

/// Returns the error of a program that ended with a failure. A sensitive error output is not shown.
fn unsuccessful(name: &str, output: &Output, decoding: Decoding) -> ProviderError {
    let how = match (output.status.code(), output.status.signal()) {
        (Some(code), _) => format!("failed with exit code {code}"),
        (None, Some(signal)) => format!("was killed by signal {signal}"),
        (None, None) => "failed".to_owned(),
    };
    let error = ProviderError::new(Class::Failed, format!("`{name}` {how}")).attribute("command");
    if decoding.sensitive {
        return error.help("its error output is not shown because the data source is sensitive; run it by hand");
    }
    let stderr = String::from_utf8_lossy(&output.stderr);
    let lines: Vec<&str> = stderr.lines().filter(|line| !line.trim().is_empty()).collect();
    error.detail(lines.iter().skip(lines.len().saturating_sub(STDERR_LINES)).copied())
}
