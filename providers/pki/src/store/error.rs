//! The errors of the key store.

use std::io;
use std::path::{Path, PathBuf};

use moorfast_engine::expression::age_identities::AGE_IDENTITY;
use moorfast_engine::provider::{Class, ProviderError};

use super::PLAIN_FILE;
use crate::error_codes;

/// The key store cannot be read or written. No error contains any of its contents.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StoreError {
    #[error("the manifest has no key store")]
    NotConfigured,
    #[error("`plan --untrusted` does not open the key store")]
    Untrusted,
    #[error("`{0}` is not an age recipient")]
    Recipient(String),
    #[error("{0}")]
    Identity(String),
    #[error("no identity decrypts it: {AGE_IDENTITY} is not set")]
    NoIdentity,
    #[error("it is not encrypted for the identity of {AGE_IDENTITY}")]
    NotForMe,
    #[error("it would not be encrypted for the identity of {AGE_IDENTITY}")]
    WouldLockOut,
    #[error("it is damaged")]
    Damaged,
    #[error("it cannot be encrypted")]
    NotEncrypted,
    #[error("others can read it: its permissions are {0:04o}")]
    Permissions(u32),
    #[error("it is a folder with a key store that is not encrypted, but [keystore] has `recipients`")]
    Folder,
    #[error("it is a file, but [keystore] has no `recipients`, so that it must be a folder")]
    File,
    #[error("another run has been writing it for {0} seconds")]
    Locked(u64),
    #[error("{0}")]
    Io(#[from] io::Error),
}

impl StoreError {
    /// Returns the error of an access to the key store at `path`.
    pub(crate) fn of(self, verb: &str, path: &Path) -> ProviderError {
        let class = match &self {
            Self::NotForMe | Self::NoIdentity | Self::Identity(_) | Self::Untrusted => Class::Denied,
            Self::NotConfigured
            | Self::Recipient(_)
            | Self::WouldLockOut
            | Self::Permissions(_)
            | Self::Folder
            | Self::File => Class::Invalid,
            Self::Locked(_) => Class::Timeout,
            _ => Class::Failed,
        };
        let help = self.help(path);
        let code =
            matches!(self, Self::NoIdentity | Self::NotForMe | Self::Identity(_)).then_some(error_codes::NO_IDENTITY);
        let summary = match self {
            Self::NotConfigured | Self::Untrusted | Self::Recipient(_) => self.to_string(),
            _ => format!("cannot {verb} the key store {}: {self}", path.display()),
        };
        let error = ProviderError { code, ..ProviderError::new(class, summary) };
        match help {
            Some(help) => error.help(help),
            None => error,
        }
    }

    fn help(&self, path: &Path) -> Option<String> {
        let help = match self {
            Self::Folder | Self::File => return Some(self.migration(path)),
            Self::NotConfigured => "add [keystore] with file = \"keys.age\" and recipients = [\"age1…\"]",
            Self::Untrusted => "review the manifest first; then plan without --untrusted",
            Self::Recipient(_) => "write the public key that `age-keygen` prints (age1…), or an ssh-ed25519 key",
            Self::NoIdentity | Self::Identity(_) => {
                "set MOORFAST_AGE_IDENTITY to the path of a file with age identities, or of an OpenSSH private key"
            }
            Self::NotForMe => "somebody who can decrypt it adds your public key to `recipients` and applies",
            Self::WouldLockOut => "add your own public key to `recipients`",
            Self::Damaged => "restore the file from a backup; nothing was changed",
            Self::Permissions(_) => "chmod go= it, and consider its keys known to those who could read it",
            Self::Locked(_) => "wait for the other run, or end it",
            Self::NotEncrypted | Self::Io(_) => return None,
        };
        Some(help.to_owned())
    }

    /// Returns the commands that make a key store with recipients of one without, or the other way round.
    fn migration(&self, path: &Path) -> String {
        let quoted = |path: String| format!("'{}'", path.replace('\'', "'\\''"));
        let (now, before) = (quoted(path.display().to_string()), quoted(format!("{}.before", path.display())));
        match self {
            Self::Folder => format!(
                "run `mv {now} {before} && mv {before}/{PLAIN_FILE} {now} && rmdir {before}`; the next apply encrypts it"
            ),
            _ => format!(
                "keep `recipients`, or run `mv {now} {before} && mkdir -m 700 {now} && (umask 077; age --decrypt --identity \"${AGE_IDENTITY}\" \
                 --output {now}/{PLAIN_FILE} {before}) && rm {before}`"
            ),
        }
    }
}

/// The path of a key store that is not configured.
pub(super) fn no_path() -> PathBuf {
    PathBuf::new()
}
