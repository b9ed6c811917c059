//! Runs a program of this machine without its user's configuration, without network and within limits.

use std::io;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::Command;
use tokio::time::timeout;

/// The limit of the output in bytes. The largest public charts print about 5 MB.
const OUTPUT_LIMIT: u64 = 64 << 20;
/// The limit of the error output in bytes. What comes after it is dropped.
const MESSAGE_LIMIT: u64 = 16 << 10;
/// The address at which no proxy listens: requests fail at once.
const NO_PROXY_HERE: &str = "http://127.0.0.1:9";

/// The result of a program that ended by itself.
#[derive(Debug)]
pub(super) struct Output {
    pub(super) status: ExitStatus,
    pub(super) stdout: Vec<u8>,
    /// The lines of the error output.
    pub(super) message: Vec<String>,
}

/// The reason why a program has no result.
#[derive(Debug, thiserror::Error)]
pub(super) enum RunError {
    #[error("did not end within {0:?} and was stopped")]
    TimedOut(Duration),
    #[error("printed more than {} MiB", OUTPUT_LIMIT >> 20)]
    TooMuchOutput,
    #[error("cannot be run: {0}")]
    Failed(#[from] io::Error),
}

/// Returns the path of the program `name` in `search_path`, the value of PATH.
pub(super) fn find(name: &str, search_path: &std::ffi::OsStr) -> Option<PathBuf> {
    use std::os::unix::fs::PermissionsExt;
    let is_program = |path: &PathBuf| path.metadata().is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0);
    // A relative entry of PATH would make the program part of the manifest's folder.
    let folders = std::env::split_paths(search_path).filter(|folder| folder.is_absolute());
    folders.map(|folder| folder.join(name)).find(is_program)
}

/// Runs `program` in `folder` to its end. It is killed if it exceeds a limit, or if the future is dropped.
///
/// The program has an empty home folder, finds no other program, and its HTTP requests fail.
///
/// # Errors
/// If the program does not start, or exceeds its time or the size of its output.
pub(super) async fn run(
    program: &Path,
    arguments: &[String],
    folder: &Path,
    stdin: &[u8],
    limit: Duration,
) -> Result<Output, RunError> {
    let home = tempfile::tempdir()?;
    let mut child = Command::new(program)
        .args(arguments)
        .current_dir(folder)
        .env_clear()
        .envs(["HOME", "TMPDIR", "PATH"].map(|name| (name, home.path())))
        .envs(["HTTP_PROXY", "HTTPS_PROXY"].map(|name| (name, NO_PROXY_HERE)))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let (input, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let finished = async {
        let ((), stdout, message) = tokio::try_join!(write(input, stdin), read(stdout), read_message(stderr))?;
        Ok(Output { status: child.wait().await?, stdout, message })
    };
    timeout(limit, finished).await.unwrap_or(Err(RunError::TimedOut(limit)))
}

/// Writes the input. A program that fails may end without reading it.
async fn write(stream: Option<impl tokio::io::AsyncWrite + Unpin>, bytes: &[u8]) -> Result<(), RunError> {
    let Some(mut stream) = stream else { return Ok(()) };
    match stream.write_all(bytes).await {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}

async fn read(stream: Option<impl AsyncRead + Unpin>) -> Result<Vec<u8>, RunError> {
    let mut bytes = Vec::new();
    if let Some(stream) = stream {
        stream.take(OUTPUT_LIMIT + 1).read_to_end(&mut bytes).await?;
    }
    if bytes.len() as u64 > OUTPUT_LIMIT { Err(RunError::TooMuchOutput) } else { Ok(bytes) }
}

/// Reads all of the error output, so that the program can go on, and returns the lines of its beginning.
async fn read_message(stream: Option<impl AsyncRead + Unpin>) -> Result<Vec<String>, RunError> {
    let Some(mut stream) = stream else { return Ok(Vec::new()) };
    let mut bytes = Vec::new();
    (&mut stream).take(MESSAGE_LIMIT).read_to_end(&mut bytes).await?;
    tokio::io::copy(&mut stream, &mut tokio::io::sink()).await?;
    Ok(String::from_utf8_lossy(&bytes).lines().filter(|line| !line.trim().is_empty()).map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    async fn shell(script: &str, limit: Duration) -> Result<Output, RunError> {
        run(Path::new("/bin/sh"), &["-c".to_owned(), script.to_owned()], Path::new("/"), b"input", limit).await
    }

    const MINUTE: Duration = Duration::from_secs(60);

    #[tokio::test]
    async fn a_program_has_an_empty_home_and_no_network() {
        let output =
            shell("echo *; cd \"$HOME\"; echo *; read line; echo \"$line\"; echo \"$HTTPS_PROXY\"; ls", MINUTE)
                .await
                .unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let lines: Vec<_> = text.lines().skip(1).collect();
        assert_eq!(lines, ["*", "input", NO_PROXY_HERE]);
        // The shell found no `ls`.
        assert_eq!(output.status.code(), Some(127));
        assert!(output.message[0].contains("ls"), "{:?}", output.message);
    }

    #[tokio::test]
    async fn a_program_that_does_not_end_or_prints_without_end_is_stopped() {
        let error = shell("while :; do :; done", Duration::from_millis(200)).await.unwrap_err();
        assert_eq!(error.to_string(), "did not end within 200ms and was stopped");
        let error = shell("while :; do echo yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy; done", MINUTE).await.unwrap_err();
        assert_eq!(error.to_string(), "printed more than 64 MiB");
        let many = "i=0; while [ $i -lt 9999 ]; do echo line $i >&2; i=$((i+1)); done; exit 3";
        let output = shell(many, MINUTE).await.unwrap();
        assert_eq!((output.status.code(), output.message[0].as_str()), (Some(3), "line 0"));
        assert!(output.message.join("\n").len() as u64 <= MESSAGE_LIMIT);
    }

    #[test]
    fn a_program_is_an_executable_file_in_an_absolute_folder_of_path() {
        let dir = tempfile::tempdir().unwrap();
        let (a, b) = (dir.path().join("a"), dir.path().join("b"));
        for (folder, mode) in [(&a, 0o644), (&b, 0o755)] {
            fs::create_dir(folder).unwrap();
            fs::write(folder.join("helm"), "").unwrap();
            fs::set_permissions(folder.join("helm"), fs::Permissions::from_mode(mode)).unwrap();
        }
        let search_path = std::env::join_paths([&a, &b]).unwrap();
        assert_eq!(find("helm", &search_path), Some(b.join("helm")));
        assert_eq!(find("kustomize", &search_path), None);
        assert_eq!(find("sh", OsStr::new("bin:../../bin:.")), None);
    }
}
