//! The key store: what must outlive every node, in one file beside the manifest.
//!
//! The file is read and written as a whole. A writer locks the folder of the file from its reading to its writing, so that two writers at once lose
//! nothing. A new file is on disk under another name before it is renamed, so that a crash leaves the old or the new one.

mod entry;
mod error;
mod sealing;

use std::collections::BTreeSet;
use std::fs::{self, DirBuilder, File, Permissions, TryLockError};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use age::{Identity, Recipient};
use moorfast_engine::expression::age_identities::AgeIdentities;
use moorfast_engine::provider::{Context, KeyStoreSettings, ProviderError};
use zeroize::Zeroizing;

pub(crate) use entry::{Entries, Entry};
pub(crate) use error::StoreError;

/// The maximum size of the file in bytes.
const SIZE: u64 = 64 << 20;
/// How long a writer waits for another one.
const LOCK_LIMIT: Duration = Duration::from_secs(30);
/// The file in the folder of a key store that is not encrypted.
const PLAIN_FILE: &str = "keys.json";

/// The key store of a run.
#[derive(Clone, Debug)]
pub(crate) struct KeyStore(Arc<Place>);

#[derive(Debug)]
enum Place {
    /// Nothing can be read: the manifest has no key store, or is not trusted.
    Closed {
        untrusted: bool,
    },
    Open(KeyStoreSettings),
}

impl KeyStore {
    /// Returns the key store that the manifest names. Nothing is read yet.
    pub(crate) fn of(context: &Context) -> Self {
        Self(Arc::new(match &context.key_store {
            Some(settings) if !context.untrusted => Place::Open(settings.clone()),
            _ => Place::Closed { untrusted: context.untrusted },
        }))
    }

    /// Returns the path that the manifest names.
    pub(crate) fn path(&self) -> PathBuf {
        self.settings().map_or_else(|_| error::no_path(), |settings| settings.file.clone())
    }

    /// Reads all entries. A key store that does not exist yet has none.
    ///
    /// # Errors
    /// If the key store cannot be read or decrypted.
    pub(crate) fn read(&self) -> Result<Entries, ProviderError> {
        self.read_entries().map_err(|error| error.of("read", &self.path()))
    }

    /// Changes the entries. They are on disk when this returns. Nothing is written if `change` fails.
    ///
    /// # Errors
    /// If `change` fails, or the key store cannot be read or written. Its contents are unchanged then.
    pub(crate) fn update<T>(
        &self,
        change: impl FnOnce(&mut Entries) -> Result<T, ProviderError>,
    ) -> Result<T, ProviderError> {
        let failed = |error: StoreError| error.of("write", &self.path());
        let _lock = self.lock().map_err(failed)?;
        let before = self.read()?;
        let mut entries = before.clone();
        let result = change(&mut entries)?;
        entries.recipients = self.recipients();
        if entries != before {
            self.write(&entries).map_err(failed)?;
        }
        Ok(result)
    }

    /// Returns the difference between the recipients of the manifest and those for which the key store is encrypted. `None` if there is none.
    ///
    /// # Errors
    /// If the key store cannot be read or decrypted.
    pub(crate) fn other_recipients(&self) -> Result<Option<String>, ProviderError> {
        let Some(wanted) = self.recipients() else { return Ok(None) };
        let known = self.read()?.recipients;
        if known.as_ref() == Some(&wanted) {
            return Ok(None);
        }
        let Some(known) = known else {
            return Ok(Some(
                "it is not encrypted, or a version of moorfast wrote it that did not note for whom".to_owned(),
            ));
        };
        let named = |verb: &str, recipients: Vec<&String>| {
            let names = recipients.iter().map(|name| name.as_str()).collect::<Vec<_>>().join(", ");
            (!names.is_empty()).then(|| format!("{verb} {names}"))
        };
        let added = named("adds", wanted.difference(&known).collect());
        let removed = named("removes", known.difference(&wanted).collect());
        Ok(Some(added.into_iter().chain(removed).collect::<Vec<_>>().join("; ")))
    }

    /// Encrypts the key store again, if it is not encrypted for the recipients of the manifest. A key store that this person cannot read stays as it is.
    ///
    /// # Errors
    /// If the key store cannot be written. Its contents are unchanged then.
    pub(crate) fn encrypt_again(&self) -> Result<(), ProviderError> {
        match self.other_recipients() {
            Ok(Some(_)) => self.update(|_| Ok(())),
            Ok(None) | Err(_) => Ok(()),
        }
    }

    /// Returns the recipients in the manifest. `None` if the key store is not encrypted.
    fn recipients(&self) -> Option<BTreeSet<String>> {
        let recipients = &self.settings().ok()?.recipients;
        (!recipients.is_empty()).then(|| recipients.iter().map(|recipient| recipient.trim().to_owned()).collect())
    }

