//! The state as a file: the format of `state pull` and `state push`, and, with history and key, of backups.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use zeroize::Zeroizing;

use crate::{Contents, Intent, Lineage, Output, Record, Run, SealKey, Serial, Snapshot};

/// The format of the files. Within a major version members can be added, but no member changes its meaning.
const FORMAT: &str = "1.0";

/// The largest serial of a file: every JSON parser represents it exactly, and it can still be incremented.
const LAST: Serial = Serial::new(1 << 53);

/// A state that was read from a file.
#[derive(Clone, Debug)]
pub struct StateFile {
    /// The state.
    pub snapshot: Snapshot,
    /// The history, newest first. Empty in a file of `state pull`.
    pub runs: Vec<Run>,
    /// The key. Only in backups.
    pub key: Option<SealKey>,
}

/// An error in a state file.
#[derive(Debug, thiserror::Error)]
pub enum StateFileError {
    /// The file is not a state.
    #[error("not a state file: {0}")]
    Malformed(String),
    /// A newer moorfast wrote the file.
    #[error("it has the format {found}, written by a newer moorfast; this version supports {FORMAT}")]
    Newer {
        /// Its format.
        found: String,
    },
}

#[derive(Serialize, Deserialize)]
struct Text {
    format_version: String,
    lineage: Lineage,
    serial: Serial,
    resources: Vec<Record>,
    #[serde(default)]
    outputs: BTreeMap<String, Output>,
    #[serde(default)]
    nodes: BTreeMap<String, Value>,
    #[serde(default)]
    open_operations: Vec<Intent>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    runs: Vec<Run>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    seal_key: Option<Zeroizing<String>>,
}

impl StateFile {
    /// Reads a file.
    ///
    /// # Errors
    /// If the text is not a state, or has a newer format.
    pub fn parse(text: &str) -> Result<Self, StateFileError> {
        #[derive(Deserialize)]
        struct Format {
            format_version: String,
        }
        let malformed = |error: serde_json::Error| StateFileError::Malformed(error.to_string());
        let Format { format_version: found } = serde_json::from_str(text).map_err(malformed)?;
        let major = found.split('.').next().and_then(|major| major.parse::<u64>().ok());
        match major {
            Some(1) => {}
            Some(major) if major > 1 => return Err(StateFileError::Newer { found }),
            _ => return Err(StateFileError::Malformed(format!("invalid format `{found}`"))),
        }
        let text: Text = serde_json::from_str(text).map_err(malformed)?;
        if text.serial > LAST {
            return Err(StateFileError::Malformed(format!("its serial {} is above {LAST}", text.serial)));
        }
        let key = text.seal_key.map(|key| from_hex(&key).ok_or("its key is not 64 hexadecimal digits"));
        let key = key.transpose().map_err(|fault| StateFileError::Malformed(fault.to_owned()))?;
        let mut records = BTreeMap::new();
        for record in text.resources {
            if let Some(duplicate) = records.insert(record.address.clone(), Arc::new(record)) {
                return Err(StateFileError::Malformed(format!("it contains `{}` twice", duplicate.address)));
            }
        }
        let snapshot = Snapshot {
            lineage: text.lineage,
            serial: text.serial,
            records,
            intents: text.open_operations,
            outputs: text.outputs,
            nodes: text.nodes,
        };
        Ok(Self { snapshot, runs: text.runs, key })
    }
}

impl Snapshot {
    /// Returns the text of a file with this state.
    ///
    /// # Errors
    /// If a value cannot be written as JSON.
    pub fn to_json(&self) -> Result<String, serde_json::Error> {
        serde_json::to_string_pretty(&text(self))
    }
}

impl Contents {
    /// Returns the text of a backup, with history and key. Only the owner of the state may read it.
    ///
    /// # Errors
    /// If a value cannot be written as JSON.
    pub fn to_json(&self) -> Result<Zeroizing<String>, serde_json::Error> {
        let key = Zeroizing::new(self.key.as_bytes().iter().map(|byte| format!("{byte:02x}")).collect());
        let text = Text { runs: self.runs.clone(), seal_key: Some(key), ..text(&self.snapshot) };
        serde_json::to_string_pretty(&text).map(Zeroizing::new)
    }
}

fn text(snapshot: &Snapshot) -> Text {
    Text {
        format_version: FORMAT.to_owned(),
        lineage: snapshot.lineage.clone(),
        serial: snapshot.serial,
        resources: snapshot.records.values().map(|record| Record::clone(record)).collect(),
        outputs: snapshot.outputs.clone(),
        nodes: snapshot.nodes.clone(),
        open_operations: snapshot.intents.clone(),
        runs: Vec::new(),
        seal_key: None,
    }
}

fn from_hex(text: &str) -> Option<SealKey> {
    let mut bytes = Zeroizing::new([0; 32]);
    if text.len() != 64 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    for (at, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(text.get(2 * at..2 * at + 2)?, 16).ok()?;
    }
    Some(SealKey::from_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contents() -> Contents {
        let snapshot = Snapshot {
            lineage: Lineage::generate(),
            serial: 7.into(),
            records: [("ssh_file.a".to_owned(), crate::tests::record("ssh_file.a", 1).into())].into(),
            intents: Vec::new(),
            outputs: BTreeMap::new(),
            nodes: [("gpu01".to_owned(), serde_json::json!({ "machine_id": "x" }))].into(),
        };
        Contents { snapshot, runs: vec![Run::new("apply")], key: SealKey::generate() }
    }

    #[test]
    fn a_backup_round_trips_and_a_pulled_state_has_no_key() {
        let contents = contents();
        let text = contents.to_json().unwrap();
        let found = StateFile::parse(&text).unwrap();
        assert_eq!((&found.snapshot, &found.runs), (&contents.snapshot, &contents.runs));
        assert_eq!(found.key.unwrap().as_bytes(), contents.key.as_bytes());
        let pulled = StateFile::parse(&contents.snapshot.to_json().unwrap()).unwrap();
        assert_eq!(pulled.snapshot, contents.snapshot);
        assert!(pulled.key.is_none() && pulled.runs.is_empty());
    }

    #[test]
    fn invalid_files_are_errors() {
        let text = contents().to_json().unwrap();
        let cases = [
            ("no JSON", "x".to_owned()),
            ("no state", "{}".to_owned()),
            ("a newer format", text.replace("\"1.0\"", "\"2.3\"")),
            ("no format", text.replace("\"1.0\"", "\"new\"")),
            ("a key cut short", text.replace("\"seal_key\": \"", "\"seal_key\": \"0")),
            ("a serial without end", text.replace("\"serial\": 7", "\"serial\": 18446744073709551615")),
            ("a part is missing", text.replace("\"serial\"", "\"cereal\"")),
        ];
        let messages = cases.map(|(name, text)| format!("{name}: {}\n", StateFile::parse(&text).unwrap_err())).concat();
        insta::assert_snapshot!(messages);
    }
}
