//! Plan files: a plan in an envelope whose digest tells whether it is whole and as it was written.
//!
//! ```json
//! { "moorfast_plan": 1, "digest": "blake3:…", "signature": "-----BEGIN SSH SIGNATURE-----…", "plan": { … } }
//! ```
//!
//! The digest is over the canonical JSON (sorted keys, no spaces) of `plan`; the signature, where there is one, over the digest's text.
//! `docs/plan-file.md` describes the format.

use std::io;
use std::path::{Path, PathBuf};

use moorfast_engine::plan::{PLAN_FORMAT, Plan};
use moorfast_engine::state::{Digest, bounded, canonical};
use serde_json::{Value as Json, json};

use crate::atomic;
use crate::signature::{SignKey, SignatureError, TrustedKeys};

/// The key by which a plan file is known, with the version of its format.
const MARK: &str = "moorfast_plan";

/// Why a plan file can't be used.
#[derive(Debug, thiserror::Error)]
pub enum PlanFileError {
    /// It can't be read or written.
    #[error("cannot {doing} the plan {}: {source}", .path.display())]
    Io {
        /// `read` or `write`.
        doing: &'static str,
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It is not a plan.
    #[error("{} is not a plan of moorfast", .path.display())]
    NotAPlan {
        /// Which file.
        path: PathBuf,
    },
    /// It ends too early or is no JSON.
    #[error("the plan {} is damaged: {detail}", .path.display())]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// What does not fit.
        detail: String,
    },
    /// It is not what was written.
    #[error("the plan {} was changed after it was made: its digest does not fit", .path.display())]
    Tampered {
        /// Which file.
        path: PathBuf,
    },
    /// A newer moorfast wrote it.
    #[error("the plan {} has the format {found}, written by a newer moorfast; this one knows formats up to {PLAN_FORMAT}", .path.display())]
    Newer {
        /// Which file.
        path: PathBuf,
        /// Its format.
        found: u64,
    },
    /// It can't be signed, or its signature does not count.
    #[error("{}: {source}", .path.display())]
    Signature {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: SignatureError,
    },
}

/// A plan as its file holds it: whole, of a known format, and as it was written.
#[derive(Debug)]
pub struct SavedPlan {
    /// The plan.
    pub plan: Plan,
    path: PathBuf,
    digest: Digest,
    signature: Option<String>,
}

impl SavedPlan {
    /// Checks the signature, and tells who made it.
    ///
    /// # Errors
    /// If there is none, or it does not count.
    pub fn verify(&self, trusted: &TrustedKeys) -> Result<String, PlanFileError> {
        let signer = trusted.verify(self.digest.as_str(), self.signature.as_deref());
        signer.map_err(|source| PlanFileError::Signature { path: self.path.clone(), source })
    }
}

/// Writes `plan` to `path`, signed with `key` where there is one; readable by its owner only, whole or not at all.
///
/// # Errors
/// If it can't be signed, or the file can't be written.
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
    let mut envelope = json!({ MARK: PLAN_FORMAT, "digest": digest });
    if let Some(signature) = signature {
        envelope["signature"] = json!(signature);
    }
    envelope["plan"] = plan;
    envelope
}

/// Reads the plan in `path`.
///
/// # Errors
/// If it is no plan, not whole, not as it was written, or of a newer format.
pub fn read(path: &Path) -> Result<SavedPlan, PlanFileError> {
    let text = bounded::read(path, bounded::DATA).map_err(|source| PlanFileError::Io {
        doing: "read",
        path: path.to_owned(),
        source,
    })?;
    parse(path, &text)
}

/// The plan that `text` is; `path` is where it was found.
fn parse(path: &Path, text: &[u8]) -> Result<SavedPlan, PlanFileError> {
    let path_buf = || path.to_owned();
    let looks_like_one = || text.windows(MARK.len()).take(64).any(|part| part == MARK.as_bytes());
    let envelope: Json = match serde_json::from_slice(text) {
        Ok(envelope) => envelope,
        Err(error) if looks_like_one() => {
            return Err(PlanFileError::Damaged { path: path_buf(), detail: error.to_string() });
        }
        Err(_) => return Err(PlanFileError::NotAPlan { path: path_buf() }),
    };
    let found =
        envelope.get(MARK).and_then(Json::as_u64).ok_or_else(|| PlanFileError::NotAPlan { path: path_buf() })?;
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
    Digest::of(canonical(plan).as_bytes())
}

/// Takes bytes for a plan file, and for a plan that somebody put into a file with its digest. What can be read is shown in every form.
#[cfg(fuzzing)]
pub fn fuzz(bytes: &[u8]) {
    use crate::render::{Room, html, json, markdown, plan};

    let path = Path::new("a.plan");
    let enclosed = |plan: Json| envelope(&digest(&plan), None, plan).to_string();
    let mut found = vec![parse(path, bytes)];
    if let Ok(plan) = serde_json::from_slice(bytes) {
        found.push(parse(path, enclosed(plan).as_bytes()));
    }
    for SavedPlan { plan, .. } in found.into_iter().flatten() {
        plan::plan(&plan, Room { width: 40, full: false });
        json::plan(&plan);
        markdown::plan(&plan, markdown::FEWEST);
        html::plan(&plan);
        let again = serde_json::to_value(&plan).ok().and_then(|plan| parse(path, enclosed(plan).as_bytes()).ok());
        assert!(again.is_some_and(|again| again.plan == plan), "what is written is what is read");
    }
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
    fn a_plan_reads_back_as_it_was_written_and_only_for_its_owner() {
        let (_folder, path) = written();
        assert_eq!(read(&path).unwrap().plan, samples::updates());
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn what_is_not_as_it_was_written_is_refused() {
        let (_folder, path) = written();
        let text = fs::read_to_string(&path).unwrap();
        let cases = [
            (text.replace("\"0600\"", "\"0666\""), "was changed after it was made"),
            (text[..text.len() / 2].to_owned(), "is damaged"),
            (text.replace("\"moorfast_plan\": 1", "\"moorfast_plan\": 99"), "written by a newer moorfast"),
            ("{}".to_owned(), "is not a plan"),
            ("[resource]".to_owned(), "is not a plan"),
            (String::new(), "is not a plan"),
        ];
        for (text, message) in cases {
            fs::write(&path, text).unwrap();
            let error = read(&path).unwrap_err().to_string();
            assert!(error.contains(message), "{error}");
        }
    }
}
