//! Plan files: a plan in an envelope with a digest, which detects damage and tampering.
//!
//! ```json
//! { "moorfast_plan": 1, "digest": "blake3:…", "signature": "-----BEGIN SSH SIGNATURE-----…", "plan": { … } }
//! ```
//!
//! The digest covers the canonical JSON (sorted keys, no spaces) of `plan`. The optional signature covers the text of the digest.
//! `docs/plan-file.md` describes the format.

use std::io;
use std::path::{Path, PathBuf};

use moorfast_engine::plan::{PLAN_FORMAT, Plan};
use moorfast_engine::state::{Digest, bounded, canonical};
use serde_json::{Value as Json, json};

use crate::atomic;
use crate::signature::{SignKey, SignatureError, TrustedKeys};

/// The key that identifies a plan file. Its value is the version of the format.
const FORMAT_KEY: &str = "moorfast_plan";

/// An error of a plan file.
#[derive(Debug, thiserror::Error)]
pub enum PlanFileError {
    /// The file cannot be read or written.
    #[error("cannot {doing} the plan {}: {source}", .path.display())]
    Io {
        /// `read` or `write`.
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
    /// The file is not a plan.
    #[error("cannot read the plan {}: the file is not a moorfast plan", .path.display())]
    NotAPlan {
        /// The file.
        path: PathBuf,
    },
    /// The file is truncated or has invalid JSON.
    #[error("cannot read the plan {}: the file is damaged: {detail}", .path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The error of the parser.
        detail: String,
    },
    /// The digest does not match the plan.
    #[error("cannot read the plan {}: the file was modified after it was written (its digest does not match)", .path.display())]
    Tampered {
        /// The file.
        path: PathBuf,
    },
    /// A newer moorfast wrote the file.
    #[error("cannot read the plan {}: its format {found} is newer than the formats of this moorfast (up to {PLAN_FORMAT})", .path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: u64,
    },
    /// The plan cannot be signed, or its signature is not valid.
    #[error("{}: {source}", .path.display())]
    Signature {
        /// The file.
        path: PathBuf,
        /// The error of the signature.
        source: SignatureError,
    },
}

/// A plan from a file of a known format with a matching digest.
#[derive(Debug)]
pub struct SavedPlan {
    /// The plan.
    pub plan: Plan,
    path: PathBuf,
    digest: Digest,
    signature: Option<String>,
}

impl SavedPlan {
    /// Verifies the signature. Returns the name of the signer.
    ///
    /// # Errors
    /// If the plan is not signed, or its signature is not valid.
    pub fn verify(&self, trusted: &TrustedKeys) -> Result<String, PlanFileError> {
        let signer = trusted.verify(self.digest.as_str(), self.signature.as_deref());
        signer.map_err(|source| PlanFileError::Signature { path: self.path.clone(), source })
    }
}

/// Writes `plan` to `path` atomically, readable only by its owner, and signed if there is a `key`.
///
/// # Errors
/// If the plan cannot be signed, or the file cannot be written.
pub fn write(path: &Path, plan: &Plan, key: Option<&SignKey>) -> Result<(), PlanFileError> {
    let fail = |source| PlanFileError::Io { doing: "write", path: path.to_owned(), source };
    let plan = serde_json::to_value(plan).map_err(|error| fail(error.into()))?;
    let digest = digest(&plan);
    let signature = key.map(|key| key.sign(digest.as_str())).transpose();
    let signature = signature.map_err(|source| PlanFileError::Signature { path: path.to_owned(), source })?;
    let envelope = envelope(&digest, signature, plan);
    let mut text = serde_json::to_vec_pretty(&envelope).map_err(|error| fail(error.into()))?;
    text.push(b'\n');
    atomic::write(path, 0o600, &text).map_err(fail)
}

fn envelope(digest: &Digest, signature: Option<String>, plan: Json) -> Json {
    let mut envelope = json!({ FORMAT_KEY: PLAN_FORMAT, "digest": digest });
    if let Some(signature) = signature {
        envelope["signature"] = json!(signature);
    }
    envelope["plan"] = plan;
    envelope
}

/// Reads the plan in `path`.
///
/// # Errors
/// If the file is not a plan, is damaged, was modified, or has a newer format.
pub fn read(path: &Path) -> Result<SavedPlan, PlanFileError> {
    let text = bounded::read(path, bounded::DATA).map_err(|source| PlanFileError::Io {
        doing: "read",
        path: path.to_owned(),
        source,
    })?;
    parse(path, &text)
}

/// Parses a plan file. `path` is only for error messages.
///
/// # Errors
/// As [`read`].
pub fn parse(path: &Path, text: &[u8]) -> Result<SavedPlan, PlanFileError> {
    let path_buf = || path.to_owned();
    let has_format_key = || text.windows(FORMAT_KEY.len()).take(64).any(|part| part == FORMAT_KEY.as_bytes());
    let envelope: Json = match serde_json::from_slice(text) {
        Ok(envelope) => envelope,
        Err(error) if has_format_key() => {
            return Err(PlanFileError::Damaged { path: path_buf(), detail: error.to_string() });
        }
        Err(_) => return Err(PlanFileError::NotAPlan { path: path_buf() }),
    };
    let found =
        envelope.get(FORMAT_KEY).and_then(Json::as_u64).ok_or_else(|| PlanFileError::NotAPlan { path: path_buf() })?;
    if found > u64::from(PLAN_FORMAT) {
        return Err(PlanFileError::Newer { path: path_buf(), found });
    }
    let plan = envelope.get("plan").cloned().unwrap_or_default();
    let digest = digest(&plan);
    if envelope.get("digest").and_then(Json::as_str) != Some(digest.as_str()) {
        return Err(PlanFileError::Tampered { path: path_buf() });
    }
    let damaged = |error: serde_json::Error| PlanFileError::Damaged { path: path_buf(), detail: error.to_string() };
    let signature = envelope.get("signature").map(|pem| pem.as_str().unwrap_or_default().to_owned());
    Ok(SavedPlan { plan: serde_json::from_value(plan).map_err(damaged)?, path: path_buf(), digest, signature })
}

fn digest(plan: &Json) -> Digest {
    Digest::of(&canonical(plan))
}

/// Returns a plan file without a signature for `plan`, whether or not it is a valid plan.
#[cfg(fuzzing)]
pub fn enclosed(plan: Json) -> String {
    envelope(&digest(&plan), None, plan).to_string()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::render::samples;

    fn written() -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("plan");
        write(&path, &samples::updates(), None).unwrap();
        (folder, path)
    }

    #[test]
    fn a_written_plan_reads_back_and_is_readable_only_by_its_owner() {
        let (_folder, path) = written();
        assert_eq!(read(&path).unwrap().plan, samples::updates());
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn damaged_and_modified_files_are_refused() {
        let (_folder, path) = written();
        let text = fs::read_to_string(&path).unwrap();
        let cases = [
            (text.replace("\"0600\"", "\"0666\""), "was modified after it was written"),
            (text[..text.len() / 2].to_owned(), "is damaged"),
            (
                text.replace("\"moorfast_plan\": 1", "\"moorfast_plan\": 99"),
                "is newer than the formats of this moorfast",
            ),
            ("{}".to_owned(), "is not a moorfast plan"),
            ("[resource]".to_owned(), "is not a moorfast plan"),
            (String::new(), "is not a moorfast plan"),
        ];
        for (text, message) in cases {
            fs::write(&path, text).unwrap();
            let error = read(&path).unwrap_err().to_string();
            assert!(error.contains(message), "{error}");
        }
    }
}
