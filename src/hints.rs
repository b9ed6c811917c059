//! Hints for unknown commands and options. A typo never suggests `destroy`.

use clap::error::{ContextKind, ContextValue, ErrorKind};

/// Commands of Terraform and similar tools, with their counterpart in moorfast.
const COMMANDS: [(&str, &str); 13] = [
    ("taint", "`moorfast plan --replace ADDRESS` plans to replace an instance"),
    ("untaint", "moorfast replaces an instance only in a run with `--replace ADDRESS`, so there is nothing to undo"),
    ("refresh", "`moorfast drift` detects changes made outside moorfast; `moorfast apply --refresh-only` records them"),
    ("workspace", "declare [environments.NAME] in the manifest and use `--env NAME`; `moorfast env list` lists them"),
    ("force-unlock", "`moorfast state unlock ID` removes the lock of a run that no longer exists"),
    ("unlock", "`moorfast state unlock ID` removes the lock of a run that no longer exists"),
    ("test", "each apply tests the `[check.NAME]` blocks of the manifest; `moorfast validate` checks the manifest"),
    ("get", "the providers are built in, so there is nothing to download"),
    ("providers", "the providers are built in; `moorfast schema` prints their resource types"),
    ("login", "moorfast has no service to log in to"),
    ("diff", "`moorfast plan` shows the changes that an apply would make"),
    ("status", "`moorfast drift` detects changes made outside moorfast"),
    ("history", "`moorfast state history` lists the runs"),
];

/// Options of Terraform, with their counterpart in moorfast.
const OPTIONS: [(&str, &str); 8] = [
    ("refresh", "a plan always reads the objects; use `--target ADDRESS` and `--exclude ADDRESS` to read fewer"),
    ("lock", "only `plan --lock=false` works without a lock; use `--lock-timeout 5m` to wait for the lock"),
    ("upgrade", "the providers are built in, so there is nothing to download"),
    (
        "reconfigure",
        "`[backend.*]` in the manifest configures the backend; `moorfast init --migrate-state` moves the state",
    ),
    ("backend-config", "`[backend.*]` in the manifest configures the backend"),
    ("state-out", "`moorfast state backup FILE` writes a copy of the state"),
    ("compact-warnings", "`--quiet` prints only results and errors"),
    ("generate-config-out", "`[[import]]` imports existing objects under addresses of the manifest"),
];

/// Returns the names of [`OPTIONS`], so that they are recognised with one dash too.
pub fn options() -> impl Iterator<Item = &'static str> {
    OPTIONS.into_iter().map(|(name, _)| name)
}

/// Adds a hint about the counterpart in moorfast to `error`.
pub fn with_hint(mut error: clap::Error) -> clap::Error {
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
    use crate::cli::Cli;
    use crate::single_dash_options;

    fn message(arguments: &[&str]) -> String {
        let words = std::iter::once("moorfast").chain(arguments.iter().copied()).map(Into::into);
        let error = Cli::try_parse_from(single_dash_options::normalise(&Cli::command(), words)).unwrap_err();
        with_hint(error).render().to_string()
    }

    #[test]
    fn a_typo_never_suggests_to_destroy() {
        let words =
            ["destory", "dstroy", "destro", "destroyy", "deploy", "Destroy", "destoy", "doc", "dcos", "destroys"];
        for word in words {
            assert!(
                !message(&[word]).contains("destroy'") && !message(&[word]).contains("docs'"),
                "{}",
                message(&[word])
            );
        }
        for option in ["--destory", "--destro", "--destroyy"] {
            let text = message(&["apply", option]);
            assert!(!text.contains("'--destroy'"), "{text}");
        }
        assert!(message(&["pln"]).contains("'plan'"));
        assert!(message(&["plan", "--refresh-onyl"]).contains("'--refresh-only'"));
    }

    #[test]
    fn commands_and_options_of_terraform_have_hints() {
        for (word, hint) in COMMANDS {
            assert!(message(&[word]).contains(hint), "{}", message(&[word]));
        }
        for (word, hint) in OPTIONS {
            // `plan` has the option `--lock`.
            let command = if word == "lock" { "apply" } else { "plan" };
            for form in [format!("-{word}=false"), format!("--{word}=false"), format!("-{word}")] {
                assert!(message(&[command, &form]).contains(hint), "{form}: {}", message(&[command, &form]));
            }
        }
    }
}
