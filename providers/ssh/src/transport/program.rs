//! Local programs that a transport starts.

use std::io;
use std::process::ExitStatus;
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::process::Command;
use tokio::time::timeout;

/// Runs `command` and returns its status, or `None` if it did not end within `limit`. Unless it succeeds, all its child processes end too,
/// because the ssh of a jump host may wait for ever.
pub(super) async fn run_to_end(command: &mut Command, limit: Duration) -> io::Result<Option<ExitStatus>> {
    let mut child = command.process_group(0).kill_on_drop(true).spawn()?;
    let mut group = Group(child.id());
    match timeout(limit, child.wait()).await {
        Ok(status) => {
            let status = status?;
            if status.success() {
                group.0 = None;
            }
            Ok(Some(status))
        }
        Err(_) => Ok(None),
    }
}

/// A process group, which is killed on drop.
struct Group(Option<u32>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(id) = self.0.and_then(|id| i32::try_from(id).ok()) {
            // A group without processes needs no signal.
            let _ = killpg(Pid::from_raw(id), Signal::SIGKILL);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_timeout_ends_a_program_with_its_child_processes() {
        let dir = tempfile::tempdir().unwrap();
        let alive = dir.path().join("alive");
        // The grandchild holds the FIFO open for as long as it lives.
        nix::unistd::mkfifo(&alive, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let mut command = moorfast_programs::command("sh");
        command.arg("-c").arg("( exec sleep 600 ) > \"$0\" & exec sleep 600").arg(&alive);
        let opened = tokio::task::spawn_blocking(move || std::fs::read(alive));
        assert!(run_to_end(&mut command, Duration::from_secs(1)).await.unwrap().is_none());
        assert!(opened.await.unwrap().unwrap().is_empty());
    }
}
