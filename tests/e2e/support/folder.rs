//! A folder with a manifest, and runs of the binary in it.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use super::testbed::Facts;
use super::variables::worker_variables;

/// The binary under test.
pub const BINARY: &str = env!("CARGO_BIN_EXE_moorfast");

/// The file that holds the variables of a copied example.
pub const VARIABLES: &str = "test.auto.vars.toml";

/// A folder with a manifest, removed when it is dropped.
pub struct Folder {
    folder: tempfile::TempDir,
}

/// The output and the exit code of a command that ended.
#[derive(Debug)]
pub struct Run {
    /// The arguments, for messages.
    pub command: String,
    /// The exit code, -1 if a signal ended the command.
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
    pub took: Duration,
}

impl Folder {
    /// Creates a folder with this manifest in `main.toml`.
    pub fn new(manifest: &str) -> Self {
        let folder = Self::empty();
        folder.write("main.toml", manifest);
        folder
    }

    /// Creates a folder without a manifest.
    pub fn empty() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    /// Copies the manifest in `examples/NAME`, and sets its variables to `variables` (TOML).
    pub fn copy_of(name: &str, variables: &str) -> Self {
        let folder = Self::copy_of_tree(&format!("examples/{name}"));
        folder.write(VARIABLES, variables);
        folder
    }

    /// Copies the folder at `path`, relative to the root of the project, with everything in it.
    pub fn copy_of_tree(path: &str) -> Self {
        let folder = Self::empty();
        let tree = Path::new(env!("CARGO_MANIFEST_DIR")).join(path).join(".");
        assert!(Command::new("cp").arg("-r").arg(tree).arg(folder.path("")).status().unwrap().success());
        folder
    }

    /// Copies the kubelet example with only the first node of the testbed. `user` logs in to it.
    pub fn one_worker(facts: &Facts, user: &str) -> Self {
        Self::copy_of("kubelet", &worker_variables(facts, &facts.nodes[..1], user))
    }

    /// Returns the path of `name` in the folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a file and creates its folder.
    pub fn write(&self, name: &str, text: &str) {
        std::fs::create_dir_all(self.path(name).parent().unwrap()).unwrap();
        std::fs::write(self.path(name), text).unwrap();
    }

    /// Writes a program.
    ///
    /// A shell writes it, not this process: a child that another thread forks at that moment would inherit the write descriptor, and the kernel would refuse to
    /// run the program (ETXTBSY).
    pub fn write_program(&self, name: &str, text: &str) {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let write = "printf %s \"$2\" > \"$1\" && chmod 755 \"$1\"";
        let written = Command::new("sh").args(["-c", write, "sh"]).arg(&path).arg(text).status().unwrap();
        assert!(written.success(), "{name}");
    }

    /// Reads a file.
    pub fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    /// Replaces `from`, which the file must contain exactly once, with `to`.
    pub fn edit(&self, name: &str, from: &str, to: &str) {
        let text = self.read(name);
        assert_eq!(text.matches(from).count(), 1, "{from:?} in {name}");
        self.write(name, &text.replace(from, to));
    }

