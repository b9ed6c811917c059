//! Checksums of rows in databases: a damaged row is an error, not another value.

/// The separator between the JSON of a body and its checksum.
const SEPARATOR: &str = " #";

/// The number of hexadecimal digits of a checksum.
const DIGITS: usize = 16;

/// Returns the body of the row `key`: `json` with a checksum.
pub(crate) fn append(json: &str, key: &str) -> String {
    format!("{json}{SEPARATOR}{}", checksum(json, key))
}

/// Returns the JSON of the body of the row `key`. The body of an older moorfast has no checksum.
///
/// # Errors
/// If the checksum does not match.
pub(crate) fn verify<'b>(body: &'b str, key: &str) -> Result<&'b str, String> {
    match body.rsplit_once(SEPARATOR) {
        Some((json, sum)) if sum.len() == DIGITS && sum.bytes().all(|byte| byte.is_ascii_hexdigit()) => {
            if sum == checksum(json, key) {
                Ok(json)
            } else {
                Err(format!("the checksum of the row `{key}` does not match its content"))
            }
        }
        _ => Ok(body),
    }
}

/// Computes the checksum over key and content, so that a row under another key is damaged too.
fn checksum(json: &str, key: &str) -> String {
    let hash = blake3::Hasher::new().update(key.as_bytes()).update(&[0]).update(json.as_bytes()).finalize();
    hash.to_hex()[..DIGITS].to_owned()
}
