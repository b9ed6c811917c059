//! A folder with a manifest, and runs of moorfast in it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;

/// A folder with a manifest.
pub struct Folder {
    folder: TempDir,
}

/// What a run said and how it ended.
#[derive(Debug)]
pub struct Run {
    /// The exit code.
    pub code: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

/// A manifest of two files, one of them after the other, and a secret.
pub const PAIR: &str = r#"
[variables.greeting]
type    = "string"
default = "hello"

[variables.password]
type      = "string"
default   = "s3cr3t-of-the-test"
sensitive = true

[nodes.here]
transport = "local"
roles     = ["all"]

[resource.ssh_directory.out]
on   = "here"
path = "${path.root}/out"

[resource.ssh_file.greeting]
on      = "here"
path    = "${ssh_directory.out.path}/greeting"
content = "first line\nsecond line\n${var.greeting}\n"

[resource.ssh_file.secret]
on      = "here"
path    = "${ssh_directory.out.path}/secret"
content = "${var.password}"
mode    = "0600"

[outputs.path]
value = '${ssh_file.greeting["here"].path}'

[outputs.password]
value = "${var.password}"
sensitive = true
"#;

/// How the second node of [`TWO`] is reached.
pub const NB: &str = "[nodes.nb]\ntransport = \"local\"";

/// A file on each of two nodes.
pub const TWO: &str = r#"
[nodes.na]
transport = "local"

[nodes.nb]
transport = "local"

[resource.ssh_file.a]
on      = "all"
path    = "${path.root}/${node.name}"
content = "a"
"#;

impl Folder {
    /// With this manifest.
    pub fn new(manifest: &str) -> Self {
        let folder = Self { folder: tempfile::tempdir().unwrap() };
        folder.write("main.toml", manifest);
        folder
    }

    /// Without anything in it.
    pub fn empty() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn write(&self, name: &str, text: &str) {
        fs::create_dir_all(self.path(name).parent().unwrap()).unwrap();
        fs::write(self.path(name), text).unwrap();
    }

    pub fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    /// The names of everything in it, sorted.
    pub fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.folder.path()).unwrap();
        let mut names: Vec<_> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    /// Every file in it, at any depth.
    pub fn files(&self) -> Vec<PathBuf> {
        fn collect(folder: &Path, found: &mut Vec<PathBuf>) {
            for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
                match entry.file_type().unwrap().is_dir() {
                    true => collect(&entry.path(), found),
                    false => found.push(entry.path()),
                }
            }
        }
        let mut found = Vec::new();
        collect(self.folder.path(), &mut found);
        found
    }

    /// The command, in this folder and without what the environment of the tests may hold.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_moorfast"));
        command.args(arguments).current_dir(self.folder.path()).stdin(Stdio::null());
        for (name, _) in std::env::vars_os() {
            let name = name.to_string_lossy().into_owned();
            if name.starts_with("MOORFAST_") || ["NO_COLOR", "CLICOLOR", "CLICOLOR_FORCE"].contains(&name.as_str()) {
                command.env_remove(name);
            }
        }
        command
    }

    /// Runs moorfast to its end.
    pub fn run(&self, arguments: &[&str]) -> Run {
        self.finish(assert_cmd::Command::from_std(self.command(arguments)))
    }

    /// Runs moorfast with this on its standard input.
    pub fn run_with(&self, arguments: &[&str], input: &str) -> Run {
        let mut command = assert_cmd::Command::from_std(self.command(arguments));
        command.write_stdin(input);
        self.finish(command)
    }

    fn finish(&self, mut command: assert_cmd::Command) -> Run {
        let output = command.output().unwrap();
        let text = |bytes: &[u8]| {
            let root = self.folder.path().canonicalize().unwrap();
            String::from_utf8_lossy(bytes).replace(root.to_str().unwrap(), "FOLDER")
        };
        Run { code: output.status.code().unwrap_or(-1), stdout: text(&output.stdout), stderr: text(&output.stderr) }
    }

    /// Runs moorfast, which must end with `code`.
    #[track_caller]
    pub fn expect(&self, code: i32, arguments: &[&str]) -> Run {
        let run = self.run(arguments);
        assert_eq!(run.code, code, "{arguments:?}\n{}\n{}", run.stdout, run.stderr);
        run
    }
}

impl Run {
    /// Standard output must have this in it.
    #[track_caller]
    pub fn says(&self, text: &str) -> &Self {
        assert!(self.stdout.contains(text), "no {text:?} in\n{}\n---\n{}", self.stdout, self.stderr);
        self
    }

    /// Standard error must have this in it.
    #[track_caller]
    pub fn complains(&self, text: &str) -> &Self {
        assert!(self.stderr.contains(text), "no {text:?} in\n{}\n---\n{}", self.stderr, self.stdout);
        self
    }
}
