//! An S3 server for the tests: versitygw, over a folder.

use std::process::{Child, Command, Stdio};
use std::sync::LazyLock;

use crate::{Location, S3, Store};

/// The program, built by `tests/testbed/testbed s3-server`.
const PROGRAM: &str = "MOORFAST_VERSITYGW";

const BUCKET: &str = "states";

/// Runs until its standard input is closed, which happens however the parent process ends; then removes everything.
const SERVER: &str = include_str!("s3.sh");

struct Server {
    _child: Child,
    endpoint: String,
}

static SERVER_OF_THE_TESTS: LazyLock<Option<Server>> = LazyLock::new(start);

fn start() -> Option<Server> {
    let program = std::env::var_os(PROGRAM).filter(|program| !program.is_empty())?;
    // The socket never listens: a child that another thread forks meanwhile inherits it and must not block the port.
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.set_reuseaddr(true).unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let port = socket.local_addr().unwrap().port();
    let child = Command::new("sh")
        .args(["-c", SERVER, "sh"])
        .arg(program)
        .arg(port.to_string())
        .envs([("ROOT_ACCESS_KEY", KEY.0), ("ROOT_SECRET_KEY", KEY.1)])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {}
    Some(Server { _child: child, endpoint: format!("http://127.0.0.1:{port}") })
}

/// Access key and secret key of the test server.
pub(crate) const KEY: (&str, &str) = ("tester", "testers-secret");

/// Returns a state on the test server. Returns `None` and prints the reason if there is no server.
pub(super) fn config(prefix: String) -> Option<S3> {
    match SERVER_OF_THE_TESTS.as_ref() {
        Some(server) => Some(S3 {
            bucket: BUCKET.into(),
            prefix,
            region: Some("us-east-1".into()),
            endpoint: Some(server.endpoint.clone()),
            environment: None,
        }),
        None => super::bed::skipped(&format!("{PROGRAM} does not name the program versitygw")),
    }
}

#[tokio::test]
async fn what_cannot_be_opened_says_why() {
    let Some(right) = config("any".into()) else { return };
    let dir = tempfile::tempdir().unwrap();
    let config = S3 { bucket: "none".into(), ..right };
    let Err(error) = Store::open_at(&Location::S3(config), dir.path()).await else { panic!() };
    let text = error.to_string();
    assert!(text.contains("the state s3://none/any") && text.contains("refused"), "{text}");
}
