//! The identity of processes, and whether a process is still alive.

use std::fs;

use nix::errno::Errno;
use nix::sys::signal::kill;
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

/// Returns the name of the user that runs this process.
pub(crate) fn user() -> String {
    let uid = nix::unistd::getuid();
    match nix::unistd::User::from_uid(uid) {
        Ok(Some(user)) => user.name,
        _ => format!("uid {uid}"),
    }
}

/// Returns the name of this machine.
pub(crate) fn host() -> String {
    nix::unistd::gethostname().map_or_else(|_| "unknown".into(), |name| name.to_string_lossy().into_owned())
}

/// A process, distinguishable from all other processes that had the same pid.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Process {
    /// The boot id of the kernel: pids of another machine or another boot cannot be compared.
    boot: String,
    /// The pid namespace: another container has other pids.
    namespace: String,
    /// The pid in this namespace.
    pid: u32,
    /// The start time in clock ticks since boot.
    start: String,
}

impl Process {
    /// Returns this process, or `None` if /proc is not available.
    pub(crate) fn current() -> Option<Self> {
        let pid = std::process::id();
        Some(Self { boot: boot()?, namespace: namespace()?, pid, start: stat(pid)?.start })
    }

    /// Returns whether the process is certainly dead: same boot, same namespace, and the pid is free or belongs to another process.
    pub(crate) fn is_dead(&self) -> bool {
        let comparable = boot().as_ref() == Some(&self.boot) && namespace().as_ref() == Some(&self.namespace);
        comparable
            && (is_free(self.pid) || stat(self.pid).is_some_and(|found| found.ended || found.start != self.start))
    }
}

/// Returns whether no process has this pid. Uses a signal, because a /proc with hidepid hides processes of other users.
fn is_free(pid: u32) -> bool {
    i32::try_from(pid).is_ok_and(|pid| kill(Pid::from_raw(pid), None) == Err(Errno::ESRCH))
}

fn boot() -> Option<String> {
    Some(fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?.trim().to_owned())
}

fn namespace() -> Option<String> {
    Some(fs::read_link("/proc/self/ns/pid").ok()?.to_string_lossy().into_owned())
}

struct Stat {
    ended: bool,
    start: String,
}

fn stat(pid: u32) -> Option<Stat> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is the command in parentheses and can contain any character, so count from its end.
    let (_, rest) = text.rsplit_once(')')?;
    let fields: Vec<_> = rest.split_whitespace().collect();
    Some(Stat { ended: matches!(*fields.first()?, "Z" | "X"), start: (*fields.get(19)?).to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_dead_if_its_pid_has_another_start_time() {
        let current = Process::current().unwrap();
        assert!(!current.is_dead());
        assert!(Process { start: "1".into(), ..current.clone() }.is_dead());
        assert!(!Process { boot: "another".into(), start: "1".into(), ..current.clone() }.is_dead());
        assert!(!Process { namespace: "pid:[1]".into(), start: "1".into(), ..current }.is_dead());
    }

    #[test]
    fn a_zombie_is_dead() {
        let mut child = std::process::Command::new("cat").stdin(std::process::Stdio::piped()).spawn().unwrap();
        let current = Process::current().unwrap();
        let process = Process { pid: child.id(), start: stat(child.id()).unwrap().start, ..current };
        assert!(!process.is_dead());
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(process.is_dead());
    }
}
