//! Servers for states: PostgreSQL, and one that speaks S3. Each ends with the test.

use std::io::{BufRead, BufReader};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use super::testbed::is_required;

const POSTGRES: &str = include_str!("../../../state/src/tests/postgres.sh");
const S3: &str = include_str!("../../../state/src/tests/s3.sh");

/// The access key and the secret key of the S3 server.
pub const KEY: (&str, &str) = ("tester", "testers-secret");

/// A running server. It ends when its standard input is closed.
pub struct Server {
    _child: Child,
    /// The `[backend.TYPE]` of a state on the server, as an inline table.
    pub backend: String,
}

/// Starts a PostgreSQL server. Prints the reason and returns `None` if there is none on this machine.
pub fn postgres() -> Option<Server> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").ok().into_iter().flatten().flatten();
    let programs: Option<PathBuf> =
        versions.map(|version| version.path().join("bin")).filter(|bin| bin.join("initdb").exists()).max();
    let Some(programs) = programs else { return skipped("there is no PostgreSQL under /usr/lib/postgresql") };
    let mut child = shell(POSTGRES).arg(programs).stdout(Stdio::piped()).spawn().unwrap();
    let mut folder = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut folder).unwrap();
    assert!(folder.starts_with('/'), "the server did not start: {folder}");
    let url = format!("postgresql:///postgres?host={}&user=postgres&sslmode=disable", folder.trim_end());
    Some(Server { _child: child, backend: format!("{{ postgres = {{ url = \"{url}\", name = \"network\" }} }}") })
}

/// Starts an S3 server. Prints the reason and returns `None` if its program cannot be built.
pub fn s3() -> Option<Server> {
    let testbed = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/testbed/testbed");
    let built = Command::new(testbed).arg("s3-server").stdin(Stdio::null()).stderr(Stdio::inherit()).output().unwrap();
    if !built.status.success() {
        return skipped("versitygw cannot be built");
    }
    let program = String::from_utf8(built.stdout).unwrap();
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let keys = [("ROOT_ACCESS_KEY", KEY.0), ("ROOT_SECRET_KEY", KEY.1)];
    let mut command = shell(S3);
    let child = command.arg(program.trim_end()).arg(port.to_string()).envs(keys).stdout(Stdio::null()).spawn().unwrap();
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        std::thread::yield_now();
    }
    let settings = format!(
        "bucket = \"states\", prefix = \"network\", region = \"us-east-1\", endpoint = \"http://127.0.0.1:{port}\""
    );
    Some(Server { _child: child, backend: format!("{{ s3 = {{ {settings} }} }}") })
}

fn shell(script: &str) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", script, "sh"]).stdin(Stdio::piped()).stderr(Stdio::null());
    command
}

fn skipped<T>(reason: &str) -> Option<T> {
    assert!(!is_required(), "the servers are required, but {reason}");
    eprintln!("skipped: {reason}");
    None
}
