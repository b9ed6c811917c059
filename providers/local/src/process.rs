//! Runs a program with limits on its time and its output, and ends everything that it started if a limit is exceeded.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use moorfast_engine::state::bounded;
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::Command;
use tokio::time::timeout;
use uuid::Uuid;

/// The prefix of the environment variables with values of the manifest's variables, some of them secret.
const VARIABLE_PREFIX: &str = "MOORFAST_VAR_";
/// The environment variable that marks all processes of one program. A process inherits it wherever it moves: into another session, or to another parent.
const MARK: &str = "MOORFAST_COMMAND_ID";
/// The part of the error output that is kept, in bytes.
const STDERR_LIMIT: usize = 4 << 10;
/// How often the processes are listed to end them. Each list finds those that were started since the one before.
const ROUNDS: usize = 100;

/// A program to run.
pub(crate) struct Program<'a> {
    /// The program: a name in PATH, or a path.
    pub(crate) name: &'a str,
    /// The arguments.
    pub(crate) arguments: &'a [&'a str],
    /// The text for its standard input.
    pub(crate) stdin: &'a str,
    /// Environment variables in addition to those of this process.
    pub(crate) environment: &'a [(&'a str, &'a str)],
    /// The working directory.
    pub(crate) folder: &'a Path,
    /// How long it may run.
    pub(crate) timeout: Duration,
    /// How many bytes it may print.
    pub(crate) limit: usize,
}

/// The result of a program that ended by itself.
pub(crate) struct Output {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: Vec<u8>,
    /// The end of the error output.
    pub(crate) stderr: Vec<u8>,
}

/// The reason why a program has no result.
#[derive(Debug)]
pub(crate) enum RunError {
    /// The program was not started.
    NotStarted(io::Error),
    /// The program did not end in time.
    TimedOut,
    /// The program printed too much.
    TooMuchOutput,
    /// The input or output failed.
    Failed(io::Error),
}

/// Runs a program to its end. If it does not end by itself, or the future is dropped, all its processes are killed.
///
/// A process that clears its environment and whose ancestors have ended is not found. Only a container could hold such a process.
///
/// # Errors
/// If the program does not start, or exceeds its time or the size of its output.
pub(crate) async fn run(program: &Program<'_>) -> Result<Output, RunError> {
    let mark = Uuid::new_v4().to_string();
    let mut command = Command::new(program.name);
    let variables = std::env::vars_os().map(|(name, _)| name);
    for name in variables.filter(|name| name.to_string_lossy().starts_with(VARIABLE_PREFIX)) {
        command.env_remove(name);
    }
    let spawned = command
        .args(program.arguments)
        .envs(program.environment.iter().copied())
        .env(MARK, &mark)
        .current_dir(program.folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true)
        .spawn();
    let mut child = spawned.map_err(RunError::NotStarted)?;
    let mut family = Family { leader: child.id(), mark };
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let finished = async {
        let (_, stdout, stderr) =
            tokio::try_join!(write(stdin, program.stdin), read_bounded(stdout, program.limit), async {
                read_end(stderr).await.map_err(RunError::Failed)
            },)?;
        let status = child.wait().await.map_err(RunError::Failed)?;
        Ok(Output { status, stdout, stderr })
    };
    let output = timeout(program.timeout, finished).await.unwrap_or(Err(RunError::TimedOut))?;
    // It ended by itself. What it left in the background, such as an agent, stays.
    family.leader = None;
    Ok(output)
}

/// Writes the input. A program may end without reading it.
async fn write(stdin: Option<impl tokio::io::AsyncWrite + Unpin>, text: &str) -> Result<(), RunError> {
    let Some(mut stdin) = stdin else { return Ok(()) };
    match stdin.write_all(text.as_bytes()).await {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(RunError::Failed(error)),
        _ => Ok(()),
    }
}

