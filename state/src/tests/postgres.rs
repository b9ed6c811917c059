//! A PostgreSQL server for the tests, and what is particular to the store in it.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::LazyLock;

use super::bed::{Bed, Kind};
use super::{locked, record};
use crate::{Location, Postgres, StateError, Store};

/// Runs until its standard input ends, as it does with the process that holds it, however that ends; then nothing is left.
const SERVER: &str = r#"
    bin=$1 dir=$(mktemp -d) && chmod 755 "$dir" || exit
    as() { "$@"; }
    if [ "$(id -u)" = 0 ]; then chown postgres "$dir"; as() { setpriv --reuid=postgres --regid=postgres --init-groups "$@"; }; fi
    cd "$dir" && as "$bin/initdb" -D "$dir/data" -A trust -U postgres >"$dir/log" 2>&1 || { cat "$dir/log"; exit 1; }
    as "$bin/postgres" -D "$dir/data" -k "$dir" -c listen_addresses= >>"$dir/log" 2>&1 &
    until "$bin/pg_isready" -q -h "$dir"; do kill -0 $! || { cat "$dir/log"; exit 1; }; done
    echo "$dir"
    cat >/dev/null
    kill -INT "$(head -n 1 "$dir/data/postmaster.pid")"
    wait
    rm -rf "$dir"
"#;

struct Server {
    _child: Child,
    dir: String,
}

static SERVER_OF_THE_TESTS: LazyLock<Option<Server>> = LazyLock::new(start);

fn start() -> Option<Server> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").ok()?;
    let bins = versions.filter_map(|version| Some(version.ok()?.path().join("bin")));
    let bin: PathBuf = bins.filter(|bin| bin.join("initdb").exists()).max()?;
    let mut child = Command::new("sh")
        .args(["-c", SERVER, "sh"])
        .arg(bin)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut dir = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut dir).unwrap();
    assert!(dir.starts_with('/'), "the server did not start: {dir}");
    Some(Server { _child: child, dir: dir.trim_end().to_owned() })
}

/// The URL of a database on the server of the tests. None, with a printed reason, where there is none.
pub(super) fn url() -> Option<String> {
    match SERVER_OF_THE_TESTS.as_ref() {
        Some(server) => Some(format!("postgresql:///postgres?host={}&user=postgres&sslmode=disable", server.dir)),
        None => super::bed::skipped("there is no PostgreSQL under /usr/lib/postgresql"),
    }
}

fn at(url: &str) -> Location {
    Location::Postgres(Postgres { url: url.into(), name: "any".into() })
}

async fn opened(url: &str) -> String {
    let dir = tempfile::tempdir().unwrap();
    match Store::open_existing_at(&at(url), dir.path()).await {
        Ok(found) => format!("{}", found.is_some()),
        Err(error) => error.to_string(),
    }
}

#[tokio::test]
async fn what_cannot_be_opened_says_why_and_no_password() {
    let Some(url) = url() else { return };
    let dir = url.split(['=', '&']).nth(1).unwrap();
    let cases = [
        ("no URL", "localhost".to_owned()),
        ("a password", "postgresql://kim:hunter2@localhost/db".to_owned()),
        ("a password in a broken URL", "postgresql://kim:hunter2@localhost:port/db".to_owned()),
        ("no such database", url.replace("///postgres", "///none")),
        ("no such user", url.replace("user=postgres", "user=nobody")),
    ];
    let mut said = String::new();
    for (name, url) in cases {
        said += &format!("{name}: {}\n", opened(&url).await.replace(dir, "DIR"));
    }
    assert!(!said.contains("hunter2"));
    insta::assert_snapshot!(said);
}

#[tokio::test]
async fn a_newer_format_is_refused() {
    let Some(bed) = Bed::new(Kind::Postgres) else { return };
    locked(&bed.open().await).await.put(record("ssh_file.a", 1)).await.unwrap();
    let Location::Postgres(config) = &bed.place.location else { panic!() };
    let (client, connection) = tokio_postgres::connect(&config.url, tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    client.execute("UPDATE moorfast_states SET format = 7 WHERE name = $1", &[&config.name]).await.unwrap();
    let Err(StateError::Newer { found: 7, supported: 1, .. }) =
        Store::open_existing_at(&bed.place.location, &bed.place.dir).await
    else {
        panic!()
    };
}

/// A connection that breaks is made anew, and what was being written is written once.
#[tokio::test]
async fn a_broken_connection_is_made_anew() {
    let Some(bed) = Bed::new(Kind::Postgres) else { return };
    let store = bed.open().await;
    let lock = locked(&store).await;
    let Location::Postgres(config) = &bed.place.location else { panic!() };
    let (client, connection) = tokio_postgres::connect(&config.url, tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    let cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'moorfast ' || $1";
    for step in 0..20 {
        lock.begin(vec![super::intent(&step.to_string(), "ssh_file.a")]).await.unwrap();
        client.execute(cut, &[&config.name]).await.unwrap();
        lock.finish(&step.to_string(), crate::Outcome::Put(record("ssh_file.a", step))).await.unwrap();
    }
    let found = store.snapshot().await.unwrap();
    assert_eq!((found.serial.get(), found.intents.len()), (20, 0));
}
