//! Why a command failed, for people.

use moorfast_engine::manifest::Manifest;
use moorfast_engine::model::Severity;
use moorfast_engine::session::Failure;
use moorfast_engine::state::StateError;

use super::diagnostic::{count, diagnostics, message, provider_error, provider_errors};
use crate::error::Error;
use crate::plan_file::PlanFileError;
use crate::signature::SignatureError;

/// An error that is about no place in a manifest.
pub struct Message {
    /// What failed and why, on one line.
    pub summary: String,
    /// More lines.
    pub detail: Vec<String>,
    /// What to do.
    pub help: Option<String>,
}

impl Message {
    fn new(summary: impl Into<String>, help: Option<&str>) -> Self {
        Self { summary: summary.into(), detail: Vec::new(), help: help.map(str::to_owned) }
    }

    fn text(&self, width: usize) -> String {
        message(&self.summary, &self.detail, self.help.as_deref(), width)
    }
}

/// The text of an error, for standard error.
pub fn error(error: &Error, width: usize) -> String {
    match error {
        Error::Manifest { sources, diagnostics: found } => {
            diagnostics(sources, found, width) + &manifest_closing(found, width)
        }
        Error::Run { failure, manifest } => self::failure(failure, manifest, width),
        Error::Provider(error) => provider_error(None, error, &[], width) + "\n",
        Error::Interrupted => format!("{INTERRUPTED}.\n"),
        other => other_message(other).text(width),
    }
}

/// What is said of a run that was interrupted before anything was done.
pub const INTERRUPTED: &str = "Interrupted; nothing was done";

/// Returns the message of an error that is neither about a manifest nor of a provider.
pub fn other_message(error: &Error) -> Message {
    match error {
        Error::State(error) => state_message(error),
        Error::PlanFile(error) => plan_file(error),
        Error::Key(error) => Message::new(error.to_string(), signature(error)),
        Error::File { doing, path, source } => {
            Message::new(format!("cannot {doing} {}: {source}", path.display()), None)
        }
        Error::Usage { message, help } => Message::new(message, help.as_deref()),
        Error::Output(source) => Message::new(format!("cannot write the output: {source}"), None),
        Error::Manifest { .. } => Message::new("the manifest is wrong", None),
        Error::Provider(error) => Message::new(&error.summary, error.help.as_deref()),
        Error::Run { .. } | Error::Interrupted => Message::new(INTERRUPTED, None),
    }
}

fn manifest_closing(found: &[moorfast_engine::model::Diagnostic], width: usize) -> String {
    let errors = found.iter().any(|d| d.severity == Severity::Error);
    match count(found).filter(|_| errors) {
        Some(count) => format!("\n{}", message(&format!("{count} in the manifest"), &[], None, width)),
        None => String::new(),
    }
}

fn failure(failure: &Failure, manifest: &Manifest, width: usize) -> String {
    match failure {
        Failure::Manifest(found) => diagnostics(&manifest.sources, found, width) + &manifest_closing(found, width),
        Failure::Providers(errors) => {
            let closing = match errors.len() {
                1 => "no plan: 1 object could not be read or planned".to_owned(),
                n => format!("no plan: {n} objects could not be read or planned"),
            };
            format!("{}\n{}", provider_errors(Some(manifest), errors, width), message(&closing, &[], None, width))
        }
        Failure::Provider(name, error) => {
            format!(
                "{}\n\n{}",
                provider_error(Some(manifest), error, &[], width),
                message(&format!("the provider {name} can't be used"), &[], None, width)
            )
        }
        Failure::State(error) => state(error, width),
        Failure::Stale(lines) => stale(lines).text(width),
        Failure::Interrupted => format!("{INTERRUPTED}.\n"),
    }
}

/// The message of a saved plan that is stale.
pub fn stale(lines: &[String]) -> Message {
    let help = "plan again and review what is different";
    Message { detail: lines.to_vec(), ..Message::new("the plan does not fit any more; nothing was done", Some(help)) }
}

/// The text of an error of the state.
pub fn state(error: &StateError, width: usize) -> String {
    state_message(error).text(width)
}

/// The message of an error of the state.
pub fn state_message(error: &StateError) -> Message {
    let help = match error {
        StateError::Locked(info) => {
            let held = vec![
                format!("{} by {} on {} (pid {})", info.operation, info.who, info.host, info.pid),
                format!("since {:.0}; free at {:.0} unless it is renewed", info.since, info.expires),
            ];
            let help = format!(
                "wait for it with --lock-timeout 5m; if that run is surely dead: moorfast state unlock {}",
                info.id
            );
            return Message { detail: held, ..Message::new("another run holds the lock of the state", Some(&help)) };
        }
        StateError::LockLost { .. } => {
            "look at `moorfast state history`, then plan again; what was done before is recorded"
        }
        StateError::DiskFull { .. } => {
            "make room and run the same command again: it finds what was done and not recorded"
        }
        StateError::Newer { .. } => "use the moorfast that wrote it, or a newer one",
        StateError::NoRecord { .. } => "`moorfast state list` shows what there is",
        StateError::Corrupt { .. } => {
            "restore it from a backup; without one, move it away and `moorfast apply`: what is there already is adopted"
        }
        StateError::Unreachable { .. } => {
            "see that it can be reached from here, then run the same command again: it finds what was done and not recorded"
        }
        StateError::Io { source, .. } if source.kind() == std::io::ErrorKind::PermissionDenied => READER,
        StateError::ReadOnly { .. } => READER,
        StateError::Refused { .. } => "docs/state.md has the rights that the backend needs",
        StateError::OtherLineage { .. } => {
            "look at both with `moorfast state list`; `--force` puts the one in the place of the other, which is kept as a backup"
        }
        StateError::OlderSerial { .. } => "pull again and make the change there; `--force` goes back to the older one",
        _ => return Message::new(error.to_string(), None),
    };
    Message::new(error.to_string(), Some(help))
}

/// What helps a person who has no right to write the state.
const READER: &str = "with the right to read the state `drift` and `plan --lock=false` work; docs/state.md has the rights that the backend needs";

fn plan_file(error: &PlanFileError) -> Message {
    let help = match error {
        PlanFileError::Tampered { .. } | PlanFileError::Damaged { .. } => {
            Some("make it anew with `moorfast plan --out FILE`")
        }
        PlanFileError::NotAPlan { .. } => Some("`moorfast plan --out FILE` makes one"),
        PlanFileError::Newer { .. } => Some("apply it with the moorfast that made it"),
        PlanFileError::Signature { source, .. } => signature(source),
        PlanFileError::Io { .. } => None,
    };
    Message::new(error.to_string(), help)
}

fn signature(error: &SignatureError) -> Option<&'static str> {
    Some(match error {
        SignatureError::NotAKey { .. } => {
            "`ssh-keygen -t ed25519 -f FILE` makes a pair; FILE signs, FILE.pub is trusted"
        }
        SignatureError::Passphrase { .. } => "set it in the environment of `moorfast plan`",
        SignatureError::NoKeys { .. } => "give a file with one public key a line, or a folder of *.pub",
        SignatureError::Unsigned => "make it with `moorfast plan --out FILE --sign-key KEY`",
        SignatureError::Untrusted { .. } => "do not apply it before you know whose key that is",
        SignatureError::Mismatch { .. } | SignatureError::Damaged(_) => {
            "do not apply it: whoever wrote it had no key for it; plan again"
        }
        SignatureError::Io { .. } => return None,
    })
}
