//! The form of the key store on disk: JSON, encrypted with age.

use std::io::{Read, Write};
use std::iter;

use age::armor::{ArmoredReader, ArmoredWriter, Format};
use age::{DecryptError, Decryptor, Encryptor, Identity, Recipient};
use zeroize::Zeroizing;

use super::entry::Entries;
use super::error::StoreError;

/// Returns the recipient that a text of the manifest names.
pub(super) fn recipient(text: &str) -> Result<Box<dyn Recipient + Send>, StoreError> {
    let text = text.trim();
    if let Ok(recipient) = text.parse::<age::x25519::Recipient>() {
        return Ok(Box::new(recipient));
    }
    match text.parse::<age::ssh::Recipient>() {
        Ok(recipient) => Ok(Box::new(recipient)),
        Err(_) => Err(StoreError::Recipient(text.to_owned())),
    }
}

/// Returns `text`, encrypted for all `recipients`.
pub(super) fn encrypt(text: &[u8], recipients: &[Box<dyn Recipient + Send>]) -> Result<Vec<u8>, StoreError> {
    let failed = |_| StoreError::NotEncrypted;
    let all = recipients.iter().map(|recipient| &**recipient as &dyn Recipient);
    let encryptor = Encryptor::with_recipients(all).map_err(|_| StoreError::NotEncrypted)?;
    let mut encrypted = Vec::new();
    let armored = ArmoredWriter::wrap_output(&mut encrypted, Format::AsciiArmor).map_err(failed)?;
    let mut writer = encryptor.wrap_output(armored).map_err(failed)?;
    writer.write_all(text).map_err(failed)?;
    writer.finish().and_then(ArmoredWriter::finish).map_err(failed)?;
    Ok(encrypted)
}

/// Whether a text is encrypted with age.
pub(super) fn is_encrypted(text: &[u8]) -> bool {
    let text = text.trim_ascii_start();
    text.starts_with(b"-----BEGIN AGE ENCRYPTED FILE-----") || text.starts_with(b"age-encryption.org/")
}

/// Returns the text that is encrypted for one of the identities.
pub(super) fn decrypt(encrypted: &[u8], identities: &[Box<dyn Identity>]) -> Result<Zeroizing<Vec<u8>>, StoreError> {
    let decryptor = Decryptor::new(ArmoredReader::new(encrypted)).map_err(|_| StoreError::Damaged)?;
    let identities = identities.iter().map(|identity| &**identity as &dyn Identity);
    let mut reader = decryptor.decrypt(identities).map_err(|error| match error {
        DecryptError::NoMatchingKeys => StoreError::NotForMe,
        _ => StoreError::Damaged,
    })?;
    let mut text = Zeroizing::new(Vec::new());
    reader.read_to_end(&mut text).map_err(|_| StoreError::Damaged)?;
    Ok(text)
}

/// Returns the entries as text.
pub(super) fn encode(entries: &Entries) -> Result<Zeroizing<Vec<u8>>, StoreError> {
    let mut text = Zeroizing::new(serde_json::to_vec_pretty(entries).map_err(|_| StoreError::NotEncrypted)?);
    text.extend(iter::once(b'\n'));
    Ok(text)
}

/// Returns the entries that a text contains.
pub(super) fn decode(text: &[u8]) -> Result<Entries, StoreError> {
    serde_json::from_slice(text).map_err(|_| StoreError::Damaged)
}
