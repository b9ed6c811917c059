//! Exec plugins: programs that print the credentials of a user.
//!
//! The arguments, environment and output of a plugin are never shown. A plugin that exceeds its time limit is killed with all its processes.

use std::collections::HashMap;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use jiff::Timestamp;
use kube::config::{ExecConfig, ExecInteractiveMode};
use moorfast_programs::{Kept, Limits, RunError};
use serde::Deserialize;
use serde_json::json;
use tokio::process::Command;

use crate::{Error, Kind};

/// The time limit of a plugin.
const TIME_LIMIT: Duration = Duration::from_secs(30);
/// The limit of the output in bytes.
const OUTPUT_LIMIT: usize = 1 << 20;
const VERSIONS: [&str; 2] = ["client.authentication.k8s.io/v1", "client.authentication.k8s.io/v1beta1"];

/// The credentials that a plugin returned.
#[derive(Clone, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Credentials {
    #[serde(default)]
    pub(crate) token: Option<String>,
    #[serde(default)]
    pub(crate) client_certificate_data: Option<String>,
    #[serde(default)]
    pub(crate) client_key_data: Option<String>,
    #[serde(default)]
    expiration_timestamp: Option<String>,
    #[serde(skip)]
    pub(crate) expires: Option<Timestamp>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ExecCredential {
    #[serde(default)]
    kind: String,
    #[serde(default)]
    api_version: String,
    #[serde(default)]
    status: Option<Credentials>,
}

/// Runs the plugin and returns the credentials that it prints.
///
/// # Errors
/// If the plugin fails, exceeds its time limit or prints something else.
pub(crate) async fn run(plugin: &ExecConfig) -> Result<Credentials, Error> {
    run_within(plugin, TIME_LIMIT).await
}

async fn run_within(plugin: &ExecConfig, limit: Duration) -> Result<Credentials, Error> {
    let name = name(plugin);
    let version = check(plugin, &name)?;
    let limits = Limits { time: limit, output: OUTPUT_LIMIT, errors: Kept::Start(0) };
    let output = moorfast_programs::run(&mut command(plugin, version), b"", &limits).await;
    let output = output.map_err(|error| no_output(plugin, &name, limit, error))?;
    let by_hand = "run the plugin by hand with the arguments and the environment of `users[].user.exec` in the kubeconfig; moorfast does not show its output";
    let status = output.status;
    if !status.success() {
        return Err(Error::login(format!("the exec plugin `{name}` of the kubeconfig failed: {status}")).help(by_hand));
    }
    credentials(&output.stdout, version)
        .map_err(|reason| Error::login(format!("the exec plugin `{name}` of the kubeconfig {reason}")).help(by_hand))
}

/// Returns the error of a plugin that was not started or did not end by itself.
fn no_output(plugin: &ExecConfig, name: &str, limit: Duration, error: RunError) -> Error {
    let failed = |reason: String| Error::login(format!("the exec plugin `{name}` of the kubeconfig failed: {reason}"));
    match error {
        RunError::NotStarted(error) => {
            let hint = plugin.install_hint.clone().filter(|hint| !hint.trim().is_empty());
            Error::login(format!("the exec plugin `{name}` of the kubeconfig cannot be started: {error}")).help(
                hint.unwrap_or_else(|| {
                    "install the plugin, or correct `command` in `users[].user.exec` of the kubeconfig".to_owned()
                }),
            )
        }
        RunError::TooMuchOutput => failed(format!("its output is larger than {} MiB", OUTPUT_LIMIT >> 20)),
        RunError::Failed(error) => failed(error.to_string()),
        RunError::TimedOut => {
            let summary =
                format!("the exec plugin `{name}` of the kubeconfig did not finish within {limit:?} and was killed");
            let help =
                "run the plugin by hand with the same arguments: it may wait for a login in a browser or a terminal";
            Error { kind: Kind::Timeout, ..Error::login(summary).help(help) }
        }
    }
}

/// Returns the name of the program without its path.
fn name(plugin: &ExecConfig) -> String {
    let command = plugin.command.as_deref().unwrap_or_default();
    Path::new(command).file_name().map_or_else(|| command.to_owned(), |name| name.to_string_lossy().into_owned())
}

