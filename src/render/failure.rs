//! Why a command failed, for people.

use moorfast_engine::state::StateError;
use moorfast_engine::{Failure, Manifest, Severity};

use super::diagnostic::{count, diagnostics, message, provider_error, provider_errors};
use crate::error::Error;
use crate::plan_file::PlanFileError;
use crate::signature::SignatureError;

/// The text of an error, for standard error.
pub fn error(error: &Error, width: usize) -> String {
    match error {
        Error::Manifest { sources, diagnostics: found } => {
            diagnostics(sources, found, width) + &manifest_closing(found, width)
        }
        Error::Run { failure, manifest } => self::failure(failure, manifest, width),
        Error::State(error) => state(error, width),
        Error::PlanFile(error) => plan_file(error, width),
        Error::Key(error) => message(&error.to_string(), &[], signature(error), width),
        Error::Provider(error) => provider_error(None, error, &[], width) + "\n",
        Error::File { doing, path, source } => {
            message(&format!("cannot {doing} {}: {source}", path.display()), &[], None, width)
        }
        Error::Usage { message: text, help } => message(text, &[], help.as_deref(), width),
        Error::Output(source) => message(&format!("cannot write the output: {source}"), &[], None, width),
        Error::Interrupted => "Interrupted; nothing was done.\n".to_owned(),
    }
}

fn manifest_closing(found: &[moorfast_engine::Diagnostic], width: usize) -> String {
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
        Failure::Stale(lines) => message(
            "the plan does not fit any more; nothing was done",
            lines,
            Some("plan again and review what is different"),
            width,
        ),
        Failure::Interrupted => "Interrupted; nothing was done.\n".to_owned(),
    }
}

/// The text of an error of the state.
pub fn state(error: &StateError, width: usize) -> String {
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
            return message("another run holds the lock of the state", &held, Some(&help), width);
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
        _ => return message(&error.to_string(), &[], None, width),
    };
    message(&error.to_string(), &[], Some(help), width)
}

/// What helps a person who has no right to write the state.
const READER: &str = "with the right to read the state `drift` and `plan --lock=false` work; docs/state.md has the rights that the backend needs";

fn plan_file(error: &PlanFileError, width: usize) -> String {
    let help = match error {
        PlanFileError::Tampered { .. } | PlanFileError::Damaged { .. } => {
            Some("make it anew with `moorfast plan --out FILE`")
        }
        PlanFileError::NotAPlan { .. } => Some("`moorfast plan --out FILE` makes one"),
        PlanFileError::Newer { .. } => Some("apply it with the moorfast that made it"),
        PlanFileError::Signature { source, .. } => signature(source),
        PlanFileError::Io { .. } => None,
    };
    message(&error.to_string(), &[], help, width)
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
