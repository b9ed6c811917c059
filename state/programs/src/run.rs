//! Running a program to its end within limits.

use std::io;
use std::process::ExitStatus;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::process::Command;
use tokio::time::timeout;

use crate::processes::Processes;

/// The limits of a program.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// How long it may run.
    pub time: Duration,
    /// How many bytes it may print.
    pub output: usize,
    /// The part of its error output that is kept. The rest is read and dropped.
    pub errors: Kept,
}

/// A part of a stream, with its size in bytes.
#[derive(Clone, Copy, Debug)]
pub enum Kept {
    /// The beginning.
    Start(usize),
    /// The end.
    End(usize),
}

/// The result of a program that ended by itself.
#[derive(Debug)]
pub struct Output {
    /// The exit status.
    pub status: ExitStatus,
    /// The output.
    pub stdout: Vec<u8>,
    /// The kept part of the error output.
    pub stderr: Vec<u8>,
}

/// The reason why a program has no result.
#[derive(Debug)]
pub enum RunError {
    /// The program was not started.
    NotStarted(io::Error),
    /// The program did not end in time.
    TimedOut,
    /// The program printed too much.
    TooMuchOutput,
    /// The input or output failed.
    Failed(io::Error),
}

/// Runs a program to its end, with `input` for its standard input. Streams that `command` does not pipe have no content.
///
/// If it does not end by itself, or the future is dropped, all its processes are killed. A process that clears its environment and whose ancestors have
/// ended is not found. Only a container could hold such a process.
///
/// # Errors
/// If the program does not start, or exceeds a limit.
pub async fn run(command: &mut Command, input: &[u8], limits: &Limits) -> Result<Output, RunError> {
    let (mut child, processes) = Processes::start(command).map_err(RunError::NotStarted)?;
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let finished = async {
        let errors = async { read_errors(stderr, limits.errors).await.map_err(RunError::Failed) };
        let ((), stdout, stderr) = tokio::try_join!(write(stdin, input), read(stdout, limits.output), errors)?;
        let status = child.wait().await.map_err(RunError::Failed)?;
        Ok(Output { status, stdout, stderr })
    };
    let output = timeout(limits.time, finished).await.unwrap_or(Err(RunError::TimedOut))?;
    // It ended by itself. What it left in the background, such as an agent, stays.
    processes.release();
    Ok(output)
}

/// Writes the input. A program may end without reading it.
async fn write(stream: Option<impl AsyncWrite + Unpin>, input: &[u8]) -> Result<(), RunError> {
    let Some(mut stream) = stream else { return Ok(()) };
    match stream.write_all(input).await {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(RunError::Failed(error)),
        _ => Ok(()),
    }
}

async fn read(stream: Option<impl AsyncRead + Unpin>, limit: usize) -> Result<Vec<u8>, RunError> {
    let mut bytes = Vec::new();
    if let Some(stream) = stream {
        let most = (limit as u64).saturating_add(1);
        stream.take(most).read_to_end(&mut bytes).await.map_err(RunError::Failed)?;
    }
    if bytes.len() > limit { Err(RunError::TooMuchOutput) } else { Ok(bytes) }
}

/// Reads a stream to its end, so that the program can go on, and returns the kept part.
async fn read_errors(stream: Option<impl AsyncRead + Unpin>, kept: Kept) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let Some(mut stream) = stream else { return Ok(bytes) };
    let mut chunk = [0; 4 << 10];
    loop {
        let length = stream.read(&mut chunk).await?;
        if length == 0 {
            return Ok(bytes);
        }
        bytes.extend_from_slice(chunk.get(..length).unwrap_or_default());
        match kept {
            Kept::Start(size) => bytes.truncate(size),
            Kept::End(size) => _ = bytes.drain(..bytes.len().saturating_sub(size)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;
    use std::process::Stdio;

    use super::*;

    fn shell(script: &str, folder: &Path) -> Command {
        let mut command = crate::command("sh");
        command.arg("-c").arg(script).current_dir(folder);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn limits(seconds: u64, errors: Kept) -> Limits {
        Limits { time: Duration::from_secs(seconds), output: 1 << 20, errors }
    }

    #[tokio::test]
    async fn a_timeout_ends_every_process_even_in_another_session_and_without_its_parents() {
        let dir = tempfile::tempdir().unwrap();
        let alive = dir.path().join("alive");
        // Each process holds the FIFO open for as long as it lives.
        nix::unistd::mkfifo(&alive, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let script = "exec >alive; setsid sleep 600 & (setsid sh -c 'sleep 600 & exit' &) ; env -i sleep 600 & wait";
        let opened = tokio::task::spawn_blocking(move || fs::read(alive));
        let result = run(&mut shell(script, dir.path()), b"", &limits(1, Kept::End(0))).await;
        assert!(matches!(result, Err(RunError::TimedOut)));
        assert!(opened.await.unwrap().unwrap().is_empty());
    }

    #[tokio::test]
    async fn output_without_end_is_an_error_and_takes_no_memory() {
        let result = run(&mut shell("yes", Path::new("/")), b"", &limits(60, Kept::End(0))).await;
        assert!(matches!(result, Err(RunError::TooMuchOutput)));
    }

    #[tokio::test]
    async fn the_beginning_or_the_end_of_the_error_output_is_kept() {
        const SIZE: usize = 4 << 10;
        let script = "i=0; while [ $i -lt 2000 ]; do echo line $i >&2; i=$((i+1)); done; exit 3";
        let output = run(&mut shell(script, Path::new("/")), b"", &limits(60, Kept::End(SIZE))).await.unwrap();
        assert_eq!((output.status.code(), output.stdout.len()), (Some(3), 0));
        assert!(output.stderr.len() <= SIZE && output.stderr.ends_with(b"line 1999\n"));
        let output = run(&mut shell(script, Path::new("/")), b"", &limits(60, Kept::Start(SIZE))).await.unwrap();
        assert!(output.stderr.len() <= SIZE && output.stderr.starts_with(b"line 0\n"));
    }

    #[tokio::test]
    async fn a_program_may_leave_its_input_unread() {
        let input = vec![b'x'; 1 << 20];
        let output = run(&mut shell("echo done", Path::new("/")), &input, &limits(60, Kept::End(0))).await.unwrap();
        assert_eq!(output.stdout, b"done\n");
    }
}
