//! Error messages.

use moorfast_engine::manifest::Manifest;
use moorfast_engine::model::{Diagnostic, ErrorCode, Severity, Sources};
use moorfast_engine::session::Failure;
use moorfast_engine::state::StateError;

use super::diagnostic::{coded_message, count, diagnostics, message, provider_error, provider_errors};
use super::text::Text;
use crate::error::Error;
use crate::error_codes;
use crate::plan_file::PlanFileError;
use crate::signature::SignatureError;

/// The message of an error without a place in the manifest.
pub struct Message {
    /// The code, if the error has a page.
    pub code: Option<ErrorCode>,
    /// The failed action and the reason, on one line.
    pub summary: String,
    /// Additional lines.
    pub detail: Vec<String>,
    /// The remedy.
    pub help: Option<String>,
}

impl Message {
    fn new(summary: impl Into<String>, help: Option<&str>) -> Self {
        Self { code: None, summary: summary.into(), detail: Vec::new(), help: help.map(str::to_owned) }
    }

    fn code(self, code: Option<ErrorCode>) -> Self {
        Self { code, ..self }
    }

    fn text(&self) -> Text {
        coded_message(self.code, &self.summary, &self.detail, self.help.as_deref())
    }
}

/// Renders an error for standard error, with a reference to the pages of its codes.
pub fn error(error: &Error) -> Text {
    without_reference(error) + reference(&codes(error))
}

fn without_reference(error: &Error) -> Text {
    match error {
        Error::Manifest { sources, diagnostics } => manifest_errors(sources, diagnostics),
        Error::Run { failure, manifest } => self::failure(failure, manifest),
        Error::Provider(error) => provider_error(None, error, &[]),
        Error::Interrupted => format!("{error}.").into(),
        other => other_message(other).text(),
    }
}

/// Returns the message of an error that is neither about the manifest nor from a provider.
pub fn other_message(error: &Error) -> Message {
    match error {
        Error::State(error) => state_message(error),
        Error::PlanFile(error) => plan_file(error),
        Error::Key(error) => Message::new(error.to_string(), signature(error)),
        Error::Usage { help, code, .. } => Message::new(error.to_string(), help.as_deref()).code(*code),
        Error::Provider(error) => Message::new(&error.summary, error.help.as_deref()).code(error.code),
        other => Message::new(other.to_string(), None),
    }
}

/// Renders the errors of a manifest, with their number if all have a place in it.
fn manifest_errors(sources: &Sources, found: &[Diagnostic]) -> Text {
    let mut errors = found.iter().filter(|d| d.severity == Severity::Error).peekable();
    // An error without a place is about an option or a file of variables.
    let in_manifest = errors.peek().is_some() && errors.all(|error| error.at.is_some());
    let closing =
        count(found).filter(|_| in_manifest).map(|count| message(&format!("{count} in the manifest"), &[], None));
    Text::separated([diagnostics(sources, found), closing.unwrap_or_default()])
}

fn failure(failure: &Failure, manifest: &Manifest) -> Text {
    match failure {
        Failure::Manifest(found) => manifest_errors(&manifest.sources, found),
        Failure::Providers(errors) => {
            let closing = match errors.len() {
                1 => "1 object could not be read or planned; nothing was changed".to_owned(),
                n => format!("{n} objects could not be read or planned; nothing was changed"),
            };
            Text::separated([provider_errors(Some(manifest), errors), message(&closing, &[], None)])
        }
        Failure::Provider(name, error) => {
            let closing = message(&format!("cannot use the provider `{name}`"), &[], None);
            Text::separated([provider_error(Some(manifest), error, &[]), closing])
        }
        Failure::State(error) => state(error),
        Failure::Stale(lines) => stale(lines).text(),
        Failure::Interrupted => format!("{}.", Error::Interrupted).into(),
    }
}

/// Returns the codes of an error, each once.
fn codes(error: &Error) -> Vec<ErrorCode> {
    let of_diagnostics = |found: &[Diagnostic]| found.iter().filter_map(|diagnostic| diagnostic.code).collect();
    let mut codes: Vec<ErrorCode> = match error {
        Error::Manifest { diagnostics, .. } => of_diagnostics(diagnostics),
        Error::Provider(error) => error.code.into_iter().collect(),
        Error::Run { failure, .. } => match &**failure {
            Failure::Manifest(found) => of_diagnostics(found),
            Failure::Providers(errors) => errors.iter().filter_map(|(_, error)| error.code).collect(),
            Failure::Provider(_, error) => error.code.into_iter().collect(),
            Failure::State(error) => state_message(error).code.into_iter().collect(),
            Failure::Stale(lines) => stale(lines).code.into_iter().collect(),
            Failure::Interrupted => Vec::new(),
        },
        other => other_message(other).code.into_iter().collect(),
    };
    codes.sort_by_key(|code| code.as_str());
    codes.dedup();
    codes
}

/// Returns a reference to the pages of codes.
fn reference(codes: &[ErrorCode]) -> Text {
    match codes {
        [] => Text::default(),
        [code] => format!("\n`moorfast explain {code}` explains this error.\n").into(),
        several => {
            let names: Vec<_> = several.iter().map(|code| code.as_str()).collect();
            format!("\n`moorfast explain CODE` explains these errors: {}.\n", names.join(", ")).into()
        }
    }
}

