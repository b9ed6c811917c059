//! The entries of the key store.

use std::collections::BTreeMap;
use std::io::Read;

use age::armor::ArmoredReader;
use age::{Decryptor, IdentityFile};
use serde_json::Value as Json;

use super::site::{IDENTITY, Site};

impl Site {
    /// Returns the entries of the key store by their names. It has none if the file does not exist yet.
    pub fn key_store(&self) -> BTreeMap<String, Json> {
        let Ok(encrypted) = std::fs::read(self.moorfast.path("cluster/keys.age")) else { return BTreeMap::new() };
        let identity =
            IdentityFile::from_file(self.moorfast.path("cluster").join(IDENTITY).display().to_string()).unwrap();
        let identities = identity.into_identities().unwrap();
        let decryptor = Decryptor::new(ArmoredReader::new(&encrypted[..])).expect("the key store is whole");
        let mut text = String::new();
        let identities = identities.iter().map(|identity| &**identity as &dyn age::Identity);
        decryptor.decrypt(identities).unwrap().read_to_string(&mut text).unwrap();
        let store: Json = serde_json::from_str(&text).unwrap();
        store["entries"].as_object().unwrap().clone().into_iter().collect()
    }
}
