//! `moorfast state`

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use moorfast_engine::model::{Address, Decoded, Pattern, Recorded, ResourceAddress, nearest};
use moorfast_engine::state::{Record, RunEnd, RunResult, Snapshot, StateError, Store};

use crate::completer::{Names, completer};
use crate::error::Error;
use crate::exit::Exit;
use crate::invocation::Invocation;
use crate::planning::parse_duration;
use crate::render::record;
use crate::render::text::{Line, Text};

pub(super) mod files;

const EXAMPLES: &str = r#"Examples:
  moorfast state list                      list the recorded objects
  moorfast state show ssh_file.motd        show a record
  moorfast state history                   list the runs
  moorfast state backup FILE               write a copy of the state"#;

/// Inspect and modify the state.
///
/// Inspects and modifies the state. Never reads or changes a node or cluster.
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub struct State {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// List the addresses of all instances
    List {
        /// List only these resources or instances
        #[arg(value_name = "ADDRESS", add = completer(Names::Addresses))]
        addresses: Vec<Pattern>,
    },
    /// Show an instance
    Show {
        /// The address of an instance; a resource without a key selects all of its instances
        address: Pattern,
        /// Print the instance as JSON
        #[arg(long)]
        json: bool,
    },
    /// Remove instances from the state, without destroying their objects
    Rm {
        /// The addresses of instances; a resource without a key selects all of its instances
        #[arg(value_name = "ADDRESS", required = true, add = completer(Names::Addresses))]
        addresses: Vec<Pattern>,
        #[command(flatten)]
        waiting: Waiting,
    },
    /// Move an instance to another address
    Mv {
        /// The old address; a resource without a key selects all of its instances, which keep their keys
        from: Pattern,
        /// The new address
        to: Pattern,
        #[command(flatten)]
        waiting: Waiting,
    },
    /// Print the state as JSON
    Pull,
    /// Replace the state with one from `state pull`
    Push(files::Push),
    /// Write the state with its history and its key to a file
    Backup {
        /// The new file; it must not exist
        file: PathBuf,
    },
    /// Replace the state with a backup
    Restore(files::Restore),
    /// Remove the lock of a run that no longer exists
    Unlock {
        /// The ID of the lock, as in the error message about the lock
        id: String,
    },
    /// List the runs, newest first
    History {
        /// Maximum number of runs
        #[arg(short = 'n', long, default_value = "20")]
        limit: usize,
    },
}

/// The option about waiting for the lock.
#[derive(Debug, clap::Args)]
pub struct Waiting {
    /// Maximum time to wait for the state lock
    #[arg(long, value_name = "DURATION", default_value = "0s", value_parser = parse_duration)]
    pub lock_timeout: Duration,
}

impl State {
    pub(super) async fn run(self, invocation: &Invocation) -> Result<Exit, Error> {
        match self.command {
            Command::List { addresses } => list(invocation, &addresses).await,
            Command::Show { address, json } => show(invocation, &address, json).await,
            Command::Rm { addresses, waiting } => remove(invocation, &addresses, waiting.lock_timeout).await,
            Command::Mv { from, to, waiting } => rename(invocation, &from, &to, waiting.lock_timeout).await,
            Command::Pull => files::pull(invocation).await,
            Command::Push(command) => command.run(invocation).await,
            Command::Backup { file } => files::backup(invocation, &file).await,
            Command::Restore(command) => command.run(invocation).await,
            Command::Unlock { id } => unlock(invocation, &id).await,
            Command::History { limit } => {
                let store = existing(invocation).await?.0;
                // A run may start or end at the same time. It holds the lock either before or after its entry is read.
                let before = store.lock_info().await?;
                let runs = store.runs(limit).await?;
                let holder = before.or(store.lock_info().await?);
                invocation.ui.out(record::history(&runs, holder.as_ref()))
            }
        }?;
        Ok(Exit::Success)
    }
}

/// Returns the existing state.
async fn existing(invocation: &Invocation) -> Result<(Store, Snapshot), Error> {
    let store = invocation.state().await?;
    let snapshot = store.snapshot().await?;
    Ok((store, snapshot))
}