/// Returns the message of a stale saved plan.
pub fn stale(lines: &[String]) -> Message {
    let help = "run `moorfast plan` again and review the differences";
    let message = Message::new("the saved plan is stale; nothing was changed", Some(help));
    Message { detail: lines.to_vec(), ..message.code(Some(error_codes::STALE_PLAN)) }
}

/// Renders an error of the state.
pub fn state(error: &StateError) -> Text {
    state_message(error).text()
}

/// Returns the message of an error of the state.
pub fn state_message(error: &StateError) -> Message {
    uncoded_state_message(error).code(match error {
        StateError::Locked(_) => Some(error_codes::STATE_LOCKED),
        StateError::Corrupt { .. } => Some(error_codes::STATE_DAMAGED),
        StateError::KeyMissing { .. } => Some(error_codes::STATE_KEY_MISSING),
        StateError::Unreachable { .. } => Some(error_codes::STATE_UNREACHABLE),
        _ => None,
    })
}

fn uncoded_state_message(error: &StateError) -> Message {
    let help = match error {
        StateError::Locked(info) => {
            let held = vec![
                format!("{} by {} on {} (pid {})", info.operation, info.who, info.host, info.pid),
                format!("since {:.0}; expires at {:.0} unless it is renewed", info.since, info.expires),
            ];
            let help = format!(
                "use --lock-timeout 5m to wait for it; if that run no longer exists, run `moorfast state unlock {}`",
                info.id
            );
            return Message {
                detail: held,
                ..Message::new("cannot lock the state: another run holds the lock", Some(&help))
            };
        }
        StateError::LockLost { .. } => {
            "check `moorfast state history`, then plan again; operations that finished before are recorded"
        }
        StateError::DiskFull { .. } => {
            "free disk space and run the same command again; it resolves operations that were not recorded"
        }
        StateError::Newer { .. } => "use the moorfast that wrote it, or a newer one",
        StateError::NoRecord { .. } => "`moorfast state list` lists all addresses",
        StateError::Corrupt { .. } => {
            "`moorfast state restore FILE` restores a backup; without a backup, move the state away and run `moorfast apply`, which adopts existing objects"
        }
        StateError::Unreachable { .. } => {
            "check the connection to the backend and run the same command again; it resolves operations that were not recorded"
        }
        StateError::Io { source, .. } if source.kind() == std::io::ErrorKind::PermissionDenied => READER,
        StateError::ReadOnly { .. } => READER,
        StateError::Refused { .. } => "docs/state.md lists the permissions that the backend needs",
        StateError::OtherLineage { .. } => {
            "compare both with `moorfast state list`; `--force` replaces the existing state, which is kept as a backup"
        }
        StateError::OlderSerial { .. } => {
            "run `moorfast state pull` again and repeat the change; `--force` replaces the state with the older one"
        }
        _ => return Message::new(error.to_string(), None),
    };
    Message::new(error.to_string(), Some(help))
}

/// The remedy for a user without permission to write the state.
const READER: &str = "`drift` and `plan --lock=false` only need permission to read the state; docs/state.md lists the permissions that the backend needs";

fn plan_file(error: &PlanFileError) -> Message {
    let help = match error {
        PlanFileError::Tampered { .. } | PlanFileError::Damaged { .. } => {
            Some("create the plan again with `moorfast plan --out FILE`")
        }
        PlanFileError::NotAPlan { .. } => Some("create a plan with `moorfast plan --out FILE`"),
        PlanFileError::Newer { .. } => Some("apply the plan with the moorfast that created it"),
        PlanFileError::Signature { source, .. } => signature(source),
        PlanFileError::Io { .. } => None,
    };
    let is_untrusted = matches!(error, PlanFileError::Signature { source, .. } if is_untrusted(source));
    Message::new(error.to_string(), help).code(is_untrusted.then_some(error_codes::UNTRUSTED_PLAN))
}

/// Whether the plan is not signed, or not by a trusted key.
fn is_untrusted(error: &SignatureError) -> bool {
    matches!(error, SignatureError::Unsigned | SignatureError::Untrusted { .. } | SignatureError::Mismatch { .. })
}

fn signature(error: &SignatureError) -> Option<&'static str> {
    Some(match error {
        SignatureError::NotAKey { .. } => {
            "`ssh-keygen -t ed25519 -f FILE` creates a key pair: sign with FILE, trust FILE.pub"
        }
        SignatureError::Passphrase { .. } => "set it in the environment of `moorfast plan`",
        SignatureError::NoKeys { .. } => "use a file with one public key per line, or a folder of *.pub files",
        SignatureError::Unsigned => "create a signed plan with `moorfast plan --out FILE --sign-key KEY`",
        SignatureError::Untrusted { .. } => "do not apply the plan before you know the owner of the key",
        SignatureError::Mismatch { .. } | SignatureError::Damaged(_) => {
            "do not apply the plan: it may have been tampered with; plan again"
        }
        SignatureError::Io { .. } => return None,
    })
}
