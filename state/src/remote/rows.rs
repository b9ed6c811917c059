//! A state as rows of JSON, and the effect of each change on them.

use std::collections::{BTreeMap, HashMap};
use std::ops::Deref;
use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::head::Head;
use crate::change::{Change, RUNS};
use crate::{Contents, Digest, Intent, Lineage, Outcome, Output, Record, Run, RunEnd, Snapshot, StateError};

/// The kind of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Table {
    /// A record, by its address.
    Record,
    /// An intent, by its number.
    Intent,
    /// An output, by its name.
    Output,
    /// The identity of a node, by its name.
    Node,
    /// A run, by its number.
    Run,
}

impl Table {
    pub(crate) const ALL: [Self; 5] = [Self::Record, Self::Intent, Self::Output, Self::Node, Self::Run];

    /// Returns the stored name.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Record => "record",
            Self::Intent => "intent",
            Self::Output => "output",
            Self::Node => "node",
            Self::Run => "run",
        }
    }

    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|table| table.name() == name)
    }
}

pub(crate) type Key = (Table, String);

/// The rows, each with its body as JSON text.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rows {
    rows: BTreeMap<Key, String>,
    /// The keys of the intents by their ids, to find the intent of an outcome quickly.
    intents: HashMap<String, Key>,
}

impl Rows {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Sets a row, or removes it if `body` is `None`.
    pub(crate) fn set(&mut self, key: Key, body: Option<String>) {
        let new = body.as_deref().and_then(|body| intent_id(&key, body));
        let old = match body {
            Some(body) => self.rows.insert(key.clone(), body),
            None => self.rows.remove(&key),
        };
        // An intent that moved to another number stays.
        if let Some(old) = old.and_then(|old| intent_id(&key, &old)).filter(|old| self.intents.get(old) == Some(&key)) {
            self.intents.remove(&old);
        }
        if let Some(new) = new {
            self.intents.insert(new, key);
        }
    }
}

impl Deref for Rows {
    type Target = BTreeMap<Key, String>;

    fn deref(&self) -> &Self::Target {
        &self.rows
    }
}

/// Returns the id of an intent, if the row is one. Damaged rows are reported when they are read.
fn intent_id((table, _): &Key, body: &str) -> Option<String> {
    #[derive(Deserialize)]
    struct Id {
        id: String,
    }
    let id = (*table == Table::Intent).then(|| serde_json::from_str::<Id>(body))?;
    id.ok().map(|Id { id }| id)
}

/// Changed rows; `None` for a removed row.
pub(crate) type Changed = BTreeMap<Key, Option<String>>;

/// Applies `changed` to the rows.
pub(crate) fn merge(rows: &mut Rows, changed: Changed) {
    changed.into_iter().for_each(|(key, body)| rows.set(key, body));
}

/// Changes of rows that are not written yet, with their head.
pub(crate) struct Draft<'r> {
    rows: &'r Rows,
    place: &'r str,
    pub(crate) head: Head,
    pub(crate) changed: Changed,
    /// The keys of the intents that changes opened; `None` for closed intents.
    intents: HashMap<String, Option<Key>>,
}

impl<'r> Draft<'r> {
    pub(crate) fn new(place: &'r str, rows: &'r Rows, head: Head) -> Self {
        Self { rows, place, head, changed: Changed::new(), intents: HashMap::new() }
    }

    /// Makes a change, or changes nothing and returns the error: each change checks all conditions first.
    pub(crate) fn make(&mut self, change: &Change) -> Result<(), StateError> {
        match change {
            Change::Begin(intents) => self.begin(intents),
            Change::Finish { intent, outcome } => self.finish(intent, outcome),
            Change::Put(record) => self.put(record),
            Change::Remove { address } => self.remove(address),
            Change::Rename { from, to } => self.rename(from, to),
            Change::SetOutputs(outputs) => self.set_outputs(outputs),
            Change::SetNode { name, identity } => {
                let changed = self.set((Table::Node, name.clone()), Some(self.body(identity)?));
                self.count(changed);
                Ok(())
            }
            Change::ForgetNode { name } => {
                let changed = self.set((Table::Node, name.clone()), None);
                self.count(changed);
                Ok(())
            }
            Change::StartRun(run) => self.start_run(run),
            Change::FinishRun { id, end } => self.finish_run(id, end),
            Change::Replace(contents) => self.replace(contents),
        }
    }

