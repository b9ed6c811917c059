//! What `drift --since-last` told already: a file beside the state. Losing it costs one repeated message and nothing else.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::{fs, io};

use moorfast_engine::Address;
use moorfast_engine::plan::{Drift, Plan};
use moorfast_engine::state::{Digest, canonical};
use serde::{Deserialize, Serialize};

use crate::atomic;
use crate::error::Error;

const FILE: &str = "known-drift.json";

/// What is known of the drift that was there before.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct KnownDrift {
    /// What drifted, and a digest of how.
    objects: BTreeMap<String, Digest>,
    /// The lines about nodes that are not what they were.
    nodes: Vec<String>,
}

impl KnownDrift {
    /// What the folder of the state knows. What can't be understood is as good as nothing.
    ///
    /// # Errors
    /// If it can't be read.
    pub fn read(folder: &Path) -> Result<Self, Error> {
        let path = path(folder);
        match fs::read(&path) {
            Ok(text) => Ok(serde_json::from_slice(&text).unwrap_or_default()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(Error::file("read", path)(error)),
        }
    }

    /// Remembers it.
    ///
    /// # Errors
    /// If it can't be written.
    pub fn write(&self, folder: &Path) -> Result<(), Error> {
        let text = serde_json::to_vec_pretty(self).unwrap_or_default();
        let done = fs::create_dir_all(folder).and_then(|()| atomic::write(&path(folder), 0o600, &text));
        done.map_err(Error::file("write", path(folder)))
    }

    /// What is known after `plan` was told; of what could not be looked at, what was known before.
    pub fn after<'a>(&self, plan: &Plan, unread: impl Iterator<Item = &'a Address>) -> Self {
        let kept = unread.filter_map(|address| self.objects.get_key_value(&address.to_string()));
        let kept: Vec<_> = kept.map(|(address, digest)| (address.clone(), digest.clone())).collect();
        let seen = plan.drift.iter().map(|drift| (drift.address.to_string(), digest(drift)));
        Self { objects: seen.chain(kept).collect(), nodes: plan.nodes.iter().map(ToString::to_string).collect() }
    }

    /// `plan` with the drift that is new: not there before, or not in this way.
    pub fn news(&self, plan: &Plan) -> Plan {
        let is_new = |drift: &&Drift| self.objects.get(&drift.address.to_string()) != Some(&digest(drift));
        Plan {
            drift: plan.drift.iter().filter(is_new).cloned().collect(),
            nodes: plan.nodes.iter().filter(|node| !self.nodes.contains(&node.to_string())).cloned().collect(),
            ..plan.clone()
        }
    }
}

fn path(folder: &Path) -> PathBuf {
    folder.join(FILE)
}

fn digest(drift: &Drift) -> Digest {
    let how = serde_json::json!([drift.before, drift.after]);
    Digest::of(canonical(&how).as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::samples;
    use serde_json::json;

    #[test]
    fn only_what_is_new_or_new_in_its_way_is_told_again() {
        let plan = samples::refresh();
        let folder = tempfile::tempdir().unwrap();
        let known = KnownDrift::read(folder.path()).unwrap();
        assert_eq!(known.news(&plan).drift.len(), 3);
        known.after(&plan, [].into_iter()).write(folder.path()).unwrap();

        let known = KnownDrift::read(folder.path()).unwrap();
        assert_eq!(known.news(&plan).drift, []);
        let mut later = plan.clone();
        later.drift[0].after = json!({"mode": "0700"}).as_object().cloned();
        later.nodes.push(samples::replaced("gpu02"));
        let news = known.news(&later);
        assert_eq!((&news.drift[..], &news.nodes), (&later.drift[..1], &later.nodes));
    }

    #[test]
    fn what_went_is_forgotten_and_what_could_not_be_seen_is_not() {
        let plan = samples::refresh();
        let known = KnownDrift::default().after(&plan, [].into_iter());
        let quiet = Plan { drift: vec![], ..plan.clone() };
        let after = known.after(&quiet, [&plan.drift[1].address].into_iter());
        assert_eq!(after.news(&plan).drift.len(), 2);
        assert_eq!(known.after(&quiet, [].into_iter()).news(&plan).drift.len(), 3);
    }

    #[test]
    fn a_damaged_file_is_as_good_as_none() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(path(folder.path()), "{").unwrap();
        assert_eq!(KnownDrift::read(folder.path()).unwrap(), KnownDrift::default());
    }
}