async fn list(invocation: &Invocation, patterns: &[Pattern]) -> Result<(), Error> {
    let snapshot = invocation.filled(&invocation.state().await?).await?;
    let found = |address: &Address| patterns.iter().any(|pattern| address.matches(pattern));
    let lines: Text = match patterns.is_empty() {
        // This lists a record without a valid address too.
        true => snapshot.records.keys().map(|address| Line::from(address.as_str())).collect(),
        false => Decoded::of(&snapshot).addresses().filter(|a| found(a)).map(|a| Line::from(a.to_string())).collect(),
    };
    invocation.ui.out(lines)
}

/// The records that `pattern` names: the one with exactly this address, or all instances of the resource.
fn named(snapshot: &Snapshot, pattern: &Pattern) -> Result<Vec<(Address, Recorded)>, Error> {
    let decoded = Decoded::of(snapshot).records;
    let named = |pattern: &Pattern| decoded.iter().filter(|(address, _)| address.matches(pattern)).cloned().collect();
    if let Some(exact) = decoded.iter().find(|(address, _)| Pattern::Resource(address.clone()) == *pattern) {
        return Ok(vec![exact.clone()]);
    }
    let found: Vec<_> = named(pattern);
    if !found.is_empty() {
        return Ok(found);
    }
    let instances: Vec<_> = named(&pattern.block());
    let name = pattern.to_string();
    let help = match near(pattern, &decoded).as_slice() {
        _ if !instances.is_empty() => format!("its instances are {}", first_of(&instances)),
        [] => return Err(StateError::NoRecord { address: name }.into()),
        [only] => format!("did you mean `{only}`? `moorfast state list` lists all addresses"),
        several => format!("similar addresses are {}; `moorfast state list` lists all", listed(several)),
    };
    Err(Error::usage(format!("the state has no resource `{name}`"), help))
}

/// The number of addresses that a message lists.
const FEW: usize = 8;

/// Returns the addresses that `pattern` probably means: those of the same name in another module, and those with a similar text.
fn near(pattern: &Pattern, records: &[(Address, Recorded)]) -> Vec<String> {
    let name = pattern.to_string();
    let namesake = |address: &Address| match pattern {
        Pattern::Resource(wanted) => {
            let module = wanted.resource.module.clone();
            let resource = ResourceAddress { module, ..(*address.resource).clone() };
            Pattern::Resource(Address::new(resource, wanted.key.clone()))
        }
        Pattern::Module(_) => Pattern::Module(address.resource.module.clone()),
    };
    // A pattern without a key is compared without keys.
    let text = |address: &Address| match pattern {
        Pattern::Resource(wanted) if wanted.key.is_none() => address.resource.to_string(),
        Pattern::Resource(_) => address.to_string(),
        Pattern::Module(path) if path.without_keys() == *path => address.resource.module.without_keys().to_string(),
        Pattern::Module(_) => address.resource.module.to_string(),
    };
    let known: BTreeSet<_> =
        records.iter().map(|(address, _)| (namesake(address) != *pattern, text(address))).collect();
    let (mut found, mut rest) = (Vec::new(), Vec::new());
    known.into_iter().for_each(|(is_other, text)| if is_other { rest.push(text) } else { found.push(text) });
    while let Some(best) = nearest(&name, rest.iter().map(String::as_str)).map(str::to_owned) {
        rest.retain(|text| *text != best);
        found.push(best);
    }
    found
}

/// Returns the first addresses, and how many more there are.
fn listed(addresses: &[String]) -> String {
    let shown: Vec<_> = addresses.iter().take(FEW).map(|address| format!("`{address}`")).collect();
    let more = addresses.len().saturating_sub(FEW);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    shown.join(", ") + &more
}

/// Returns the first addresses of some records, and how many more there are.
fn first_of(records: &[(Address, Recorded)]) -> String {
    listed(&records.iter().map(|(address, _)| address.to_string()).collect::<Vec<_>>())
}

