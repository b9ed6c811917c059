//! The real binary, run in a folder of its own.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use super::testbed::Facts;
use super::variables::kubelet_variables;

/// A manifest in a folder that may be edited, its variables and its state.
pub struct Moorfast {
    folder: tempfile::TempDir,
}

/// How a command ended.
#[derive(Debug)]
pub struct Run {
    pub command: String,
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
    pub took: Duration,
}

impl Moorfast {
    /// A copy of the manifest in `example`, with the variables of `vars` (TOML).
    pub fn copy_of(example: &str, vars: &str) -> Self {
        let this = Self::empty();
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples").join(example);
        for file in std::fs::read_dir(&source).expect("the example is there").flatten() {
            if file.path().is_file() {
                std::fs::copy(file.path(), this.path(&file.file_name().to_string_lossy()))
                    .expect("a file can be copied");
            }
        }
        this.write("test.vars.toml", vars);
        this
    }

    /// The kubelet example with the first node of this testbed alone.
    pub fn one_worker(facts: &Facts) -> Self {
        let this = Self::copy_of("kubelet", &kubelet_variables(facts, "root"));
        let nodes = std::fs::read_to_string(this.path("nodes.toml")).expect("the example has its nodes");
        let (first, _) = nodes.split_once("[nodes.m7-autocv-gpu02]").expect("it has a second one");
        this.write("nodes.toml", first);
        this
    }

    /// A manifest of one file.
    pub fn with(manifest: &str) -> Self {
        let this = Self::empty();
        this.write("moorfast.toml", manifest);
        this.write("test.vars.toml", "");
        this
    }

    fn empty() -> Self {
        Self { folder: tempfile::tempdir().expect("there is room for a folder") }
    }

    /// The path of `name` in the folder of the manifest.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a file of the manifest.
    pub fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).expect("the folder can be written");
    }

    /// Changes a file of the manifest.
    ///
    /// # Panics
    /// Where `from` is not in it exactly once.
    pub fn edit(&self, name: &str, from: &str, to: &str) {
        let text = std::fs::read_to_string(self.path(name)).expect("the file is there");
        assert_eq!(text.matches(from).count(), 1, "{from:?} in {name}");
        self.write(name, &text.replace(from, to));
    }

    /// Runs a command.
    pub fn run(&self, arguments: &[&str]) -> Run {
        let started = Instant::now();
        let output = self.command(arguments).output().expect("the binary can be run");
        Run::new(arguments, output, started)
    }

    /// Runs a command, and expects this exit code.
    pub fn expect(&self, code: i32, arguments: &[&str]) -> Run {
        let run = self.run(arguments);
        assert_eq!(run.code, code, "{run}");
        run
    }

    /// Starts a command.
    pub fn start(&self, arguments: &[&str]) -> Started {
        self.start_in(arguments, &[])
    }

    /// Starts a command with more in its environment.
    pub fn start_in(&self, arguments: &[&str], environment: &[(&str, &str)]) -> Started {
        let mut command = self.command(arguments);
        command.envs(environment.iter().copied());
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        let arguments = arguments.iter().map(|a| (*a).to_owned()).collect();
        Started { child: child.expect("the binary can be run"), arguments, started: Instant::now() }
    }

    /// A command, to be run.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let (name, rest) = arguments.split_first().expect("there is a command");
        let mut command = Command::new(env!("CARGO_BIN_EXE_moorfast"));
        command.current_dir(self.folder.path()).stdin(Stdio::null()).arg(name);
        if takes_variables(name) {
            command.args(["--var-file", "test.vars.toml"]);
        }
        command.args(rest);
        // Its options belong to the commands below it.
        if *name == "node" {
            command.args(["--var-file", "test.vars.toml"]);
        }
        command
    }

    /// Runs a script of a shell that finds the binary by its name.
    pub fn shell(&self, script: &str) -> Run {
        let started = Instant::now();
        let mut path = vec![Path::new(env!("CARGO_BIN_EXE_moorfast")).parent().expect("it is in a folder").to_owned()];
        path.extend(std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()));
        let output = Command::new("sh")
            .args(["-eu", "-c", script])
            .current_dir(self.folder.path())
            .env("PATH", std::env::join_paths(&path).expect("the paths have no colons"))
            .stdin(Stdio::null())
            .output();
        Run::new(&[script], output.expect("sh can be run"), started)
    }

    /// Every file that moorfast wrote, and those of the manifest.
    pub fn files(&self) -> Vec<PathBuf> {
        let mut folders = vec![self.folder.path().to_owned()];
        let mut files = Vec::new();
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
                let path = entry.path();
                if path.is_dir() { folders.push(path) } else { files.push(path) }
            }
        }
        files
    }
}

fn takes_variables(command: &str) -> bool {
    ["validate", "plan", "apply", "destroy", "drift", "graph", "console"].contains(&command)
}

/// A command that runs.
pub struct Started {
    child: Child,
    arguments: Vec<String>,
    started: Instant,
}

impl Started {
    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends it a signal by its name: `INT`.
    pub fn send(&self, signal: &str) {
        let sent = Command::new("kill").args([format!("-{signal}"), self.pid().to_string()]).status();
        assert!(sent.expect("kill can be run").success(), "{signal} to {}", self.pid());
    }

    /// Kills it, if it has not ended.
    pub fn kill(&mut self) {
        self.child.kill().expect("a child can be killed");
    }

    /// Has it ended?
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().expect("a child can be waited for").is_some()
    }

    /// Waits until it ended.
    pub fn end(self) -> Run {
        let output = self.child.wait_with_output().expect("a child can be waited for");
        let arguments: Vec<_> = self.arguments.iter().map(String::as_str).collect();
        Run::new(&arguments, output, self.started)
    }
}

impl Run {
    fn new(arguments: &[&str], output: Output, started: Instant) -> Self {
        Self {
            command: arguments.join(" "),
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
            took: started.elapsed(),
        }
    }

    /// What is known of a command that ended.
    pub fn of(output: Output) -> Self {
        Self::new(&[], output, Instant::now())
    }

    /// The line of standard output that begins so.
    pub fn line(&self, start: &str) -> &str {
        let found = self.stdout.lines().find(|line| line.starts_with(start));
        found.unwrap_or_else(|| panic!("no line begins with {start:?}\n{self}"))
    }

    /// Does it say this on standard output?
    pub fn says(&self, text: &str) -> &Self {
        assert!(self.stdout.contains(text), "{text:?} is not said\n{self}");
        self
    }

    /// Does it complain like this on standard error?
    pub fn complains(&self, text: &str) -> &Self {
        assert!(self.stderr.contains(text), "{text:?} is not said on standard error\n{self}");
        self
    }
}

impl std::fmt::Display for Run {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { command, code, stdout, stderr, .. } = self;
        write!(f, "moorfast {command}: exit code {code}\n--- stdout\n{stdout}\n--- stderr\n{stderr}")
    }
}
