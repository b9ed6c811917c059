//! Who this process is, and whether another one is still there.

use std::fs;

use nix::errno::Errno;
use nix::sys::signal::kill;
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

/// The name of the user that runs this process.
pub(crate) fn user() -> String {
    let uid = nix::unistd::getuid();
    match nix::unistd::User::from_uid(uid) {
        Ok(Some(user)) => user.name,
        _ => format!("uid {uid}"),
    }
}

/// The name of this machine.
pub(crate) fn host() -> String {
    nix::unistd::gethostname().map_or_else(|_| "unknown".into(), |name| name.to_string_lossy().into_owned())
}

/// A process, told apart from every other one that ever had its pid.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Process {
    /// The kernel's id of this boot: pids of another machine or another boot mean nothing here.
    boot: String,
    /// The pid namespace: another container counts its pids differently.
    namespace: String,
    /// Its number there.
    pid: u32,
    /// When it started, in clock ticks since boot.
    start: String,
}

impl Process {
    /// This process. None where the kernel has no /proc to tell.
    pub(crate) fn current() -> Option<Self> {
        let pid = std::process::id();
        Some(Self { boot: boot()?, namespace: namespace()?, pid, start: stat(pid)?.start })
    }

    /// True only where it is certain: same boot, same namespace, and nobody or somebody else under that pid.
    pub(crate) fn is_dead(&self) -> bool {
        let comparable = boot().as_ref() == Some(&self.boot) && namespace().as_ref() == Some(&self.namespace);
        comparable
            && (is_free(self.pid) || stat(self.pid).is_some_and(|found| found.ended || found.start != self.start))
    }
}

/// True where nobody has this pid. A /proc mounted with hidepid shows no strangers, so the signal is what counts.
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
    // The second field is the command in parentheses and may hold anything, so count from its end.
    let (_, rest) = text.rsplit_once(')')?;
    let fields: Vec<_> = rest.split_whitespace().collect();
    Some(Stat { ended: matches!(*fields.first()?, "Z" | "X"), start: (*fields.get(19)?).to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_lives_and_its_double_of_the_past_does_not() {
        let current = Process::current().unwrap();
        assert!(!current.is_dead());
        assert!(Process { start: "1".into(), ..current.clone() }.is_dead());
        assert!(!Process { boot: "another".into(), start: "1".into(), ..current.clone() }.is_dead());
        assert!(!Process { namespace: "pid:[1]".into(), start: "1".into(), ..current }.is_dead());
    }

    #[test]
    fn a_child_is_dead_when_it_ended_even_unreaped() {
        let mut child = std::process::Command::new("cat").stdin(std::process::Stdio::piped()).spawn().unwrap();
        let current = Process::current().unwrap();
        let process = Process { pid: child.id(), start: stat(child.id()).unwrap().start, ..current };
        assert!(!process.is_dead());
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(process.is_dead());
    }
}
