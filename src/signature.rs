//! Signatures of plans: OpenSSH's own (SSHSIG), made with the keys that people have already.
//!
//! `ssh-keygen -Y verify -n moorfast-plan@v1` checks them too; `docs/plan-file.md` shows how.

use std::io;
use std::path::{Path, PathBuf};

use moorfast_engine::state::bounded;
use ssh_key::{HashAlg, LineEnding, PrivateKey, PublicKey, SshSig};

/// What these signatures are for: one made for anything else does not count, and these count for nothing else.
pub const NAMESPACE: &str = "moorfast-plan@v1";

/// The variable that holds the passphrase of a signing key.
pub const PASSPHRASE: &str = "MOORFAST_SIGN_KEY_PASSPHRASE";

/// Why something can't be signed, or a signature does not count.
#[derive(Debug, thiserror::Error)]
pub enum SignatureError {
    /// A key file can't be read.
    #[error("cannot read the key {}: {source}", .path.display())]
    Io {
        /// Which file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It is not a key of OpenSSH, or of a kind that can't sign here.
    #[error("{} is not an OpenSSH {what}: {detail}", .path.display())]
    NotAKey {
        /// Which file.
        path: PathBuf,
        /// `private key` or `public key`.
        what: &'static str,
        /// What does not fit.
        detail: String,
    },
    /// The passphrase of a private key is missing or wrong.
    #[error("the key {} has a passphrase, and {PASSPHRASE} {problem}", .path.display())]
    Passphrase {
        /// Which file.
        path: PathBuf,
        /// `is not set` or `does not open it`.
        problem: &'static str,
    },
    /// There are no keys to trust.
    #[error("{} holds no public key", .path.display())]
    NoKeys {
        /// Which file or folder.
        path: PathBuf,
    },
    /// There is no signature.
    #[error("the plan is not signed")]
    Unsigned,
    /// Something is there in the place of a signature that is none.
    #[error("the signature of the plan is damaged: {0}")]
    Damaged(String),
    /// It is signed by somebody who is not trusted.
    #[error("the plan is signed by {fingerprint}, which is not among the {trusted} trusted keys of {}", .path.display())]
    Untrusted {
        /// The fingerprint of the key.
        fingerprint: String,
        /// How many are trusted.
        trusted: usize,
        /// Where they are from.
        path: PathBuf,
    },
    /// It is the signature of another plan, or made for another purpose.
    #[error("the signature by {fingerprint} is not one of this plan")]
    Mismatch {
        /// The fingerprint of the key.
        fingerprint: String,
    },
}

/// A key that signs.
#[derive(Debug)]
pub struct SignKey {
    key: PrivateKey,
    path: PathBuf,
}

impl SignKey {
    /// The private key in `path`; `passphrase` opens it where it is encrypted.
    ///
    /// # Errors
    /// If it can't be read or opened.
    pub fn read(path: &Path, passphrase: Option<&str>) -> Result<Self, SignatureError> {
        let text = zeroize::Zeroizing::new(read(path)?);
        let key = PrivateKey::from_openssh(text.as_bytes()).map_err(not_a_key(path, "private key"))?;
        let problem = |problem| SignatureError::Passphrase { path: path.to_owned(), problem };
        let key = match passphrase {
            _ if !key.is_encrypted() => key,
            None => return Err(problem("is not set")),
            Some(passphrase) => key.decrypt(passphrase).map_err(|_| problem("does not open it"))?,
        };
        Ok(Self { key, path: path.to_owned() })
    }

    /// The signature of `text`, in PEM.
    ///
    /// # Errors
    /// If the key is of a kind that can't sign here.
    pub fn sign(&self, text: &str) -> Result<String, SignatureError> {
        let failed = not_a_key(&self.path, "ed25519 private key");
        let signature = self.key.sign(NAMESPACE, HashAlg::Sha512, text.as_bytes());
        signature.and_then(|s| s.to_pem(LineEnding::LF)).map_err(failed)
    }
}

/// The public keys whose signatures count.
#[derive(Debug)]
pub struct TrustedKeys {
    keys: Vec<PublicKey>,
    path: PathBuf,
}

impl TrustedKeys {
    /// The keys in a file, one a line, or those of all `*.pub` in a folder.
    ///
    /// # Errors
    /// If one can't be read, or there is none.
    pub fn read(path: &Path) -> Result<Self, SignatureError> {
        let mut keys = Vec::new();
        for file in key_files(path)? {
            let text = read(&file)?;
            let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
            for line in lines {
                keys.push(PublicKey::from_openssh(line).map_err(not_a_key(&file, "public key"))?);
            }
        }
        if keys.is_empty() {
            return Err(SignatureError::NoKeys { path: path.to_owned() });
        }
        Ok(Self { keys, path: path.to_owned() })
    }

    /// Checks `signature` (PEM) of `text`, and tells who made it: the key's fingerprint and comment.
    ///
    /// # Errors
    /// If there is none, it is of an untrusted key, or not of this text.
    pub fn verify(&self, text: &str, signature: Option<&str>) -> Result<String, SignatureError> {
        let pem = signature.ok_or(SignatureError::Unsigned)?;
        let signature = SshSig::from_pem(pem).map_err(|error| SignatureError::Damaged(error.to_string()))?;
        let fingerprint = signature.public_key().fingerprint(HashAlg::Sha256).to_string();
        let Some(key) = self.keys.iter().find(|key| key.key_data() == signature.public_key()) else {
            return Err(SignatureError::Untrusted { fingerprint, trusted: self.keys.len(), path: self.path.clone() });
        };
        if key.verify(NAMESPACE, text.as_bytes(), &signature).is_err() {
            return Err(SignatureError::Mismatch { fingerprint });
        }
        Ok(match key.comment() {
            "" => fingerprint,
            comment => format!("{fingerprint} ({comment})"),
        })
    }
}

fn key_files(path: &Path) -> Result<Vec<PathBuf>, SignatureError> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let entries = path.read_dir().map_err(|source| SignatureError::Io { path: path.to_owned(), source })?;
    let mut files: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    files.retain(|file| file.extension().is_some_and(|end| end == "pub"));
    files.sort();
    Ok(files)
}

fn read(path: &Path) -> Result<String, SignatureError> {
    bounded::read_text(path, bounded::TEXT).map_err(|source| SignatureError::Io { path: path.to_owned(), source })
}

fn not_a_key(path: &Path, what: &'static str) -> impl Fn(ssh_key::Error) -> SignatureError {
    let path = path.to_owned();
    move |error| SignatureError::NotAKey { path: path.clone(), what, detail: error.to_string() }
}