    fn begin(&mut self, intents: &[Intent]) -> Result<(), StateError> {
        let mut new: BTreeMap<&str, (Key, String)> = BTreeMap::new();
        let next = self.last(Table::Intent)?.map_or(0, |number| number + 1);
        for (number, intent) in (next..).zip(intents) {
            let row = (numbered(Table::Intent, number), self.body(intent)?);
            if self.intent(&intent.id).is_some() || new.insert(&intent.id, row).is_some() {
                return Err(StateError::IntentExists { id: intent.id.clone() });
            }
        }
        for (id, (key, body)) in new {
            self.intents.insert(id.to_owned(), Some(key.clone()));
            self.changed.insert(key, Some(body));
        }
        Ok(())
    }

    fn finish(&mut self, id: &str, outcome: &Outcome) -> Result<(), StateError> {
        let Some(key) = self.intent(id) else { return Err(StateError::NoIntent { id: id.to_owned() }) };
        match outcome {
            Outcome::Put(record) => self.put(record)?,
            Outcome::Remove => {
                let intent: Intent = self.parse(&key.1, self.get(&key).unwrap_or_default())?;
                let changed = self.set((Table::Record, intent.address), None);
                self.count(changed);
            }
            Outcome::Unchanged => {}
        }
        self.set(key, None);
        self.intents.insert(id.to_owned(), None);
        Ok(())
    }

    fn put(&mut self, record: &Record) -> Result<(), StateError> {
        let changed = self.set((Table::Record, record.address.clone()), Some(self.body(record)?));
        self.count(changed);
        Ok(())
    }

    fn remove(&mut self, address: &str) -> Result<(), StateError> {
        if !self.set((Table::Record, address.to_owned()), None) {
            return Err(StateError::NoRecord { address: address.to_owned() });
        }
        self.count(true);
        Ok(())
    }

    fn rename(&mut self, from: &str, to: &str) -> Result<(), StateError> {
        let old = (Table::Record, from.to_owned());
        if self.get(&old).is_none() {
            return Err(StateError::NoRecord { address: from.to_owned() });
        }
        if self.get(&(Table::Record, to.to_owned())).is_some() {
            return Err(StateError::RecordExists { address: to.to_owned() });
        }
        let mut changed = Changed::from([(old, None)]);
        // Searching for the address as a JSON string is faster than decoding every record.
        let written = self.body(&from)?;
        for (key, body) in self.table(Table::Record).filter(|(_, body)| body.contains(&written)) {
            let mut record: Record = self.parse(key, body)?;
            record.rename(&|address: &str| (address == from).then(|| to.to_owned()));
            changed.insert((Table::Record, record.address.clone()), Some(self.body(&record)?));
        }
        for (number, intent) in self.numbered::<Intent>(Table::Intent)? {
            if intent.address == from {
                let intent = Intent { address: to.to_owned(), ..intent };
                changed.insert(numbered(Table::Intent, number), Some(self.body(&intent)?));
            }
        }
        self.changed.extend(changed);
        self.count(true);
        Ok(())
    }

    fn set_outputs(&mut self, outputs: &BTreeMap<String, Output>) -> Result<(), StateError> {
        let gone = self.table(Table::Output).filter(|(name, _)| !outputs.contains_key(*name));
        let mut new: Changed = gone.map(|(name, _)| ((Table::Output, name.to_owned()), None)).collect();
        for (name, output) in outputs {
            new.insert((Table::Output, name.clone()), Some(self.body(output)?));
        }
        let mut changed = false;
        for (key, body) in new {
            changed |= self.set(key, body);
        }
        self.count(changed);
        Ok(())
    }

    fn start_run(&mut self, run: &Run) -> Result<(), StateError> {
        let known: Vec<(u64, Run)> = self.numbered(Table::Run)?;
        if known.iter().any(|(_, known)| known.id == run.id) {
            return Err(StateError::RunExists { id: run.id.clone() });
        }
        let numbers: Vec<u64> = known.into_iter().map(|(number, _)| number).collect();
        let next = numbers.iter().max().map_or(0, |number| number + 1);
        let body = self.body(run)?;
        for old in numbers.into_iter().filter(|number| number + RUNS as u64 <= next) {
            self.set(numbered(Table::Run, old), None);
        }
        self.set(numbered(Table::Run, next), Some(body));
        Ok(())
    }

