//! Completion of the command line. The scripts of `moorfast completions` ask for the candidates: commands, options, and names of the manifest.
//!
//! Nothing but the manifest is read, and every problem means no candidates: a shell must neither wait nor show errors.

use std::env;
use std::ffi::{OsStr, OsString};
use std::io::{self, Write};
use std::sync::mpsc;
use std::time::Duration;

use anstream::ColorChoice;
use clap::{Command, CommandFactory, FromArgMatches};
use clap_complete::engine::complete;
use clap_complete::env::{EnvCompleter, Shells};

use crate::ProviderFactory;
use crate::cli::Cli;
use crate::commands::explained_names;
use crate::completer::{Names, VARIABLE, complete_from};
use crate::error_codes;
use crate::globals::Globals;
use crate::inputs::Inputs;
use crate::invocation::Invocation;
use crate::single_dash_options;
use crate::ui::Ui;

/// How long the answer may take.
const LIMIT: Duration = Duration::from_secs(2);
/// The separator of the candidates for bash, as its script sets it.
const SEPARATOR: &str = "\u{b}";

/// Returns the shell whose script started this process to complete a command line.
pub fn shell() -> Option<String> {
    env::var(VARIABLE).ok().filter(|name| !name.is_empty())
}

/// Prints the candidates for the command line after `--` in `arguments`.
pub fn answer(shell: String, providers: &[ProviderFactory], arguments: impl IntoIterator<Item = OsString>) {
    let words: Vec<_> = arguments.into_iter().skip_while(|argument| argument != "--").skip(1).collect();
    // A panic prints nothing into the shell. It ends the thread without an answer.
    std::panic::set_hook(Box::new(|_| {}));
    let (sender, receiver) = mpsc::channel();
    let providers = providers.to_vec();
    std::thread::spawn(move || sender.send(candidates(&shell, &providers, words)));
    // The thread ends with the process.
    let candidates = receiver.recv_timeout(LIMIT).ok().flatten().unwrap_or_default();
    _ = io::stdout().write_all(&candidates);
}

/// Returns the candidates in the form that the script of the shell reads.
fn candidates(shell: &str, providers: &[ProviderFactory], words: Vec<OsString>) -> Option<Vec<u8>> {
    let shells = Shells::builtins();
    let completer = shells.completer(shell)?;
    let is_bash = completer.name() == "bash";
    // bash makes words of its own of an option, a `=` and a value.
    let index = if is_bash {
        index()?.checked_sub(words.iter().take(index()?).filter(|word| *word == "=").count())?
    } else {
        index().unwrap_or(words.len().checked_sub(1)?)
    };
    let words: Vec<_> = words.into_iter().filter(|word| !is_bash || word != "=").collect();
    let command = Cli::command();
    let has_single_dash = words.get(index).is_some_and(|word| is_single_dash(&command, word));
    let mut words = single_dash_options::normalise(&command, words);
    if has_single_dash && let Some(word) = words.get_mut(index).filter(|word| !word.to_string_lossy().starts_with("--"))
    {
        let mut long = OsString::from("-");
        long.push(&*word);
        *word = long;
    }
    enter(&command, providers, &words);
    let found = written(completer, command, words, index)?;
    Some(if has_single_dash { with_single_dashes(&found) } else { found })
}

/// Returns the index of the word to complete, if the script gives it.
fn index() -> Option<usize> {
    env::var("_CLAP_COMPLETE_INDEX").ok()?.parse().ok()
}

/// Returns the candidates for the word at `index`.
fn written(completer: &dyn EnvCompleter, mut command: Command, words: Vec<OsString>, index: usize) -> Option<Vec<u8>> {
    let folder = env::current_dir().ok();
    if completer.name() == "bash" {
        let found = complete(&mut command, words, index, folder.as_deref()).ok()?;
        let values = found.iter().map(|candidate| quoted(&candidate.get_value().to_string_lossy()));
        return Some(values.collect::<Vec<_>>().join(SEPARATOR).into_bytes());
    }
    let mut buffer = Vec::new();
    completer.write_complete(&mut command, words, folder.as_deref(), &mut buffer).ok()?;
    Some(buffer)
}

