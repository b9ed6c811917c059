//! Decryption with age, by the identities of the person who runs moorfast.

use std::io::{BufReader, Cursor, Read};
use std::path::Path;

use age::armor::ArmoredReader;
use age::{DecryptError, Decryptor, Identity, IdentityFile, ssh};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use moorfast_state::bounded;
use zeroize::Zeroizing;

use super::{Arguments, Body, CallError, Family, Function, plain_error};
use crate::model::Value;

/// The environment variable with the path of the file of identities.
const IDENTITY: &str = "MOORFAST_AGE_IDENTITY";
/// The maximum size of that file in bytes.
const IDENTITY_SIZE: u64 = 1 << 20;
/// The beginning of a text that the program `age --armor` wrote.
const ARMOR: &str = "-----BEGIN AGE ENCRYPTED FILE-----";
/// The beginning of an age file.
const HEADER: &str = "age-encryption.org/";

/// The identities of a file.
type Identities = Vec<Box<dyn Identity>>;

pub(super) fn functions() -> Vec<Function> {
    vec![Function {
        name: "age_decrypt",
        family: Family::Encoding,
        parameters: &["text"],
        doc: "The text decrypted with age, always sensitive. The text is armored (`age --armor`) or encoded in base64 (`filebase64`). \
            `MOORFAST_AGE_IDENTITY` is the path of a file with age identities, or of an OpenSSH private key (ed25519) without a passphrase.",
        body: Body::Plain(|a| {
            if a.files.untrusted.is_some() {
                return Err(plain_error("`plan --untrusted` decrypts nothing with the identities of this machine"));
            }
            decrypt(a)
        }),
    }]
}

fn decrypt(a: &Arguments) -> Result<Value, CallError> {
    let encrypted = Encrypted::parse(&a.text(0)?)?;
    let Some(path) = std::env::var_os(IDENTITY).filter(|path| !path.is_empty()) else {
        if a.files.secrets_can_be_unknown {
            return Ok(Value::Unknown.sensitive());
        }
        return Err(plain_error(format!(
            "`age_decrypt` has no identity: set {IDENTITY} to the path of a file with age identities, or of an OpenSSH private key"
        )));
    };
    let path = Path::new(&path);
    let file = format!("the identity file {} ({IDENTITY})", path.display());
    let text = bounded::read_text(path, IDENTITY_SIZE).map(Zeroizing::new);
    let text = text.map_err(|error| plain_error(format!("cannot read {file}: {error}")))?;
    let identities = identities(&text).map_err(|reason| plain_error(format!("cannot use {file}: {reason}")))?;
    encrypted.decrypt(&identities).map_err(|reason| match reason {
        Failure::NoMatchingKey => {
            plain_error(format!("the text is not encrypted for an identity in {} ({IDENTITY})", path.display()))
        }
        Failure::Damaged => plain_error("the text is damaged: age cannot decrypt it"),
        Failure::NotText => plain_error("the decrypted bytes are not UTF-8 text"),
    })
}

/// An age file whose header is valid.
struct Encrypted(Decryptor<Source>);

/// The bytes of an age file, armored or not.
type Source = BufReader<ArmoredReader<BufReader<Cursor<Vec<u8>>>>>;

/// The reason why an age file cannot be decrypted.
#[derive(Debug, PartialEq)]
enum Failure {
    NoMatchingKey,
    Damaged,
    NotText,
}

impl Encrypted {
    /// Parses an age file: armored, or its bytes in base64.
    fn parse(text: &str) -> Result<Self, CallError> {
        let text = text.trim();
        let bytes = match text.starts_with(ARMOR) {
            true => text.as_bytes().to_vec(),
            false => STANDARD.decode(text).map_err(|_| {
                plain_error("this is neither an armored age file (`age --armor`) nor the base64 of an age file")
            })?,
        };
        let reader = ArmoredReader::new(Cursor::new(bytes));
        let decryptor = Decryptor::new_buffered(BufReader::new(reader)).map_err(|error| match error {
            DecryptError::UnknownFormat => {
                plain_error("this age file has an unknown version: this moorfast is too old for it")
            }
            _ => plain_error("this is not a complete age file: its header is damaged"),
        })?;
        match decryptor.is_scrypt() {
            true => Err(plain_error(
                "the text is encrypted with a passphrase: encrypt it for the public key of an identity (`age --recipient`)",
            )),
            false => Ok(Self(decryptor)),
        }
    }