async fn read_bounded(stream: Option<impl AsyncRead + Unpin>, limit: usize) -> Result<Vec<u8>, RunError> {
    let mut bytes = Vec::new();
    if let Some(stream) = stream {
        let most = (limit as u64).saturating_add(1);
        stream.take(most).read_to_end(&mut bytes).await.map_err(RunError::Failed)?;
    }
    if bytes.len() > limit { Err(RunError::TooMuchOutput) } else { Ok(bytes) }
}

/// Reads a stream to its end and keeps its last bytes.
async fn read_end(stream: Option<impl AsyncRead + Unpin>) -> io::Result<Vec<u8>> {
    let mut end = Vec::new();
    let Some(mut stream) = stream else { return Ok(end) };
    let mut chunk = [0; STDERR_LIMIT];
    loop {
        let length = stream.read(&mut chunk).await?;
        if length == 0 {
            return Ok(end);
        }
        end.extend_from_slice(chunk.get(..length).unwrap_or_default());
        end.drain(..end.len().saturating_sub(STDERR_LIMIT));
    }
}

/// All processes that a program started. They are killed on drop.
struct Family {
    /// The process of the program. `None` if it ended by itself.
    leader: Option<u32>,
    mark: String,
}

impl Drop for Family {
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

impl Family {
    /// Returns the living processes that have the mark, or whose ancestor has it or is the leader.
    fn members(&self, leader: i32) -> BTreeSet<i32> {
        let mark = format!("{MARK}={}", self.mark);
        let processes: BTreeMap<i32, Process> = list();
        let is_marked = |id: i32| {
            let environment = bounded::read(Path::new(&format!("/proc/{id}/environ")), bounded::TEXT);
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

    fn shell<'a>(arguments: &'a [&'a str], folder: &'a Path, seconds: u64) -> Program<'a> {
        Program {
            name: "sh",
            arguments,
            stdin: "",
            environment: &[],
            folder,
            timeout: Duration::from_secs(seconds),
            limit: 1 << 20,
        }
    }

    #[tokio::test]
    async fn a_timeout_ends_every_process_even_in_another_session_and_without_its_parents() {
        let dir = tempfile::tempdir().unwrap();
        let alive = dir.path().join("alive");
        // Each process holds the FIFO open for as long as it lives.
        nix::unistd::mkfifo(&alive, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let script = "exec >alive; setsid sleep 600 & (setsid sh -c 'sleep 600 & exit' &) ; env -i sleep 600 & wait";
        let opened = tokio::task::spawn_blocking(move || fs::read(alive));
        let result = run(&shell(&["-c", script], dir.path(), 1)).await;
        assert!(matches!(result, Err(RunError::TimedOut)));
        assert!(opened.await.unwrap().unwrap().is_empty());
    }

    #[tokio::test]
    async fn output_without_end_is_an_error_and_takes_no_memory() {
        let result = run(&shell(&["-c", "yes"], Path::new("/"), 60)).await;
        assert!(matches!(result, Err(RunError::TooMuchOutput)));
    }

    #[tokio::test]
    async fn the_end_of_the_error_output_is_kept() {
        let script = "i=0; while [ $i -lt 2000 ]; do echo line $i >&2; i=$((i+1)); done; exit 3";
        let output = run(&shell(&["-c", script], Path::new("/"), 60)).await.ok().unwrap();
        assert_eq!((output.status.code(), output.stdout.len()), (Some(3), 0));
        assert!(output.stderr.len() <= STDERR_LIMIT && output.stderr.ends_with(b"line 1999\n"));
    }

    #[tokio::test]
    async fn a_program_may_leave_its_input_unread() {
        let stdin = "x".repeat(1 << 20);
        let program = Program { stdin: &stdin, ..shell(&["-c", "echo done"], Path::new("/"), 60) };
        assert_eq!(run(&program).await.ok().unwrap().stdout, b"done\n");
    }

    #[test]
    fn the_name_of_a_process_can_contain_anything() {
        let Process { parent, is_alive } = process("7 (a) Z 1 (b) S 42 7 7").unwrap();
        assert_eq!((parent, is_alive), (42, true));
        assert!(!process("7 (sh) Z 1 7").unwrap().is_alive);
    }
}