/// Checks the plugin and returns its API version.
fn check<'a>(plugin: &'a ExecConfig, name: &str) -> Result<&'a str, Error> {
    if name.is_empty() {
        return Err(Error::unusable("the exec plugin of the kubeconfig has no `command`"));
    }
    if plugin.interactive_mode == Some(ExecInteractiveMode::Always) {
        let summary = format!(
            "the exec plugin `{name}` of the kubeconfig needs a terminal (`interactiveMode: Always`), which moorfast does not provide"
        );
        return Err(Error::login(summary).help("use a kubeconfig with credentials that need no terminal"));
    }
    let version = plugin.api_version.as_deref().unwrap_or_default();
    match VERSIONS.contains(&version) {
        true => Ok(version),
        false => {
            Err(Error::unusable(format!("the exec plugin `{name}` of the kubeconfig has an unsupported `apiVersion`"))
                .help(format!(
                    "set `apiVersion` to `{}`; update the plugin if it does not support that version",
                    VERSIONS[0]
                )))
        }
    }
}

fn command(plugin: &ExecConfig, version: &str) -> Command {
    let mut spec = json!({ "interactive": false });
    if let Some(cluster) = plugin.cluster.as_ref().filter(|_| plugin.provide_cluster_info) {
        spec["cluster"] = json!(cluster);
    }
    let info = json!({ "kind": "ExecCredential", "apiVersion": version, "spec": spec });
    let mut command = Command::new(plugin.command.as_deref().unwrap_or_default());
    let pair = |entry: &HashMap<String, String>| Some((entry.get("name")?.clone(), entry.get("value")?.clone()));
    command
        .args(plugin.args.iter().flatten())
        .envs(plugin.env.iter().flatten().filter_map(pair))
        .env("KUBERNETES_EXEC_INFO", info.to_string())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    command
}

