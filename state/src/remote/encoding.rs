//! The encoding of rows: gzip of a header and a line for each row, readable with `gunzip`.

use std::io::Write;

use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;

use super::rows::{Changed, Key, Table};
use crate::bounded;

/// Encodes a header and rows. A row without a body is a removed row.
pub(crate) fn encode<'r>(
    header: &str,
    rows: impl IntoIterator<Item = (&'r Key, Option<&'r str>)>,
) -> Result<Vec<u8>, String> {
    let mut text = GzEncoder::new(Vec::new(), Compression::default());
    let write = || {
        writeln!(text, "{header}")?;
        for ((table, key), body) in rows {
            writeln!(text, "{} {} {}", table.name(), serde_json::to_string(key)?, body.unwrap_or_default())?;
        }
        Ok(())
    };
    write().and_then(|()| text.finish()).map_err(|error: std::io::Error| format!("rows cannot be packed: {error}"))
}

/// Compresses a text.
pub(crate) fn pack(text: &[u8]) -> Result<Vec<u8>, String> {
    let mut packed = GzEncoder::new(Vec::new(), Compression::default());
    let done = packed.write_all(text).and_then(|()| packed.finish());
    done.map_err(|error| format!("a text cannot be packed: {error}"))
}

/// Decompresses the result of [`pack`] or [`encode`].
pub(crate) fn unpack(bytes: &[u8]) -> Result<String, String> {
    let unpacked = bounded::read_stream_text(GzDecoder::new(bytes), bounded::DATA);
    unpacked.map_err(|error| format!("an object cannot be unpacked: {error}"))
}

/// Decodes the header and the rows.
pub(crate) fn decode(bytes: &[u8]) -> Result<(String, Changed), String> {
    let text = unpack(bytes)?;
    let mut lines = text.lines();
    let header = lines.next().unwrap_or_default().to_owned();
    let rows = lines.map(|line| row(line).ok_or_else(|| "a row cannot be read".to_owned()));
    Ok((header, rows.collect::<Result<_, _>>()?))
}

fn row(line: &str) -> Option<(Key, Option<String>)> {
    let (table, rest) = line.split_once(' ')?;
    let mut key = serde_json::Deserializer::from_str(rest).into_iter::<String>();
    let name = key.next()?.ok()?;
    let body = rest.get(key.byte_offset()..)?.strip_prefix(' ')?;
    Some(((Table::named(table)?, name), (!body.is_empty()).then(|| body.to_owned())))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn encoding_round_trips(keys in proptest::collection::btree_map(".{0,20}", proptest::option::of(".{1,20}"), 0..20)) {
            let rows: Changed = keys.into_iter().map(|(key, value)| {
                ((Table::Record, key), value.map(|value| serde_json::to_string(&value).unwrap()))
            }).collect();
            let bytes = encode("{}", rows.iter().map(|(key, body)| (key, body.as_deref()))).unwrap();
            prop_assert_eq!(decode(&bytes).unwrap(), ("{}".to_owned(), rows));
        }

        #[test]
        fn malformed_input_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode(&bytes);
        }
    }
}