    fn finish_run(&mut self, id: &str, end: &RunEnd) -> Result<(), StateError> {
        let runs: Vec<(u64, Run)> = self.numbered(Table::Run)?;
        let Some((number, run)) = runs.into_iter().rfind(|(_, run)| run.id == id) else {
            return Err(StateError::NoRun { id: id.to_owned() });
        };
        let body = self.body(&Run { end: Some(end.clone()), ..run })?;
        self.set(numbered(Table::Run, number), Some(body));
        Ok(())
    }

    fn replace(&mut self, contents: &Contents) -> Result<(), StateError> {
        let Contents { snapshot, runs, key } = contents;
        let mut new: BTreeMap<Key, String> = BTreeMap::new();
        for (address, record) in &snapshot.records {
            new.insert((Table::Record, address.clone()), self.body(&**record)?);
        }
        for (number, intent) in (0..).zip(&snapshot.intents) {
            new.insert(numbered(Table::Intent, number), self.body(intent)?);
        }
        for (name, output) in &snapshot.outputs {
            new.insert((Table::Output, name.clone()), self.body(output)?);
        }
        for (name, identity) in &snapshot.nodes {
            new.insert((Table::Node, name.clone()), self.body(identity)?);
        }
        for (number, run) in (0..).zip(runs.iter().rev()) {
            new.insert(numbered(Table::Run, number), self.body(run)?);
        }
        self.changed = self.rows.keys().chain(self.changed.keys()).map(|key| (key.clone(), None)).collect();
        let closed = self.rows.intents.keys().chain(self.intents.keys());
        let mut intents: HashMap<_, _> = closed.map(|id| (id.clone(), None)).collect();
        let open = (0..).zip(&snapshot.intents);
        intents.extend(open.map(|(number, intent)| (intent.id.clone(), Some(numbered(Table::Intent, number)))));
        self.intents = intents;
        self.changed.extend(new.into_iter().map(|(key, body)| (key, Some(body))));
        self.head.lineage = snapshot.lineage.clone();
        self.head.serial = snapshot.serial.get();
        self.head.key_check = key.check(&snapshot.lineage);
        Ok(())
    }

    fn get(&self, key: &Key) -> Option<&str> {
        match self.changed.get(key) {
            Some(changed) => changed.as_deref(),
            None => self.rows.get(key).map(String::as_str),
        }
    }

    /// Returns the key of the intent with this id.
    fn intent(&self, id: &str) -> Option<Key> {
        match self.intents.get(id) {
            Some(changed) => changed.clone(),
            None => self.rows.intents.get(id).cloned(),
        }
    }

    /// Returns the highest number of a table, also among removed rows.
    fn last(&self, table: Table) -> Result<Option<u64>, StateError> {
        let numbers = numbered(table, 0)..=numbered(table, u64::MAX);
        let old = self.rows.range(numbers.clone()).next_back().map(|(key, _)| key);
        let new = self.changed.range(numbers).next_back().map(|(key, _)| key);
        old.max(new).map(|(_, number)| self.number(number)).transpose()
    }

    /// Sets a row and returns whether it changed.
    fn set(&mut self, key: Key, body: Option<String>) -> bool {
        if self.get(&key) == body.as_deref() {
            return false;
        }
        self.changed.insert(key, body);
        true
    }

    /// Increments the serial if something changed.
    fn count(&mut self, changed: bool) {
        self.head.serial += u64::from(changed);
    }

    /// Returns the rows of a table, unordered.
    fn table(&self, table: Table) -> impl Iterator<Item = (&str, &str)> {
        let old = of_table(self.rows, table).filter(|(key, _)| !self.changed.contains_key(*key));
        let new = self.changed.iter().filter(move |((of, _), _)| *of == table);
        let new = new.filter_map(|(key, body)| Some((key, body.as_ref()?)));
        old.chain(new).map(|((_, key), body)| (key.as_str(), body.as_str()))
    }

    /// Returns the rows of a numbered table, in order.
    fn numbered<T: DeserializeOwned>(&self, table: Table) -> Result<Vec<(u64, T)>, StateError> {
        let rows = self.table(table).map(|(key, body)| Ok((self.number(key)?, self.parse(key, body)?)));
        let mut rows: Vec<(u64, T)> = rows.collect::<Result<_, StateError>>()?;
        rows.sort_by_key(|(number, _)| *number);
        Ok(rows)
    }