fn credentials(printed: &[u8], version: &str) -> Result<Credentials, String> {
    let given: ExecCredential =
        serde_saphyr::from_slice(printed).map_err(|_| "printed something that is not an ExecCredential".to_owned())?;
    if given.kind != "ExecCredential" {
        return Err("printed something that is not an ExecCredential".to_owned());
    }
    if given.api_version != version {
        return Err(format!("printed an ExecCredential of another version than {version}"));
    }
    let mut status = given.status.ok_or("printed an ExecCredential without `status`")?;
    let is_empty = |text: &Option<String>| text.as_ref().is_none_or(|text| text.trim().is_empty());
    match (is_empty(&status.token), is_empty(&status.client_certificate_data), is_empty(&status.client_key_data)) {
        (true, true, true) => {
            return Err("printed an ExecCredential without a token and without a certificate".to_owned());
        }
        (_, true, false) | (_, false, true) => {
            return Err("printed a certificate without its key, or a key alone".to_owned());
        }
        _ => {}
    }
    let expires = status.expiration_timestamp.take().map(|time| time.parse());
    status.expires = expires.transpose().map_err(|_| "printed an `expirationTimestamp` that is not a time")?;
    status.token = status.token.filter(|token| !token.trim().is_empty());
    status.client_certificate_data = status.client_certificate_data.filter(|text| !text.trim().is_empty());
    Ok(status)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plugin(script: &str) -> ExecConfig {
        let env =
            HashMap::from([("name".to_owned(), "PASSWORD".to_owned()), ("value".to_owned(), "ENV-SECRET".to_owned())]);
        ExecConfig {
            api_version: Some(VERSIONS[0].to_owned()),
            command: Some("/bin/sh".to_owned()),
            args: Some(vec!["-c".to_owned(), script.to_owned()]),
            env: Some(vec![env]),
            ..ExecConfig::default()
        }
    }

    fn printing(credential: &str) -> ExecConfig {
        plugin(&format!("printf '%s' '{credential}'"))
    }

    async fn failure(plugin: &ExecConfig) -> Error {
        match run(plugin).await {
            Ok(_) => panic!("the plugin returned credentials"),
            Err(error) => error,
        }
    }

    #[tokio::test]
    async fn no_error_contains_the_output_or_environment_of_a_plugin() {
        let version = VERSIONS[0];
        let with = |status: &str| format!(r#"{{"kind":"ExecCredential","apiVersion":"{version}","status":{status}}}"#);
        let cases = [
            (plugin("printf TOKEN-IN-STDOUT; echo TOKEN-IN-STDERR >&2; exit 3"), "failed: exit status: 3"),
            (plugin("kill -9 $$"), "failed: signal: 9 (SIGKILL)"),
            (plugin("printf TOKEN-IN-STDOUT"), "printed something that is not an ExecCredential"),
            (plugin("exit 0"), "printed something that is not an ExecCredential"),
            (plugin("yes TOKEN-IN-STDOUT"), "failed: its output is larger than 1 MiB"),
            (printing(&with("null")), "printed an ExecCredential without `status`"),
            (printing(&with("{}")), "printed an ExecCredential without a token and without a certificate"),
            (printing(&with(r#"{"clientKeyData":"SECRET"}"#)), "printed a certificate without its key, or a key alone"),
            (
                printing(&with(r#"{"token":"SECRET","expirationTimestamp":"SECRET"}"#)),
                "printed an `expirationTimestamp` that is not a time",
            ),
            (
                printing(
                    r#"{"kind":"ExecCredential","apiVersion":"client.authentication.k8s.io/v1beta1","status":{"token":"SECRET"}}"#,
                ),
                "printed an ExecCredential of another version than client.authentication.k8s.io/v1",
            ),
        ];
        for (plugin, expected) in cases {
            let error = failure(&plugin).await;
            assert_eq!(error.summary, format!("the exec plugin `sh` of the kubeconfig {expected}"));
            let shown = format!("{error:?}");
            assert!(!shown.contains("SECRET") && !shown.contains("TOKEN"), "{shown}");
        }
    }

    #[tokio::test]
    async fn a_plugin_returns_credentials() {
        let script = r#"[ "$PASSWORD" = ENV-SECRET ] && echo "$KUBERNETES_EXEC_INFO" | grep -q '"interactive":false' &&
            echo '{"kind":"ExecCredential","apiVersion":"client.authentication.k8s.io/v1","status":{"token":"t","expirationTimestamp":"2030-01-01T00:00:00Z"}}'"#;
        let credentials = run(&plugin(script)).await.unwrap();
        assert_eq!(credentials.token.as_deref(), Some("t"));
        assert_eq!(credentials.expires, Some("2030-01-01T00:00:00Z".parse().unwrap()));
    }

    #[test]
    fn credentials_are_read_as_json_and_as_yaml() {
        let outputs = [
            "{\n\t\"kind\": \"ExecCredential\",\n\t\"apiVersion\": \"client.authentication.k8s.io\\/v1\",\n\t\"status\": {\n\t\t\"token\": \"\\ud83d\\ude00t\"\n\t}\n}\n",
            "kind: ExecCredential\napiVersion: client.authentication.k8s.io/v1\nstatus:\n  token: \u{1f600}t\n",
        ];
        for output in outputs {
            let read = credentials(output.as_bytes(), VERSIONS[0]);
            assert_eq!(read.ok().and_then(|read| read.token).as_deref(), Some("\u{1f600}t"), "{output}");
        }
    }

    #[tokio::test]
    async fn a_plugin_that_cannot_run_is_named() {
        let mut absent = ExecConfig { command: Some("/nonexistent/plugin".to_owned()), ..plugin("") };
        absent.install_hint = Some("brew install plugin".to_owned());
        let error = failure(&absent).await;
        assert!(
            error.summary.starts_with("the exec plugin `plugin` of the kubeconfig cannot be started: No such file"),
            "{error}"
        );
        assert_eq!(error.help.as_deref(), Some("brew install plugin"));
        let interactive = ExecConfig { interactive_mode: Some(ExecInteractiveMode::Always), ..plugin("") };
        assert!(failure(&interactive).await.summary.contains("needs a terminal"));
        let old = ExecConfig { api_version: Some("client.authentication.k8s.io/v1alpha1".to_owned()), ..plugin("") };
        assert!(failure(&old).await.summary.contains("`apiVersion`"));
    }

    #[tokio::test]
    async fn a_plugin_is_killed_with_all_its_processes() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("pids");
        // One child is in the session of the plugin, one in another session. Both outlive the shell.
        let script = format!(
            "sleep 1000 & echo $! >>{0}; setsid sh -c 'echo $$ >>{0}; exec sleep 1000' & sleep 1000",
            file.display()
        );
        let running = plugin(&script);
        let started = || std::fs::read_to_string(&file).unwrap_or_default().lines().count() == 2;
        // The time limit is reached when both children run.
        let limit = async {
            while !started() {
                tokio::task::yield_now().await;
            }
        };
        let limited = async {
            tokio::select! {
                _ = run_within(&running, TIME_LIMIT) => panic!("the plugin finished by itself"),
                () = limit => {}
            }
        };
        limited.await;
        for pid in std::fs::read_to_string(&file).unwrap().lines() {
            let state = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            let is_over =
                state.is_empty() || state.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with(['Z', 'X']));
            assert!(is_over, "{state}");
        }

        let error = run_within(&plugin("sleep 1000"), Duration::ZERO).await.err().unwrap();
        assert_eq!(error.kind, Kind::Timeout);
        assert_eq!(error.summary, "the exec plugin `sh` of the kubeconfig did not finish within 0ns and was killed");
    }
}