async fn show(invocation: &Invocation, address: &Pattern, json: bool) -> Result<(), Error> {
    let (_, snapshot) = existing(invocation).await?;
    let named = named(&snapshot, address)?;
    let records: Vec<&Record> = named.iter().map(|(_, record)| &**record).collect();
    if json {
        let text = match records.as_slice() {
            [only] if only.address == address.to_string() => serde_json::to_string_pretty(only),
            all => serde_json::to_string_pretty(all),
        };
        return invocation.ui.json(text.map_err(|error| Error::Output(error.into()))? + "\n");
    }
    let options = invocation.text_options(true);
    invocation.ui.out(Text::separated(records.iter().map(|found| record::record(found, options))))
}

async fn remove(invocation: &Invocation, patterns: &[Pattern], timeout: Duration) -> Result<(), Error> {
    let (_, snapshot) = existing(invocation).await?;
    let mut addresses = BTreeSet::new();
    for pattern in patterns {
        addresses.extend(named(&snapshot, pattern)?.into_iter().map(|(_, record)| record.address.clone()));
    }
    let store = invocation.store().await?;
    let lock = invocation.lock(&store, "state rm", timeout).await?;
    let run = invocation.new_run(format!("state rm {}", texts(patterns)));
    lock.start_run(run.clone()).await?;
    for address in &addresses {
        lock.remove(address).await?;
    }
    lock.finish_run(&run.id, succeeded("forgotten", addresses.len())).await?;
    lock.release().await?;
    let lines: String = addresses.iter().map(|address| format!("Removed {address} from the state\n")).collect();
    invocation.ui.out(lines)
}

async fn rename(invocation: &Invocation, from: &Pattern, to: &Pattern, timeout: Duration) -> Result<(), Error> {
    existing(invocation).await?;
    let store = invocation.store().await?;
    let lock = invocation.lock(&store, "state mv", timeout).await?;
    let moves = moves(&store.snapshot().await?, from, to)?;
    let run = invocation.new_run(format!("state mv {from} {to}"));
    lock.start_run(run.clone()).await?;
    for (from, to) in &moves {
        lock.rename(from, to).await?;
    }
    lock.finish_run(&run.id, succeeded("moved", moves.len())).await?;
    lock.release().await?;
    let lines: String = moves.iter().map(|(from, to)| format!("Moved {from} to {to}\n")).collect();
    invocation.ui.out(lines)
}

/// Returns the old and the new address of each record to move.
fn moves(snapshot: &Snapshot, from: &Pattern, to: &Pattern) -> Result<Vec<(String, String)>, Error> {
    let found = named(snapshot, from)?;
    if !from.has_same_type(to) {
        return Err(Error::usage(
            format!("cannot move `{from}` to `{to}`: the types differ"),
            "a record can only get another name or key; to manage the object with another type, remove it from the state with `moorfast state rm` and import it",
        ));
    }
    let is_one = matches!(found.as_slice(), [(address, _)] if Pattern::Resource(address.clone()) == *from);
    if !is_one && to.key().is_some() {
        let message = format!("cannot move {} instances of `{from}` to the one address `{to}`", found.len());
        return Err(Error::usage(message, format!("select one of {}", first_of(&found))));
    }
    let mut moves = Vec::new();
    for (address, record) in found {
        let Some(new) = address.moved(from, to) else {
            let message = format!("cannot move `{address}` to `{to}`: `{from}` names no key, but `{to}` does");
            return Err(Error::usage(message, "name the key of both, or of none; instances keep their keys"));
        };
        if snapshot.records.contains_key(&new.to_string()) {
            return Err(StateError::RecordExists { address: new.to_string() }.into());
        }
        moves.push((record.address.clone(), new.to_string()));
    }
    Ok(moves)
}

fn texts(patterns: &[Pattern]) -> String {
    patterns.iter().map(Pattern::to_string).collect::<Vec<_>>().join(" ")
}

pub(super) fn succeeded(what: &str, count: usize) -> RunEnd {
    let counts = [(what.to_owned(), count as u64)].into();
    RunEnd { at: jiff::Timestamp::now(), result: RunResult::Succeeded, counts }
}

async fn unlock(invocation: &Invocation, id: &str) -> Result<(), Error> {
    existing(invocation).await?;
    invocation.store().await?.force_unlock(id).await?;
    invocation.ui.out("The state is unlocked. The run that held the lock can no longer write to it.\n")
}
