//! The search for sensitive values in everything that a run shows or stores.

use std::fmt::Debug;
use std::fs;
use std::path::Path;

use crate::{Law, Violation};

/// The values that may appear nowhere.
#[derive(Clone, Copy)]
pub struct Secrets<'c>(pub &'c [String]);

impl Secrets<'_> {
    /// Checks that the debug output of `value` shows no secret.
    pub fn absent_in(self, place: &str, value: &impl Debug) -> Result<(), Violation> {
        self.absent_in_bytes(place, format!("{value:?}\n{value:#?}").as_bytes())
    }

    /// Checks that `text` contains no secret.
    pub fn absent_in_bytes(self, place: &str, text: &[u8]) -> Result<(), Violation> {
        let is_found = |secret: &&String| text.windows(secret.len().max(1)).any(|part| part == secret.as_bytes());
        match self.0.iter().position(|secret| is_found(&secret)) {
            // The message does not repeat the secret: it ends up in the log of a test run.
            Some(index) => Err(Violation::new(
                Law::SensitiveIsHidden,
                format!("{place} contains secret {} of the case", index + 1),
            )),
            None => Ok(()),
        }
    }

    /// Checks that no file below `folder` contains a secret.
    pub fn absent_below(self, folder: &Path) -> Result<(), Violation> {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = entry.path();
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => self.absent_below(&path)?,
                // Sockets and the like have no content.
                Ok(kind) if kind.is_file() => {
                    let content = fs::read(&path).unwrap_or_default();
                    self.absent_in_bytes(&format!("the file {}", path.display()), &content)?;
                }
                _ => {}
            }
        }
        Ok(())
    }
}
