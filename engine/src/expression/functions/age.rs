//! Decryption with age, by the identities of the person who runs moorfast.

use std::io::{BufReader, Cursor, Read};

use age::armor::ArmoredReader;
use age::{DecryptError, Decryptor, Identity};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use super::{Arguments, Body, CallError, Family, Function, plain_error};
use crate::expression::age_identities::{AGE_IDENTITY, ARMOR, AgeIdentities};
use crate::model::Value;

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
    let Some(AgeIdentities { file, identities }) = AgeIdentities::of_environment().map_err(plain_error)? else {
        if a.files.secrets_can_be_unknown {
            return Ok(Value::Unknown.sensitive());
        }
        return Err(plain_error(format!(
            "`age_decrypt` has no identity: set {AGE_IDENTITY} to the path of a file with age identities, or of an OpenSSH private key"
        )));
    };
    encrypted.decrypt(&identities).map_err(|reason| match reason {
        Failure::NoMatchingKey => {
            plain_error(format!("the text is not encrypted for an identity in {} ({AGE_IDENTITY})", file.display()))
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

    fn decrypt(self, identities: &[Box<dyn Identity>]) -> Result<Value, Failure> {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::expression::age_identities::identities;

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
}
