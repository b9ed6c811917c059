//! The transaction that the package manager of a node would run, from its simulation.

use moorfast_engine::provider::Consequence;

use crate::script::Section;

pub(super) const TRANSACTION: &str = include_str!("transaction/transaction.sh");

/// Failures that an apply may resolve, because it refreshes the package lists first.
const UNLISTED: &[&str] = &[
    "Unable to locate package",
    "no installation candidate",
    "was not found",
    "No match for argument",
    "Unable to find a match",
    "No package ",
];

/// A transaction of the package manager.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Transaction {
    /// The packages that are removed, with their versions.
    pub(super) removed: Vec<(String, String)>,
    downgraded: Vec<(String, String, String)>,
    /// The held packages that the transaction changes.
    held: Vec<String>,
    /// Why the package manager finds no solution.
    failure: Option<String>,
}

impl Transaction {
    /// Reads the result of a simulation: the blobs `transaction`, `held` and `failure`.
    pub(super) fn of(answer: &Section) -> Self {
        let text = |name: &str| answer.text(name).unwrap_or_default();
        let mut found = Self { failure: failure(&text("failure")), ..Self::default() };
        let held = text("held");
        for line in text("transaction").lines() {
            let words: Vec<&str> = line.split_whitespace().collect();
            let owned = |index: usize| words.get(index).map(|word| (*word).to_owned()).unwrap_or_default();
            match words.first() {
                Some(&"-") => found.removed.push((owned(1), owned(2))),
                Some(&"<") => found.downgraded.push((owned(1), owned(2), owned(3))),
                Some(&"=") => {}
                _ => continue,
            }
            found.held.extend(held.lines().filter(|held| words.get(1) == Some(held)).map(str::to_owned));
        }
        found
    }

    /// Whether the package lists of the node do not contain a package, so that the effects of its installation are unknown.
    pub(super) fn is_unknown(&self) -> bool {
        self.failure.as_ref().is_some_and(|failure| UNLISTED.iter().any(|text| failure.contains(text)))
    }

    /// Returns the consequences for the plan.
    pub(super) fn consequences(&self, allow_downgrade: bool, allow_held: bool) -> Vec<Consequence> {
        let obstacle = |message: String| Consequence::Obstacle { message };
        let removals = self
            .removed
            .iter()
            .map(|(name, version)| Consequence::Removal { object: format!("package {name} {version}") });
        let downgrades = self.downgraded.iter().map(|(name, from, to)| match allow_downgrade {
            true => Consequence::Downgrade { object: format!("package {name}"), from: from.clone(), to: to.clone() },
            false => obstacle(format!(
                "package {name} {from} is newer than {to} (allow_downgrade = true replaces it by the older version)"
            )),
        });
        let held = self.held.iter().filter(|_| !allow_held).map(|name| {
            obstacle(format!("package {name} is held at its version (allow_held = true changes it, and it stays held)"))
        });
        let failure = self.failure.iter().filter(|_| !self.is_unknown()).cloned().map(obstacle);
        removals.chain(downgrades).chain(held).chain(failure).collect()
    }
}

/// Returns the lines with the reason, from the output of a package manager.
fn failure(printed: &str) -> Option<String> {
    let says_why = |line: &&str| line.starts_with("E: ") || line.starts_with("Error: ") || line.contains("Problem");
    let details = |line: &&str| line.contains("Depends:") || line.contains("Conflicts:") || line.starts_with("  - ");
    let lines = printed.lines().filter(|line| says_why(line) || details(line)).take(5);
    let why: Vec<&str> =
        lines.map(|line| line.trim().trim_start_matches("E: ").trim_start_matches("Error: ").trim()).collect();
    match (why.is_empty(), printed.trim().lines().last()) {
        (false, _) => Some(why.join("; ")),
        (true, last) => last.map(str::to_owned),
    }
}
