//! Signatures of plans in the format of OpenSSH (SSHSIG).
//!
//! `ssh-keygen -Y verify -n moorfast-plan@v1` verifies them too; see `docs/plan-file.md`.

use std::io;
use std::path::{Path, PathBuf};

use moorfast_engine::state::bounded;
use ssh_key::{HashAlg, LineEnding, PrivateKey, PublicKey, SshSig};

/// The namespace of the signatures. A signature is valid only in its own namespace.
pub const NAMESPACE: &str = "moorfast-plan@v1";

/// The environment variable with the passphrase of the signing key.
pub const PASSPHRASE: &str = "MOORFAST_SIGN_KEY_PASSPHRASE";

/// An error of signing or verifying a plan.
#[derive(Debug, thiserror::Error)]
pub enum SignatureError {
    /// A key file cannot be read.
    #[error("cannot read the key {}: {source}", .path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
    /// The file is not an OpenSSH key, or its key type is not supported.
    #[error("{} is not an OpenSSH {expected}: {detail}", .path.display())]
    NotAKey {
        /// The file.
        path: PathBuf,
        /// `private key` or `public key`.
        expected: &'static str,
        /// The error of the parser.
        detail: String,
    },
    /// The passphrase of a private key is missing or wrong.
    #[error("cannot decrypt the key {}: {PASSPHRASE} {problem}", .path.display())]
    Passphrase {
        /// The file.
        path: PathBuf,
        /// `is not set` or `is wrong`.
        problem: &'static str,
    },
    /// The file or folder has no public key.
    #[error("{} has no public key", .path.display())]
    NoKeys {
        /// The file or folder.
        path: PathBuf,
    },
    /// The plan has no signature.
    #[error("the plan is not signed")]
    Unsigned,
    /// The signature cannot be parsed.
    #[error("the signature of the plan is damaged: {0}")]
    Damaged(String),
    /// An untrusted key signed the plan.
    #[error("the plan is signed by {fingerprint}, which is not among the {trusted} trusted keys of {}", .path.display())]
    Untrusted {
        /// The fingerprint of the key.
        fingerprint: String,
        /// The number of trusted keys.
        trusted: usize,
        /// The file or folder of the trusted keys.
        path: PathBuf,
    },
    /// The signature is for another plan or another namespace.
    #[error("the signature by {fingerprint} does not match this plan")]
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
    /// Reads the private key in `path`, and decrypts it with `passphrase` if it is encrypted.
    ///
    /// # Errors
    /// If the key cannot be read or decrypted.
    pub fn read(path: &Path, passphrase: Option<&str>) -> Result<Self, SignatureError> {
        let text = zeroize::Zeroizing::new(read(path)?);
        let key = PrivateKey::from_openssh(text.as_bytes()).map_err(not_a_key(path, "private key"))?;
        let problem = |problem| SignatureError::Passphrase { path: path.to_owned(), problem };
        let key = match passphrase {
            _ if !key.is_encrypted() => key,
            None => return Err(problem("is not set")),
            Some(passphrase) => key.decrypt(passphrase).map_err(|_| problem("is wrong"))?,
        };
        Ok(Self { key, path: path.to_owned() })
    }

    /// Returns the signature of `text`, in PEM.
    ///
    /// # Errors
    /// If the key type is not supported.
    pub fn sign(&self, text: &str) -> Result<String, SignatureError> {
        let failed = not_a_key(&self.path, "ed25519 private key");
        let signature = self.key.sign(NAMESPACE, HashAlg::Sha512, text.as_bytes());
        signature.and_then(|s| s.to_pem(LineEnding::LF)).map_err(failed)
    }
}

/// The public keys whose signatures are accepted.
#[derive(Debug)]
pub struct TrustedKeys {
    keys: Vec<PublicKey>,
    path: PathBuf,
}

impl TrustedKeys {
    /// Reads the keys of a file, one per line, or of all `*.pub` files in a folder.
    ///
    /// # Errors
    /// If a key cannot be read, or there is none.
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

    /// Verifies the `signature` (PEM) of `text`. Returns the fingerprint and the comment of its key.
    ///
    /// # Errors
    /// If there is no signature, its key is not trusted, or it does not match the text.
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

fn not_a_key(path: &Path, expected: &'static str) -> impl Fn(ssh_key::Error) -> SignatureError {
    let path = path.to_owned();
    move |error| SignatureError::NotAKey { path: path.clone(), expected, detail: error.to_string() }
}