    fn decrypt(self, identities: &Identities) -> Result<Value, Failure> {
        let identities = identities.iter().map(|identity| &**identity as &dyn Identity);
        let mut reader = self.0.decrypt(identities).map_err(|error| match error {
            DecryptError::NoMatchingKeys => Failure::NoMatchingKey,
            _ => Failure::Damaged,
        })?;
        let mut bytes = Zeroizing::new(Vec::new());
        reader.read_to_end(&mut bytes).map_err(|_| Failure::Damaged)?;
        let text = str::from_utf8(&bytes).map_err(|_| Failure::NotText)?;
        Ok(Value::from(text).sensitive())
    }
}

/// Returns the identities in the text of a file: lines of age, or an OpenSSH private key.
///
/// # Errors
/// The reason, which contains nothing of the text.
fn identities(text: &str) -> Result<Identities, String> {
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

    /// A text that the program `age` encrypted for the identity and the SSH key beside it.
    const ENCRYPTED: &str = include_str!("../tests/age/encrypted");
    const SECRET: &str = "correct-horse-battery-staple";

    fn decrypted(text: &str, identity: &str) -> Result<Value, Failure> {
        Encrypted::parse(text).unwrap().decrypt(&identities(identity).unwrap())
    }

    #[test]
    fn an_age_identity_and_an_ssh_key_decrypt_what_the_program_encrypted() {
        for identity in [include_str!("../tests/age/identity"), include_str!("../tests/age/ssh_key")] {
            assert_eq!(decrypted(ENCRYPTED, identity), Ok(Value::from(SECRET).sensitive()));
        }
        let mut bytes = Vec::new();
        ArmoredReader::new(ENCRYPTED.as_bytes()).read_to_end(&mut bytes).unwrap();
        let base64 = STANDARD.encode(&bytes);
        assert!(decrypted(&base64, include_str!("../tests/age/identity")).is_ok());
    }

    #[test]
    fn every_failure_has_its_reason() {
        let identity = include_str!("../tests/age/identity");
        assert_eq!(decrypted(ENCRYPTED, include_str!("../tests/age/other_identity")), Err(Failure::NoMatchingKey));
        assert_eq!(decrypted(include_str!("../tests/age/encrypted_bytes"), identity), Err(Failure::NotText));
        // Every change of one character is noticed, wherever it is.
        for (at, _) in ENCRYPTED.char_indices().filter(|(_, c)| c.is_ascii_alphanumeric()) {
            let mut text = ENCRYPTED.to_owned();
            let other = if &text[at..=at] == "A" { "B" } else { "A" };
            text.replace_range(at..=at, other);
            let result = Encrypted::parse(&text).ok().map(|parsed| parsed.decrypt(&identities(identity).unwrap()));
            assert!(!matches!(result, Some(Ok(value)) if value.as_str() != Some(SECRET)), "{at}");
        }
        for text in
            ["", "hello", &ENCRYPTED[..200], &STANDARD.encode("age-encryption.org/v9\n"), &STANDARD.encode([0; 90])]
        {
            assert!(Encrypted::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn an_unusable_identity_names_the_reason_and_shows_nothing() {
        let secret_line = "AGE-SECRET-KEY-1NOTREALLYAKEY";
        for (text, reason) in [
            (include_str!("../tests/age/ssh_key_with_passphrase"), "protected by a passphrase"),
            (include_str!("../tests/age/ssh_key_ecdsa"), "type ecdsa-sha2-nistp256"),
            ("-----BEGIN OPENSSH PRIVATE KEY-----\nb3Bl", "not a complete OpenSSH private key"),
            (ENCRYPTED, "encrypted with a passphrase"),
            ("# only a comment\n", "contains no identity"),
            (secret_line, "non-identity data on line 1"),
        ] {
            let error = identities(text).err().unwrap();
            assert!(error.contains(reason) && !error.contains(secret_line), "{error}");
        }
    }
}
