//! The processes that a program started, also in other sessions, so that all of them can be ended.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;

use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use tokio::process::{Child, Command};

/// The environment variable that marks all processes of one program. A process inherits it wherever it moves: into another session, or to another parent.
const MARK: &str = "MOORFAST_PROGRAM_ID";
/// How often the processes are listed to end them. Each list finds those that were started since the one before.
const ROUNDS: usize = 100;

/// All processes that a program started. They are killed on drop.
pub(crate) struct Processes {
    /// The process of the program. `None` if it ended by itself.
    leader: Option<u32>,
    mark: String,
}

impl Processes {
    /// Starts a program in a process group of its own.
    ///
    /// # Errors
    /// If it cannot be started.
    pub(crate) fn start(command: &mut Command) -> io::Result<(Child, Self)> {
        let mark = format!("{:032x}", rand::random::<u128>());
        let child = command.env(MARK, &mark).process_group(0).kill_on_drop(true).spawn()?;
        let leader = child.id();
        Ok((child, Self { leader, mark }))
    }

    /// Keeps what the program left behind.
    pub(crate) fn release(mut self) {
        self.leader = None;
    }
}

impl Drop for Processes {
    fn drop(&mut self) {
        let Some(leader) = self.leader.and_then(|id| i32::try_from(id).ok()) else { return };
        // A process that cannot be signalled has ended or belongs to another user.
        let _ = killpg(Pid::from_raw(leader), Signal::SIGKILL);
        for _ in 0..ROUNDS {
            let members = self.members(leader);
            if members.is_empty() {
                return;
            }
            for member in members {
                let _ = kill(Pid::from_raw(member), Signal::SIGKILL);
            }
        }
    }
}

impl Processes {
    /// Returns the living processes that have the mark, or whose ancestor has it or is the leader.
    fn members(&self, leader: i32) -> BTreeSet<i32> {
        let mark = format!("{MARK}={}", self.mark);
        let processes: BTreeMap<i32, Process> = list();
        let is_marked = |id: i32| {
            let environment = fs::read(format!("/proc/{id}/environ"));
            environment.is_ok_and(|text| text.split(|byte| *byte == 0).any(|variable| variable == mark.as_bytes()))
        };
        let mut members: BTreeSet<i32> =
            processes.keys().copied().filter(|id| *id == leader || is_marked(*id)).collect();
        loop {
            let children = processes.iter().filter(|(_, process)| members.contains(&process.parent));
            let children: Vec<i32> = children.map(|(id, _)| *id).filter(|id| !members.contains(id)).collect();
            if children.is_empty() {
                break;
            }
            members.extend(children);
        }
        members.retain(|id| processes.get(id).is_some_and(|process| process.is_alive));
        members
    }
}

/// A process of this machine.
struct Process {
    parent: i32,
    /// Whether it has not ended yet. A process that ended is listed until its parent asks for its status.
    is_alive: bool,
}

/// Returns the processes of this machine by their id.
fn list() -> BTreeMap<i32, Process> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let ids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    ids.filter_map(|id: i32| Some((id, process(&fs::read_to_string(format!("/proc/{id}/stat")).ok()?)?))).collect()
}

/// Parses `/proc/ID/stat`. The name in parentheses can contain anything.
fn process(stat: &str) -> Option<Process> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_whitespace();
    let (state, parent) = (fields.next()?, fields.next()?.parse().ok()?);
    Some(Process { parent, is_alive: !matches!(state, "Z" | "X") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_process_can_contain_anything() {
        let Process { parent, is_alive } = process("7 (a) Z 1 (b) S 42 7 7").unwrap();
        assert_eq!((parent, is_alive), (42, true));
        assert!(!process("7 (sh) Z 1 7").unwrap().is_alive);
    }
}
