//! The program that renders a chart or a kustomization, with its arguments.

use std::path::{Path, PathBuf};
use std::time::Duration;

use moorfast_engine::model::{Attributes, ReadAttributes, Value};
use moorfast_engine::provider::{Class, ProviderError};

use super::program::{find, run};
use super::result::Rendered;

/// The time limit of a rendering if `timeouts.read` is not set.
pub(super) const TIME_LIMIT: Duration = Duration::from_secs(60);
/// How many lines of a program's message are shown.
const MESSAGE_LINES: usize = 20;

/// A program with the arguments for one chart or kustomization.
pub(super) struct Renderer<'a> {
    /// The program and its subcommand in messages: `helm template`.
    command: String,
    program: PathBuf,
    arguments: Vec<String>,
    /// The attribute that names the chart or the kustomization.
    attribute: &'static str,
    /// The path as the manifest writes it.
    path: &'a str,
    /// The folder of the manifest.
    root: &'a Path,
    namespace: Option<&'a str>,
    limit: Duration,
}

/// A rendering that failed.
pub(super) struct Failure {
    /// The error without the words of the program.
    error: ProviderError,
    /// The words of the program, which may contain values.
    message: Vec<String>,
}

impl Failure {
    /// Returns the error with the words of the program.
    pub(super) fn error(self) -> ProviderError {
        self.error.detail(self.message)
    }

    /// Returns the error without the words of the program, which may quote a sensitive value or something derived from it.
    pub(super) fn without_message(self) -> ProviderError {
        self.error.help(
            "the message of the program is not shown, because it may contain a sensitive value of `values`; run it by hand to see it",
        )
    }
}

impl<'a> Renderer<'a> {
    /// Returns the renderer of the arguments, with the program that PATH has for it.
    ///
    /// # Errors
    /// If the chart or folder does not exist, or the program is not installed.
    pub(super) fn of(arguments: &'a Attributes, root: &'a Path, limit: Duration) -> Result<Self, ProviderError> {
        let attribute = if arguments.text("chart").is_some() { "chart" } else { "kustomization" };
        let path = arguments.text(attribute).unwrap_or_default();
        let place = root.join(path);
        if !(place.is_dir() || attribute == "chart" && place.is_file()) {
            let summary = format!("cannot render the {attribute} `{path}`: there is no such folder");
            return Err(ProviderError::new(Class::Failed, summary)
                .attribute(attribute)
                .help("the path is relative to the folder of the manifest; charts and bases are not fetched"));
        }
        let search_path = std::env::var_os("PATH").unwrap_or_default();
        let missing = |programs: &str, help: &str| {
            let summary = format!("cannot render the {attribute} `{path}`: {programs} in PATH");
            ProviderError::new(Class::Failed, summary).attribute(attribute).help(help)
        };
        let (name, program, written) = if attribute == "chart" {
            let program = find("helm", &search_path).ok_or_else(|| {
                missing("there is no program `helm`", "install Helm 3 or later on the machine that runs moorfast")
            })?;
            ("helm template", program, helm_arguments(arguments, path))
        } else {
            let installed = ["kustomize", "kubectl"].map(|name| find(name, &search_path));
            let folder = relative(path);
            match installed {
                [Some(program), _] => ("kustomize build", program, vec!["build".to_owned(), "--".to_owned(), folder]),
                [None, Some(program)] => {
                    ("kubectl kustomize", program, vec!["kustomize".to_owned(), "--".to_owned(), folder])
                }
                [None, None] => {
                    return Err(missing(
                        "there is neither `kustomize` nor `kubectl`",
                        "install kustomize on the machine that runs moorfast",
                    ));
                }
            }
        };
        let namespace = arguments.text("namespace");
        Ok(Self { command: name.to_owned(), program, arguments: written, attribute, path, root, namespace, limit })
    }

    /// Renders with these values, which the program reads from its standard input.
    ///
    /// # Errors
    /// If the program fails, exceeds a limit, or prints something else than Kubernetes objects.
    pub(super) async fn render(&self, values: &Value) -> Result<Rendered, Failure> {
        let mut arguments = self.arguments.clone();
        let values = values.to_json().filter(|json| !json.is_null());
        if values.is_some() {
            arguments.insert(1, "--values=-".to_owned());
        }
        let stdin = values.map(|json| json.to_string()).unwrap_or_default();
        let output = run(&self.program, &arguments, self.root, stdin.as_bytes(), self.limit).await;
        let output = output.map_err(|error| self.failure(&error, Vec::new()))?;
        if !output.status.success() {
            let mut message = output.message;
            if message.len() > MESSAGE_LINES {
                message.truncate(MESSAGE_LINES);
                message.push("…".to_owned());
            }
            return Err(self.failure(&format!("failed: {}", output.status), message));
        }
        let reason = match String::from_utf8(output.stdout) {
            Ok(text) => match Rendered::of(&text, self.namespace) {
                Ok(rendered) => return Ok(rendered),
                Err(reason) => reason,
            },
            Err(_) => "the output is not UTF-8 text".to_owned(),
        };
        Err(self.failure("printed something that cannot be used", vec![reason]))
    }

    fn failure(&self, reason: &str, message: Vec<String>) -> Failure {
        let summary = format!("cannot render the {} `{}`: `{}` {reason}", self.attribute, self.path, self.command);
        let error = ProviderError::new(Class::Failed, summary).attribute(self.attribute).help(
            "the program has no network and an empty home folder: put everything that it needs into the folder of the manifest",
        );
        Failure { error, message }
    }
}

fn helm_arguments(arguments: &Attributes, chart: &str) -> Vec<String> {
    let mut written = vec!["template".to_owned()];
    let crds = if arguments.flag("include_crds") { "--include-crds" } else { "--skip-crds" };
    written.push(crds.to_owned());
    written.extend(arguments.text("namespace").map(|namespace| format!("--namespace={namespace}")));
    written.extend(arguments.text("kube_version").map(|version| format!("--kube-version={version}")));
    written.extend(arguments.texts("api_versions").iter().map(|version| format!("--api-versions={version}")));
    // Helm reads the option as a line of CSV, and a path without `./` as a URL if it looks like one.
    let quoted = |path: &String| format!("--values=\"{}\"", relative(path).replace('"', "\"\""));
    written.extend(arguments.texts("value_files").iter().map(quoted));
    let release = arguments.text("release").unwrap_or_default();
    written.extend(["--".to_owned(), release.to_owned(), relative(chart)]);
    written
}

/// Returns the path so that no program reads it as an option or as the name of something remote.
fn relative(path: &str) -> String {
    Path::new(".").join(path).to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn nothing_of_the_manifest_is_an_option_of_helm() {
        let arguments = Value::from(json!({
            "release": "--post-renderer=/bin/sh",
            "namespace": "web",
            "include_crds": true,
            "value_files": ["https://example.com/v.yaml", "a,\"b\".yaml"],
            "api_versions": ["a/v1"],
        }));
        let arguments = helm_arguments(arguments.as_map().unwrap(), "--chart");
        let expected = [
            "template",
            "--include-crds",
            "--namespace=web",
            "--api-versions=a/v1",
            "--values=\"./https://example.com/v.yaml\"",
            "--values=\"./a,\"\"b\"\".yaml\"",
            "--",
            "--post-renderer=/bin/sh",
            "./--chart",
        ];
        assert_eq!(arguments, expected);
    }
}