    fn settings(&self) -> Result<&KeyStoreSettings, StoreError> {
        match &*self.0 {
            Place::Open(settings) => Ok(settings),
            Place::Closed { untrusted: true } => Err(StoreError::Untrusted),
            Place::Closed { untrusted: false } => Err(StoreError::NotConfigured),
        }
    }

    /// Returns the file with the entries.
    fn file(&self) -> Result<PathBuf, StoreError> {
        let KeyStoreSettings { file, recipients } = self.settings()?;
        match recipients.is_empty() {
            true if file.is_file() => Err(StoreError::File),
            true => Ok(file.join(PLAIN_FILE)),
            false if file.is_dir() => Err(StoreError::Folder),
            false => Ok(file.clone()),
        }
    }

    fn is_encrypted(&self) -> bool {
        self.settings().is_ok_and(|settings| !settings.recipients.is_empty())
    }

    fn read_entries(&self) -> Result<Entries, StoreError> {
        let file = self.file()?;
        let bytes = match File::open(&file) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Entries::none(self.recipients())),
            opened => contents(opened?)?,
        };
        if self.is_encrypted() && sealing::is_encrypted(&bytes) {
            return sealing::decode(&sealing::decrypt(&bytes, &identities()?)?);
        }
        // A file that was moved out of its folder is not encrypted until the next write.
        let mut entries = sealing::decode(&bytes)?;
        entries.recipients = None;
        let mode = fs::metadata(&file)?.permissions().mode() & 0o7777;
        if mode & 0o077 != 0 {
            return Err(StoreError::Permissions(mode));
        }
        Ok(entries)
    }

    fn write(&self, entries: &Entries) -> Result<(), StoreError> {
        let text = sealing::encode(entries)?;
        let bytes = match self.is_encrypted() {
            true => Zeroizing::new(self.encrypted(&text)?),
            false => text,
        };
        replace(&self.file()?, &bytes)?;
        Ok(())
    }

    /// Encrypts `text` for the recipients in the manifest. This person must be one of them.
    fn encrypted(&self, text: &[u8]) -> Result<Vec<u8>, StoreError> {
        let recipients = self.settings()?.recipients.iter().map(|text| sealing::recipient(text));
        let recipients: Vec<Box<dyn Recipient + Send>> = recipients.collect::<Result<_, _>>()?;
        let encrypted = sealing::encrypt(text, &recipients)?;
        match sealing::decrypt(&encrypted, &identities()?) {
            Ok(again) if *again == text => Ok(encrypted),
            Err(StoreError::NotForMe) => Err(StoreError::WouldLockOut),
            Err(error) => Err(error),
            Ok(_) => Err(StoreError::NotEncrypted),
        }
    }

    /// Returns the lock of writers. It is free when it is dropped, or when the process ends.
    fn lock(&self) -> Result<File, StoreError> {
        let file = self.file()?;
        let folder = parent(&file);
        if !folder.exists() {
            DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        }
        // The folder is locked, because the file itself is replaced.
        let lock = File::open(folder)?;
        let begun = Instant::now();
        loop {
            match lock.try_lock() {
                Ok(()) => return Ok(lock),
                Err(TryLockError::Error(error)) => return Err(error.into()),
                Err(TryLockError::WouldBlock) if begun.elapsed() > LOCK_LIMIT => {
                    return Err(StoreError::Locked(LOCK_LIMIT.as_secs()));
                }
                Err(TryLockError::WouldBlock) => thread::sleep(Duration::from_millis(5)),
            }
        }
    }
}

/// Returns the identities of this person.
fn identities() -> Result<Vec<Box<dyn Identity>>, StoreError> {
    match AgeIdentities::of_environment() {
        Ok(Some(found)) => Ok(found.identities),
        Ok(None) => Err(StoreError::NoIdentity),
        Err(reason) => Err(StoreError::Identity(reason)),
    }
}

fn contents(file: File) -> Result<Zeroizing<Vec<u8>>, StoreError> {
    let mut bytes = Zeroizing::new(Vec::new());
    io::Read::read_to_end(&mut io::Read::take(file, SIZE + 1), &mut bytes)?;
    if bytes.len() as u64 > SIZE { Err(StoreError::Damaged) } else { Ok(bytes) }
}

fn parent(file: &Path) -> &Path {
    file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Writes `bytes` to `file`, whole or not at all, and on disk when this returns.
fn replace(file: &Path, bytes: &[u8]) -> io::Result<()> {
    // A symbolic link stays, and the file that it names is replaced.
    let file = fs::canonicalize(file).unwrap_or_else(|_| file.to_owned());
    let folder = parent(&file);
    let only_me = Permissions::from_mode(0o600);
    let mut new = tempfile::Builder::new().prefix(".moorfast-").permissions(only_me).tempfile_in(folder)?;
    new.write_all(bytes)?;
    new.as_file().sync_all()?;
    new.persist(&file).map_err(|error| error.error)?;
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests;
