//! The age identities of the person who runs moorfast, with which `age_decrypt` and the key store are decrypted.

use std::path::{Path, PathBuf};

use age::{Identity, IdentityFile, ssh};
use moorfast_state::bounded;
use zeroize::Zeroizing;

/// The environment variable with the path of the file of identities.
pub const AGE_IDENTITY: &str = "MOORFAST_AGE_IDENTITY";
/// The maximum size of that file in bytes.
const SIZE: u64 = 1 << 20;
/// The beginning of a text that the program `age --armor` wrote.
pub(super) const ARMOR: &str = "-----BEGIN AGE ENCRYPTED FILE-----";
/// The beginning of an age file.
const HEADER: &str = "age-encryption.org/";

/// The identities in the file that `MOORFAST_AGE_IDENTITY` names.
pub struct AgeIdentities {
    /// The path of the file.
    pub file: PathBuf,
    /// The identities.
    pub identities: Vec<Box<dyn Identity>>,
}

impl AgeIdentities {
    /// Reads the identities. Returns `None` if `MOORFAST_AGE_IDENTITY` is not set.
    ///
    /// # Errors
    /// If the file cannot be read or used, with the reason.
    pub fn of_environment() -> Result<Option<Self>, String> {
        match std::env::var_os(AGE_IDENTITY).filter(|path| !path.is_empty()) {
            Some(path) => Self::read(Path::new(&path)).map(Some),
            None => Ok(None),
        }
    }

    /// Reads the identities in a file.
    fn read(path: &Path) -> Result<Self, String> {
        let file = format!("the identity file {} ({AGE_IDENTITY})", path.display());
        let text = bounded::read_text(path, SIZE).map(Zeroizing::new);
        let text = text.map_err(|error| format!("cannot read {file}: {error}"))?;
        let identities = identities(&text).map_err(|reason| format!("cannot use {file}: {reason}"))?;
        Ok(Self { file: path.to_owned(), identities })
    }
}

/// Returns the identities in the text of a file: lines of age, or an OpenSSH private key.
///
/// # Errors
/// The reason, which contains nothing of the text.
pub(super) fn identities(text: &str) -> Result<Vec<Box<dyn Identity>>, String> {
    let text = text.trim_start();
    if text.starts_with(ARMOR) || text.starts_with(HEADER) {
        return Err("it is encrypted with a passphrase: decrypt it to a file that only you can read".to_owned());
    }
    if text.starts_with("-----BEGIN") {
        let parsed = ssh::Identity::from_buffer(text.as_bytes(), None);
        let identity = parsed.map_err(|_| "it is not a complete OpenSSH private key".to_owned())?;
        let passphrase = "it is protected by a passphrase: use a copy without one that only you can read (`ssh-keygen -p`), or an age identity";
        return match identity {
            ssh::Identity::Unencrypted(_) => Ok(vec![Box::new(identity)]),
            ssh::Identity::Encrypted(_)
            | ssh::Identity::Unsupported(ssh::UnsupportedKey::EncryptedPem | ssh::UnsupportedKey::EncryptedSsh(_)) => {
                Err(passphrase.to_owned())
            }
            ssh::Identity::Unsupported(ssh::UnsupportedKey::Hardware(kind) | ssh::UnsupportedKey::Type(kind)) => {
                Err(format!("age cannot decrypt with a key of the type {kind}: use an ed25519 key"))
            }
        };
    }
    let file = IdentityFile::from_buffer(text.as_bytes()).map_err(|error| error.to_string())?;
    let identities = file.into_identities().map_err(|_| "its identities cannot be used".to_owned())?;
    match identities.is_empty() {
        true => Err("it contains no identity".to_owned()),
        false => Ok(identities.into_iter().map(|identity| identity as Box<dyn Identity>).collect()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unusable_identity_names_the_reason_and_shows_nothing() {
        let secret_line = "AGE-SECRET-KEY-1NOTREALLYAKEY";
        for (text, reason) in [
            (include_str!("tests/age/ssh_key_with_passphrase"), "protected by a passphrase"),
            (include_str!("tests/age/ssh_key_ecdsa"), "type ecdsa-sha2-nistp256"),
            ("-----BEGIN OPENSSH PRIVATE KEY-----\nb3Bl", "not a complete OpenSSH private key"),
            (include_str!("tests/age/encrypted"), "encrypted with a passphrase"),
            ("# only a comment\n", "contains no identity"),
            (secret_line, "non-identity data on line 1"),
        ] {
            let error = identities(text).err().unwrap();
            assert!(error.contains(reason) && !error.contains(secret_line), "{error}");
        }
    }
}
