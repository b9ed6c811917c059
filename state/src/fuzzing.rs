//! The entry points of the fuzz targets: reading objects of a server, and histories of changes.

use std::collections::BTreeMap;

use jiff::Timestamp;
use rusqlite::Connection;
use serde_json::json;

use crate::change::Change;
use crate::remote::{Draft, Head, Rows, decode, encode, merge, new_head, snapshot};
use crate::{Contents, Intent, Outcome, Output, Record, Run, RunEnd, RunResult, SealKey, Snapshot, sqlite};

/// Decodes bytes as an object of a state on a server. Decoded rows are the same after they are encoded again.
pub fn object(bytes: &[u8]) {
    let Ok((header, rows)) = decode(bytes) else { return };
    let again = encode(&header, rows.iter().map(|(key, body)| (key, body.as_deref())));
    assert_eq!(again.and_then(|bytes| decode(&bytes)), Ok((header, rows.clone())));
    let mut state = Rows::new();
    merge(&mut state, rows);
    let _ = snapshot("fuzz", &new_head(&SealKey::generate()), &state);
}

/// Makes the changes that the bytes encode in a database and in the rows of a server. After each change both contain the same
/// valid state, read from the stored form. A change that one refuses is refused by the other too, and changes nothing.
pub fn history(bytes: &[u8]) {
    let mut server = Server::new();
    let database = database(&server.head);
    for word in bytes.chunks_exact(3) {
        let change = change(word[0], word[1], word[2], &server.snapshot());
        let before = server.snapshot();
        let made = server.make(&change);
        assert_eq!(make(&database, &change), made, "{change:?}");
        let now = server.snapshot();
        assert_eq!(sqlite::load(&database).ok().as_ref(), Some(&now), "after {change:?}");
        assert!(made || now == before, "{change:?} was refused and changed something");
        assert!(matches!(change, Change::Replace(_)) || now.serial >= before.serial);
    }
}

/// The data of a server.
struct Server {
    head: Head,
    written: Vec<u8>,
}

impl Server {
    fn new() -> Self {
        let written = encode("", []).unwrap_or_default();
        Self { head: new_head(&SealKey::generate()), written }
    }

    fn rows(&self) -> Rows {
        let mut rows = Rows::new();
        let (_, written) = decode(&self.written).expect("what was written can be read");
        merge(&mut rows, written);
        rows
    }

    fn snapshot(&self) -> Snapshot {
        snapshot("fuzz", &self.head, &self.rows()).expect("every state is valid")
    }

    fn make(&mut self, change: &Change) -> bool {
        let mut rows = self.rows();
        let mut draft = Draft::new("fuzz", &rows, self.head.clone());
        let made = draft.make(change).is_ok();
        // Other changes share the write, so it is made even if this change was refused.
        let Draft { head, changed, .. } = draft;
        self.head = head;
        merge(&mut rows, changed);
        let rows = rows.iter().map(|(key, body)| (key, Some(body.as_str())));
        self.written = encode("", rows).expect("rows can be written");
        made
    }
}

fn database(head: &Head) -> Connection {
    let made = Connection::open_in_memory().and_then(|mut db| {
        sqlite::migrate(&mut db)?;
        db.execute("INSERT INTO state VALUES (1, ?1, 0, 0, ?2)", [head.lineage.as_str(), head.key_check.as_str()])?;
        Ok(db)
    });
    made.expect("there is room for a database")
}

fn make(db: &Connection, change: &Change) -> bool {
    let begun = db.execute_batch("SAVEPOINT job");
    let made = sqlite::make(change, db).is_ok();
    let ended = if made { Ok(()) } else { db.execute_batch("ROLLBACK TO job") };
    begun.and(ended).and_then(|()| db.execute_batch("RELEASE job")).expect("a savepoint can be released");
    made
}

/// Returns the change that three bytes encode. It uses few addresses, names and numbers, so that changes concern the same rows.
fn change(kind: u8, a: u8, b: u8, now: &Snapshot) -> Change {
    let address = |n: u8| format!("ssh_file.{}", ["a", "ab", "a[\"é\"]", "\\\"", "%", ""][usize::from(n % 6)]);
    let name = |n: u8| ["a", "b", ""][usize::from(n % 3)].to_owned();
    match kind % 11 {
        0 => Change::Begin((0..b % 3).map(|more| intent(a.wrapping_add(more) % 8, address(a))).collect()),
        1 => Change::Finish { intent: (a % 8).to_string(), outcome: Outcome::Put(record(address(a), b).into()) },
        2 => Change::Finish { intent: (a % 8).to_string(), outcome: Outcome::Remove },
        3 => Change::Finish { intent: (a % 8).to_string(), outcome: Outcome::Unchanged },
        4 => Change::Put(Record { dependencies: vec![address(b)], ..record(address(a), b) }.into()),
        5 => Change::Remove { address: address(a) },
        6 => Change::Rename { from: address(a), to: address(b) },
        7 => {
            let output = |n: u8| Output { value: json!(n), sensitive: n % 2 == 0 };
            Change::SetOutputs((0..b % 3).map(|n| (name(a.wrapping_add(n)), output(n))).collect())
        }
        8 => Change::SetNode { name: name(a), identity: json!({ "machine_id": b % 2 }) },
        9 if b % 2 == 0 => Change::StartRun(Run { id: name(a), ..Run::new("fuzz") }),
        9 => {
            let end = RunEnd { at: Timestamp::UNIX_EPOCH, result: RunResult::Failed, counts: BTreeMap::new() };
            Change::FinishRun { id: name(a), end }
        }
        _ => Change::Replace(Box::new(contents(a, b, now))),
    }
}

/// Returns the current state with another serial, or a state with one record.
fn contents(a: u8, b: u8, now: &Snapshot) -> Contents {
    let mut snapshot = now.clone();
    snapshot.serial = (u64::from(a) << (b % 50)).into();
    if a % 2 == 0 {
        snapshot.records = [("ssh_file.a".to_owned(), record("ssh_file.a".to_owned(), b).into())].into();
        snapshot.outputs.clear();
    }
    Contents { snapshot, runs: vec![Run::new("fuzz")], key: SealKey::generate() }
}

fn record(address: String, value: u8) -> Record {
    let record = json!({
        "identity": format!("/etc/{address}"),
        "address": address,
        "resource_type": "ssh_file",
        "provider": "ssh",
        "target": "gpu01",
        "attributes": { "value": value % 3 },
        "dependencies": [],
        "triggers": {},
        "private": null,
        "incomplete": value % 7 == 0,
        "updated_at": Timestamp::UNIX_EPOCH,
    });
    serde_json::from_value(record).expect("this is a record")
}

fn intent(n: u8, address: String) -> Intent {
    let intent = json!({
        "id": n.to_string(),
        "address": address,
        "action": "create",
        "resource_type": "ssh_file",
        "provider": "ssh",
        "target": "gpu01",
        "started_at": Timestamp::UNIX_EPOCH,
        "run": "fuzz",
    });
    serde_json::from_value(intent).expect("this is an intent")
}
