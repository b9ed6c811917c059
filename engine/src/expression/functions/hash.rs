//! Functions on digests.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha1::Sha1;
use sha2::{Digest as _, Sha256, Sha512};

use super::{Arguments, Body, CallError, Family, Function, filesystem, quoting_error};
use crate::model::Value;

pub(super) fn functions() -> Vec<Function> {
    let function =
        |name, parameters, doc, body| Function { name, family: Family::Hash, parameters, doc, body: Body::Plain(body) };
    vec![
        function("base64sha256", &["text"], "The SHA-256 digest of the text in base64.", |a| {
            Ok(Value::from(STANDARD.encode(Sha256::digest(a.text(0)?))))
        }),
        function("base64sha512", &["text"], "The SHA-512 digest of the text in base64.", |a| {
            Ok(Value::from(STANDARD.encode(Sha512::digest(a.text(0)?))))
        }),
        function("blake3", &["text"], "The BLAKE3 digest of the text in hexadecimal.", |a| {
            Ok(blake3_of(a.text(0)?.as_bytes()))
        }),
        function("fileblake3", &["path"], "The BLAKE3 digest of the file in hexadecimal.", |a| {
            Ok(blake3_of(&read(a)?))
        }),
        function("filebase64sha256", &["path"], "The SHA-256 digest of the file in base64.", |a| {
            Ok(Value::from(STANDARD.encode(Sha256::digest(read(a)?))))
        }),
        function("filebase64sha512", &["path"], "The SHA-512 digest of the file in base64.", |a| {
            Ok(Value::from(STANDARD.encode(Sha512::digest(read(a)?))))
        }),
        function("filemd5", &["path"], "The MD5 digest of the file in hexadecimal.", |a| {
            Ok(hex(&md5::Md5::digest(read(a)?)))
        }),
        function("filesha1", &["path"], "The SHA-1 digest of the file in hexadecimal.", |a| {
            Ok(hex(&Sha1::digest(read(a)?)))
        }),
        function("filesha256", &["path"], "The SHA-256 digest of the file in hexadecimal.", |a| {
            Ok(hex(&Sha256::digest(read(a)?)))
        }),
        function("filesha512", &["path"], "The SHA-512 digest of the file in hexadecimal.", |a| {
            Ok(hex(&Sha512::digest(read(a)?)))
        }),
        function("md5", &["text"], "The MD5 digest of the text in hexadecimal.", |a| {
            Ok(hex(&md5::Md5::digest(a.text(0)?)))
        }),
        function("sha1", &["text"], "The SHA-1 digest of the text in hexadecimal.", |a| {
            Ok(hex(&Sha1::digest(a.text(0)?)))
        }),
        function("sha256", &["text"], "The SHA-256 digest of the text in hexadecimal.", |a| {
            Ok(hex(&Sha256::digest(a.text(0)?)))
        }),
        function("sha512", &["text"], "The SHA-512 digest of the text in hexadecimal.", |a| {
            Ok(hex(&Sha512::digest(a.text(0)?)))
        }),
        function(
            "uuidv5",
            &["namespace", "name"],
            "The version 5 UUID of the name in the namespace: `dns`, `url`, `oid`, `x500` or a UUID.",
            uuidv5,
        ),
    ]
}

fn read(a: &Arguments) -> Result<Vec<u8>, CallError> {
    filesystem::read(a.files, &a.text(0)?)
}

fn hex(bytes: &[u8]) -> Value {
    Value::from(bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>())
}

fn blake3_of(bytes: &[u8]) -> Value {
    Value::from(blake3::hash(bytes).to_hex().as_str())
}

fn uuidv5(a: &Arguments) -> Result<Value, CallError> {
    let namespace = match a.text(0)?.as_str() {
        "dns" => uuid::Uuid::NAMESPACE_DNS,
        "url" => uuid::Uuid::NAMESPACE_URL,
        "oid" => uuid::Uuid::NAMESPACE_OID,
        "x500" => uuid::Uuid::NAMESPACE_X500,
        other => uuid::Uuid::parse_str(other).map_err(|_| quoting_error(format!("`{other}` is not a UUID")))?,
    };
    Ok(Value::from(uuid::Uuid::new_v5(&namespace, a.text(1)?.as_bytes()).to_string()))
}
