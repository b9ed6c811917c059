//! The transaction that the package manager of a node would run, from its simulation.

use moorfast_engine::provider::Consequence;

use crate::script::Section;

/// Shell functions. `transaction VERB NAME…` prints what `install` or `purge` would do, one package per line: `+ NAME NEW`, `= NAME OLD NEW`, `< NAME OLD NEW` (a downgrade),
/// `- NAME OLD`. If the package manager finds no solution, it fails and prints the reason on stderr. `held` prints the held packages.
pub(super) const TRANSACTION: &str = r#"
if [ -x /usr/bin/apt-get ]; then
  transaction() {
    X=$(apt-get -s -q --allow-downgrades --allow-change-held-packages "$@" 2>&1) || { printf '%s\n' "$X" >&2; return 1; }
    printf '%s\n' "$X" | while read -r A P V N _; do
      V=${V#[}; V=${V%]}; N=${N#(}
      case $A in
      Remv|Purg) printf '%s\n' "- $P $V" ;;
      Inst) case $V in
        '('*) printf '%s\n' "+ $P ${V#(}" ;;
        *) if dpkg --compare-versions "$N" lt "$V"; then D='<'; else D='='; fi; printf '%s\n' "$D $P $V $N" ;;
        esac ;;
      esac
    done | sort -u
  }
  held() { apt-mark showhold 2>/dev/null || true; }
else
  transaction() {
    case $1 in purge) shift; set -- remove --setopt=clean_requirements_on_remove=False "$@" ;; esac
    X=$(dnf --assumeno --allowerasing "$@" 2>&1) || case $X in
    *'Operation aborted'*|*'Operation cancelled'*) ;;
    *) printf '%s\n' "$X" >&2; return 1 ;;
    esac
    printf '%s\n' "$X" | {
      D=; E=
      while IFS= read -r L; do
        case $L in
        'Installing:'*|'Installing '*:) D=+; E= ;;
        'Upgrading:'*|'Upgrading '*:|'Reinstalling:'*) D='='; E= ;;
        'Downgrading:'*|'Downgrading '*:) D='<'; E= ;;
        'Removing:'*|'Removing '*:) D=-; E= ;;
        'Transaction Summary'*|'') D= ;;
        ' '*)
          [ -n "$D" ] || continue
          set -f; set -- $E $L; set +f
          if [ "$1" = replacing ]; then [ "$D" != + ] || printf '%s\n' "- ${2%.*} $3"; continue; fi
          if [ $# -lt 5 ]; then E="$*"; continue; fi
          E=
          case $D in '<'|'=') printf '%s\n' "$D $1 $(rpm -q --qf '%{VERSION}-%{RELEASE}\n' -- "$1" | head -n 1) $3" ;; *) printf '%s\n' "$D $1 $3" ;; esac ;;
        esac
      done
    } | sort -u
  }
  held() { :; }
fi
"#;

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