    /// Returns the names of all entries of the folder, sorted.
    pub fn names(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.folder.path()).unwrap();
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    /// Returns the paths of all files in the folder, at any depth.
    pub fn files(&self) -> Vec<PathBuf> {
        let mut folders = vec![self.folder.path().to_owned()];
        let mut files = Vec::new();
        while let Some(folder) = folders.pop() {
            // A running moorfast creates and removes files meanwhile.
            for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
                let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
                if is_folder { folders.push(entry.path()) } else { files.push(entry.path()) }
            }
        }
        files
    }

    /// Builds a command that runs in this folder, without the variables of the tests' own environment.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(BINARY);
        command.args(arguments).current_dir(self.folder.path()).stdin(Stdio::null());
        for (name, _) in std::env::vars_os() {
            let name = name.to_string_lossy().into_owned();
            if name.starts_with("MOORFAST_") || ["NO_COLOR", "CLICOLOR", "CLICOLOR_FORCE"].contains(&name.as_str()) {
                command.env_remove(name);
            }
        }
        command
    }

    /// Returns the same command under strace with these options. The trace is written to `trace`.
    pub fn traced(&self, options: &[&str], trace: &Path, arguments: &[&str]) -> Command {
        let command = self.command(arguments);
        let mut strace = Command::new("strace");
        strace.args(options).arg("-o").arg(trace).arg(command.get_program()).args(command.get_args());
        strace.current_dir(self.folder.path()).stdin(Stdio::null());
        for (name, _) in command.get_envs() {
            strace.env_remove(name);
        }
        strace
    }

    /// Runs a command to its end.
    pub fn run(&self, arguments: &[&str]) -> Run {
        self.start(arguments).end()
    }

    /// Runs a command with `input` on its standard input.
    pub fn run_with(&self, arguments: &[&str], input: &str) -> Run {
        let mut started = Started::new(self.command(arguments).stdin(Stdio::piped()));
        // A command that does not read its input closes the pipe.
        let _written = started.child.stdin.take().unwrap().write_all(input.as_bytes());
        started.end()
    }

    /// Runs a command, which must end with this exit code.
    #[track_caller]
    pub fn expect(&self, code: i32, arguments: &[&str]) -> Run {
        let run = self.run(arguments);
        assert_eq!(run.code, code, "{run}");
        run
    }

    /// Starts a command.
    pub fn start(&self, arguments: &[&str]) -> Started {
        self.start_in(arguments, &[])
    }

    /// Starts a command with additional variables in its environment.
    pub fn start_in(&self, arguments: &[&str], environment: &[(&str, &str)]) -> Started {
        Started::new(self.command(arguments).envs(environment.iter().copied()))
    }

    /// Runs a shell script that finds the binary by its name.
    pub fn shell(&self, script: &str) -> Run {
        let mut path = vec![Path::new(BINARY).parent().unwrap().to_owned()];
        path.extend(std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()));
        let mut command = Command::new("sh");
        command.args(["-eu", "-c", script]).current_dir(self.folder.path()).stdin(Stdio::null());
        Started::new(command.env("PATH", std::env::join_paths(&path).unwrap())).end()
    }
}

/// Whether the log of a run contains that an operation starts.
pub fn starts_operation(log: &str) -> bool {
    ["]: Creating...", "]: Modifying...", "]: Destroying...", "]: Replacing..."].iter().any(|start| log.contains(start))
}

/// A command that runs.
pub struct Started {
    child: Child,
    command: String,
    started: Instant,
}

impl Started {
    fn new(command: &mut Command) -> Self {
        let words = command.get_args().map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>();
        let started = Instant::now();
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        Self { child, command: words.join(" "), started }
    }

    /// Returns the process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal, given by its name: `INT`.
    pub fn send(&self, signal: &str) {
        let sent = Command::new("kill").args([format!("-{signal}"), self.pid().to_string()]).status();
        assert!(sent.unwrap().success(), "{signal} to {}", self.pid());
    }

    /// Kills the command.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
    }

    /// Returns whether the command has ended.
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// Waits until the command ends.
    pub fn end(self) -> Run {
        let output = self.child.wait_with_output().unwrap();
        Run { command: self.command, took: self.started.elapsed(), ..Run::of(output) }
    }
}

impl Run {
    /// Converts the output of a command that was run in another way.
    pub fn of(output: Output) -> Self {
        Self {
            command: String::new(),
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
            took: Duration::ZERO,
        }
    }

    /// Returns the line of standard output that starts with `start`.
    #[track_caller]
    pub fn line(&self, start: &str) -> &str {
        let found = self.stdout.lines().find(|line| line.starts_with(start));
        found.unwrap_or_else(|| panic!("no line starts with {start:?}\n{self}"))
    }

    /// Returns the operations that the run started on other nodes than `node`.
    pub fn operations_elsewhere(&self, node: &str) -> Vec<String> {
        let started = self.stderr.lines().filter(|line| starts_operation(line));
        started.filter(|line| !line.contains(node)).map(str::to_owned).collect()
    }

    /// Asserts that standard output contains `text`.
    #[track_caller]
    pub fn says(&self, text: &str) -> &Self {
        assert!(self.stdout.contains(text), "standard output does not contain {text:?}\n{self}");
        self
    }

    /// Asserts that standard error contains `text`.
    #[track_caller]
    pub fn complains(&self, text: &str) -> &Self {
        assert!(self.stderr.contains(text), "standard error does not contain {text:?}\n{self}");
        self
    }
}

impl std::fmt::Display for Run {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { command, code, stdout, stderr, .. } = self;
        write!(f, "moorfast {command}: exit code {code}\n--- stdout\n{stdout}\n--- stderr\n{stderr}")
    }
}
