//! What a command line that moorfast does not know probably means. No typo leads to `destroy`.

use clap::error::{ContextKind, ContextValue, ErrorKind};

/// Commands of Terraform and of its kin, and what moorfast has in their place.
const COMMANDS: [(&str, &str); 14] = [
    ("taint", "`moorfast plan --replace ADDRESS` plans to replace an instance"),
    ("untaint", "an instance is replaced only by the run that has `--replace ADDRESS`"),
    ("refresh", "`moorfast drift` shows what changed outside of moorfast; `moorfast apply --refresh-only` records it"),
    ("workspace", "each environment has a folder of its own, or `--state DIR` and `--var-file FILE` of its own"),
    ("env", "each environment has a folder of its own, or `--state DIR` and `--var-file FILE` of its own"),
    ("force-unlock", "`moorfast state unlock ID` frees the lock of a run that is gone"),
    ("unlock", "`moorfast state unlock ID` frees the lock of a run that is gone"),
    ("test", "`[check.NAME]` in the manifest is tested after each apply; `moorfast validate` checks the manifest"),
    ("get", "moorfast has its providers built in, so nothing is downloaded"),
    ("providers", "moorfast has its providers built in; `moorfast schema` prints what they know"),
    ("login", "moorfast has no service to log in to"),
    ("diff", "`moorfast plan` shows what an apply would change"),
    ("status", "`moorfast drift` shows what changed outside of moorfast"),
    ("history", "`moorfast state history` shows the runs"),
];

/// Options of Terraform, and what moorfast has in their place.
const OPTIONS: [(&str, &str); 8] = [
    ("refresh", "a plan always reads the objects; `--target ADDRESS` and `--exclude ADDRESS` limit which ones"),
    (
        "lock",
        "the state is always locked while it can change, only `plan --lock=false` reads without a lock; `--lock-timeout 5m` waits for another run",
    ),
    ("upgrade", "moorfast has its providers built in, so nothing is downloaded"),
    ("reconfigure", "`[backend.*]` in the manifest says where the state is; `moorfast init --migrate-state` moves it"),
    ("backend-config", "`[backend.*]` in the manifest says where the state is"),
    ("state-out", "`moorfast state backup FILE` writes a copy of the state"),
    ("compact-warnings", "`--quiet` prints only results and errors"),
    ("generate-config-out", "`[[import]]` names objects that the manifest has already"),
];

/// Returns the names of [`OPTIONS`], so that they are known with one dash too.
pub fn options() -> impl Iterator<Item = &'static str> {
    OPTIONS.into_iter().map(|(name, _)| name)
}

/// Returns `error` with what was probably meant.
pub fn explained(mut error: clap::Error) -> clap::Error {
    let (unknown, suggested, hints) = match error.kind() {
        ErrorKind::InvalidSubcommand => {
            (ContextKind::InvalidSubcommand, ContextKind::SuggestedSubcommand, COMMANDS.as_slice())
        }
        ErrorKind::UnknownArgument => (ContextKind::InvalidArg, ContextKind::SuggestedArg, OPTIONS.as_slice()),
        _ => return error,
    };
    let word = match error.get(unknown) {
        Some(ContextValue::String(word)) => word.trim_start_matches('-').to_owned(),
        _ => return error,
    };
    if let Some((_, hint)) = hints.iter().find(|(name, _)| *name == word) {
        error.remove(suggested);
        error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![(*hint).into()]));
        return error;
    }
    let may_suggest = |name: &String| !["destroy", "docs"].contains(&name.trim_start_matches('-'));
    let kept = match error.remove(suggested) {
        Some(ContextValue::String(name)) => Some(ContextValue::String(name.clone())).filter(|_| may_suggest(&name)),
        Some(ContextValue::Strings(names)) => {
            let names: Vec<_> = names.into_iter().filter(may_suggest).collect();
            (!names.is_empty()).then_some(ContextValue::Strings(names))
        }
        other => other,
    };
    if let Some(kept) = kept {
        error.insert(suggested, kept);
    }
    error
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

    use super::*;
    use crate::argv;
    use crate::cli::Cli;

    fn said(arguments: &[&str]) -> String {
        let words = std::iter::once("moorfast").chain(arguments.iter().copied()).map(Into::into);
        let error = Cli::try_parse_from(argv::normalise(&Cli::command(), words)).unwrap_err();
        explained(error).render().to_string()
    }

    #[test]
    fn a_typo_never_suggests_to_destroy() {
        let words =
            ["destory", "dstroy", "destro", "destroyy", "deploy", "Destroy", "destoy", "doc", "dcos", "destroys"];
        for word in words {
            assert!(!said(&[word]).contains("destroy'") && !said(&[word]).contains("docs'"), "{}", said(&[word]));
        }
        for option in ["--destory", "--destro", "--destroyy"] {
            let text = said(&["apply", option]);
            assert!(!text.contains("'--destroy'"), "{text}");
        }
        assert!(said(&["pln"]).contains("'plan'"));
        assert!(said(&["plan", "--refresh-onyl"]).contains("'--refresh-only'"));
    }

    #[test]
    fn words_of_terraform_lead_to_what_moorfast_has() {
        for (word, hint) in COMMANDS {
            assert!(said(&[word]).contains(hint), "{}", said(&[word]));
        }
        for (word, hint) in OPTIONS {
            // A plan may be made without a lock.
            let command = if word == "lock" { "apply" } else { "plan" };
            for form in [format!("-{word}=false"), format!("--{word}=false"), format!("-{word}")] {
                assert!(said(&[command, &form]).contains(hint), "{form}: {}", said(&[command, &form]));
            }
        }
    }
}