/// Quotes the characters of an address that bash would remove or interpret. The other shells quote candidates themselves.
fn quoted(value: &str) -> String {
    let special = |c: char| matches!(c, '[' | ']' | '"' | '\'' | ' ' | '\\' | '$' | '*' | '?' | '(' | ')');
    value.chars().flat_map(|c| special(c).then_some('\\').into_iter().chain([c])).collect()
}

/// Returns whether the word is the beginning of a long option with one dash.
fn is_single_dash(command: &Command, word: &OsStr) -> bool {
    let Some(name) = word.to_str().and_then(|word| word.strip_prefix('-')) else { return false };
    let mut letters = name.chars();
    match (letters.next(), letters.next()) {
        (None | Some('-'), _) => false,
        (Some(letter), None) => !command.get_arguments().any(|argument| argument.get_short() == Some(letter)),
        _ => true,
    }
}

/// Removes a dash of each candidate that begins with two.
fn with_single_dashes(candidates: &[u8]) -> Vec<u8> {
    let mut shortened = Vec::new();
    for part in candidates.split_inclusive(|byte| matches!(byte, b'\n' | 0x0b)) {
        shortened.extend_from_slice(if part.starts_with(b"--") { &part[1..] } else { part });
    }
    shortened
}

/// Changes to the folder of the completed command line, and completes names of its manifest.
fn enter(command: &Command, providers: &[ProviderFactory], words: &[OsString]) {
    let Ok(matches) = command.clone().ignore_errors(true).try_get_matches_from(words) else { return };
    let Ok(mut globals) = Globals::from_arg_matches(&matches) else { return };
    if let Some(folder) = &globals.chdir {
        // In a folder that does not exist, the manifest is not found.
        _ = env::set_current_dir(folder);
    }
    let ui = Ui::new(ColorChoice::Never, true, false);
    globals.no_local_commands = true;
    let invocation = Invocation::new(globals, ui).with_providers(providers);
    complete_from(Box::new(move |kind, typed| names(&invocation, kind, typed)));
}

/// Returns the names of a kind, of the invocation that the completed command line describes.
fn names(invocation: &Invocation, names: Names, typed: &str) -> Vec<String> {
    match names {
        Names::Addresses => addresses(invocation, typed).unwrap_or_default(),
        Names::Nodes => nodes(invocation).unwrap_or_default(),
        Names::Outputs => outputs(invocation).unwrap_or_default(),
        Names::Environments => environments(invocation).unwrap_or_default(),
        Names::Explained => {
            let of_manifest = [addresses(invocation, typed), environments(invocation)].into_iter().flatten().flatten();
            let codes = error_codes::all(&invocation.providers).into_iter().map(|code| code.to_string());
            explained_names(invocation.catalogue()).into_iter().chain(codes).chain(of_manifest).collect()
        }
    }
}

/// Returns the addresses of the modules and resources. If the typed text has a bracket, returns the instances that its beginning selects.
fn addresses(invocation: &Invocation, typed: &str) -> Option<Vec<String>> {
    let Some((beginning, _)) = typed.split_once('[') else {
        return Some(invocation.any_manifest().ok()?.addresses());
    };
    let instances = invocation.workspace(&Inputs::default()).ok()?.instances(&beginning.parse().ok()?).ok()?;
    Some(instances.iter().map(ToString::to_string).collect())
}

fn environments(invocation: &Invocation) -> Option<Vec<String>> {
    Some(invocation.any_manifest().ok()?.environments.keys().map(ToString::to_string).collect())
}

/// Returns the names of the nodes. If the inventory cannot be evaluated, returns those of the blocks that are one node.
fn nodes(invocation: &Invocation) -> Option<Vec<String>> {
    let workspace = invocation.workspace(&Inputs::default()).ok();
    if let Some(inventory) = workspace.and_then(|workspace| workspace.inventory().ok()) {
        return Some(inventory.iter().map(|node| node.name.0.clone()).collect());
    }
    let manifest = invocation.any_manifest().ok()?;
    let single = manifest.nodes.iter().filter(|(_, block)| block.for_each.is_none() && block.name.is_none());
    Some(single.map(|(name, _)| name.clone()).collect())
}

fn outputs(invocation: &Invocation) -> Option<Vec<String>> {
    Some(invocation.any_manifest().ok()?.outputs.keys().cloned().collect())
}
