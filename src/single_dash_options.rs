//! Long options with a single dash, as in Terraform (`-auto-approve`, `-var x=y`).

use std::collections::BTreeSet;
use std::ffi::OsString;

use clap::Command;

use crate::hints;

/// Adds the second dash to every long option with a single dash.
///
/// Changes only known long options, and no argument after `--`.
pub fn normalise(command: &Command, arguments: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
    let mut known = BTreeSet::from(["help".to_owned(), "version".to_owned()]);
    collect(command, &mut known);
    known.extend(hints::options().map(str::to_owned));
    let mut rest = false;
    let widen = |argument: OsString| {
        rest |= argument == "--";
        match argument.to_str() {
            Some(text) if !rest && is_single_dash_long(text, &known) => format!("-{text}").into(),
            _ => argument,
        }
    };
    arguments.into_iter().map(widen).collect()
}

fn collect(command: &Command, known: &mut BTreeSet<String>) {
    known.extend(command.get_arguments().filter_map(|a| a.get_long()).map(str::to_owned));
    known.extend(command.get_arguments().flat_map(|a| a.get_all_aliases().unwrap_or_default()).map(str::to_owned));
    command.get_subcommands().for_each(|sub| collect(sub, known));
}

fn is_single_dash_long(text: &str, known: &BTreeSet<String>) -> bool {
    let Some(name) = text.strip_prefix('-') else { return false };
    let name = name.split_once('=').map_or(name, |(name, _)| name);
    name.len() > 1 && known.contains(name)
}

#[cfg(test)]
mod tests {
    use clap::{Arg, Command};

    use super::*;

    #[test]
    fn only_known_long_options_are_changed() {
        let command = Command::new("moorfast")
            .arg(Arg::new("chdir").short('C').long("chdir"))
            .subcommand(Command::new("plan").arg(Arg::new("out").long("out")).arg(Arg::new("var").long("var")));
        let cases: [(&[&str], &[&str]); 7] = [
            (&["plan", "-out=p", "-var", "a=b"], &["plan", "--out=p", "--var", "a=b"]),
            (&["-chdir=x", "plan"], &["--chdir=x", "plan"]),
            (&["-C", "out", "plan"], &["-C", "out", "plan"]),
            (&["-Cout"], &["-Cout"]),
            (&["plan", "--out", "p"], &["plan", "--out", "p"]),
            (&["plan", "--", "-out"], &["plan", "--", "-out"]),
            (&["-help", "-V", "-"], &["--help", "-V", "-"]),
        ];
        for (given, expected) in cases {
            let given = given.iter().map(OsString::from);
            assert_eq!(normalise(&command, given), expected.iter().map(OsString::from).collect::<Vec<_>>());
        }
    }
}