    fn number(&self, key: &str) -> Result<u64, StateError> {
        u64::from_str_radix(key, 16).map_err(|error| corrupt(self.place, key, &error))
    }

    fn parse<T: DeserializeOwned>(&self, key: &str, body: &str) -> Result<T, StateError> {
        parse(self.place, key, body)
    }

    fn body(&self, value: &impl Serialize) -> Result<String, StateError> {
        serde_json::to_string(value).map_err(|error| StateError::Corrupt {
            place: self.place.to_owned(),
            detail: format!("a value cannot be written as JSON: {error}"),
        })
    }
}

/// Returns the key of a numbered row: a text that sorts like the number.
fn numbered(table: Table, number: u64) -> Key {
    (table, format!("{number:016x}"))
}

fn of_table(rows: &Rows, table: Table) -> impl Iterator<Item = (&Key, &String)> {
    rows.range((table, String::new())..).take_while(move |((of, _), _)| *of == table)
}

/// Decodes all rows. `place` is for messages.
pub(crate) fn snapshot(place: &str, head: &Head, rows: &Rows) -> Result<Snapshot, StateError> {
    Ok(Snapshot {
        lineage: head.lineage.clone(),
        serial: head.serial.into(),
        records: read(place, rows, Table::Record)?.map(|(address, record)| (address, Arc::new(record))).collect(),
        intents: read(place, rows, Table::Intent)?.map(|(_, intent)| intent).collect(),
        outputs: read(place, rows, Table::Output)?.collect(),
        nodes: read::<Value>(place, rows, Table::Node)?.collect(),
    })
}

/// Returns the last runs, newest first.
pub(crate) fn runs(place: &str, rows: &Rows, limit: usize) -> Result<Vec<Run>, StateError> {
    let mut runs: Vec<Run> = read(place, rows, Table::Run)?.map(|(_, run)| run).collect();
    runs.reverse();
    runs.truncate(limit);
    Ok(runs)
}

fn read<T: DeserializeOwned>(
    place: &str,
    rows: &Rows,
    table: Table,
) -> Result<impl Iterator<Item = (String, T)> + use<T>, StateError> {
    let rows = of_table(rows, table).map(|((_, key), body)| Ok((key.clone(), parse(place, key, body)?)));
    Ok(rows.collect::<Result<Vec<_>, StateError>>()?.into_iter())
}

fn parse<T: DeserializeOwned>(place: &str, key: &str, body: &str) -> Result<T, StateError> {
    serde_json::from_str(body).map_err(|error| corrupt(place, key, &error))
}

fn corrupt(place: &str, key: &str, error: &dyn std::error::Error) -> StateError {
    StateError::Corrupt { place: place.to_owned(), detail: format!("the row `{key}` cannot be read: {error}") }
}

/// Returns the head of a new state.
pub(crate) fn new_head(key: &crate::SealKey) -> Head {
    let lineage = Lineage::generate();
    let key_check: Digest = key.check(&lineage);
    Head { lineage, serial: 0, epoch: 0, holder: None, write: Head::new_write(), key_check }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SealKey;
    use crate::tests::intent;

    fn made(rows: &mut Rows, change: Change) -> Result<(), StateError> {
        let mut draft = Draft::new("here", rows, new_head(&SealKey::generate()));
        let done = draft.make(&change);
        let changed = draft.changed;
        merge(rows, changed);
        done
    }

    /// A damaged intent does not affect others, because finishing reads one intent only.
    #[test]
    fn finishing_an_operation_reads_no_other_intent() {
        let mut rows = Rows::new();
        made(&mut rows, Change::Begin(vec![intent("one", "ssh_file.a"), intent("two", "ssh_file.b")])).unwrap();
        rows.set(numbered(Table::Intent, 0), Some("not JSON".to_owned()));
        made(&mut rows, Change::Begin(vec![intent("three", "ssh_file.c")])).unwrap();
        for id in ["two", "three"] {
            made(&mut rows, Change::Finish { intent: id.to_owned(), outcome: Outcome::Remove }).unwrap();
        }
        assert_eq!(rows.keys().collect::<Vec<_>>(), [&numbered(Table::Intent, 0)]);
    }
}
