//! Runs a program of this machine without its user's configuration, without network and within limits.

use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use moorfast_programs::{Kept, Limits, RunError};
use tokio::process::Command;

/// The limit of the output in bytes. The largest public charts print about 5 MB.
const OUTPUT_LIMIT: usize = 64 << 20;
/// The limit of the error output in bytes. The rest is dropped.
const MESSAGE_LIMIT: usize = 16 << 10;
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

/// Returns the path of the program `name` in `search_path`, the value of PATH.
pub(super) fn find(name: &str, search_path: &std::ffi::OsStr) -> Option<PathBuf> {
    use std::os::unix::fs::PermissionsExt;
    let is_program = |path: &PathBuf| path.metadata().is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0);
    // A relative entry of PATH would make the program part of the manifest's folder.
    let folders = std::env::split_paths(search_path).filter(|folder| folder.is_absolute());
    folders.map(|folder| folder.join(name)).find(is_program)
}

/// Runs `program` in `folder` to its end. It is killed with everything that it started if it exceeds a limit, or if the future is dropped.
///
/// The program has an empty home folder, finds no other program, and its HTTP requests fail.
///
/// # Errors
/// If the program does not start, or exceeds its time or the size of its output: the reason, for a message that starts with the name of the program.
pub(super) async fn run(
    program: &Path,
    arguments: &[String],
    folder: &Path,
    stdin: &[u8],
    limit: Duration,
) -> Result<Output, String> {
    let failed = |error: std::io::Error| format!("cannot be run: {error}");
    let home = tempfile::tempdir().map_err(failed)?;
    let mut command = Command::new(program);
    command
        .args(arguments)
        .current_dir(folder)
        .env_clear()
        .envs(["HOME", "TMPDIR", "PATH"].map(|name| (name, home.path())))
        .envs(["HTTP_PROXY", "HTTPS_PROXY"].map(|name| (name, NO_PROXY_HERE)))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let limits = Limits { time: limit, output: OUTPUT_LIMIT, errors: Kept::Start(MESSAGE_LIMIT) };
    let output = moorfast_programs::run(&mut command, stdin, &limits).await.map_err(|error| match error {
        RunError::TimedOut => format!("did not end within {limit:?} and was stopped"),
        RunError::TooMuchOutput => format!("printed more than {} MiB", OUTPUT_LIMIT >> 20),
        RunError::NotStarted(error) | RunError::Failed(error) => failed(error),
    })?;
    let message = String::from_utf8_lossy(&output.stderr);
    let message = message.lines().filter(|line| !line.trim().is_empty()).map(str::to_owned).collect();
    Ok(Output { status: output.status, stdout: output.stdout, message })
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    async fn shell(script: &str, limit: Duration) -> Result<Output, String> {
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
        assert!(output.message.join("\n").len() <= MESSAGE_LIMIT);
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
