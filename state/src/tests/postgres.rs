//! A PostgreSQL server for the tests, and the tests of this store.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::LazyLock;

use super::bed::{Bed, Kind};
use super::{locked, record};
use crate::{Location, Postgres, StateError, Store};

/// Runs until its standard input is closed, which happens however the parent process ends; then removes everything.
const SERVER: &str = include_str!("postgres.sh");

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

/// Returns the URL of a database on the test server. Returns `None` and prints the reason if there is no server.
pub(super) fn url() -> Option<String> {
    match SERVER_OF_THE_TESTS.as_ref() {
        Some(server) => Some(format!("postgresql:///postgres?host={}&user=postgres&sslmode=disable", server.dir)),
        None => super::bed::skipped("there is no PostgreSQL under /usr/lib/postgresql"),
    }
}

fn at(url: &str) -> Location {
    Location::Postgres(Postgres { url: url.into(), name: "any".into(), environment: None })
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
        ("a parameter of libpq", "postgresql://localhost/db?keepalives_count=3".to_owned()),
        ("an invalid value", "postgresql://localhost/db?sslmode=verify-full".to_owned()),
        ("a password with a question mark", "postgresql://kim:a?hunter2=x@localhost/db".to_owned()),
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
    let Err(StateError::Newer { found: 7, supported: 2, .. }) =
        Store::open_existing_at(&bed.place.location, &bed.place.dir).await
    else {
        panic!()
    };
}

/// Opens a connection of the test itself, to damage rows.
async fn connection(bed: &Bed) -> (tokio_postgres::Client, String) {
    let Location::Postgres(config) = &bed.place.location else { panic!() };
    let (client, connection) = tokio_postgres::connect(&config.url, tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    (client, config.name.clone())
}

#[tokio::test]
async fn a_damaged_row_is_an_error_that_names_the_row_and_the_remedy() {
    let damages = [
        (
            r#"UPDATE moorfast_rows SET body = replace(body, '"value":1', '"value":3') WHERE name = $1"#,
            "record ssh_file.a",
        ),
        ("UPDATE moorfast_rows SET key = 'ssh_file.b' WHERE name = $1", "record ssh_file.b"),
        (r#"UPDATE moorfast_states SET head = replace(head, '"serial":1', '"serial":3') WHERE name = $1"#, "head"),
    ];
    for (sql, row) in damages {
        let Some(bed) = Bed::new(Kind::Postgres) else { return };
        locked(&bed.open().await).await.put(record("ssh_file.a", 1)).await.unwrap();
        let (client, name) = connection(&bed).await;
        assert_eq!(client.execute(sql, &[&name]).await.unwrap(), 1);
        let Err(error) = Store::open_existing_at(&bed.place.location, &bed.place.dir).await else { panic!("{sql}") };
        let text = error.to_string();
        assert!(matches!(error, StateError::Corrupt { .. }), "{text}");
        assert!(text.contains(&format!("the checksum of the row `{row}` does not match its content")), "{text}");
        assert!(text.ends_with("; restore it from a backup"), "{text}");
    }
}

#[tokio::test]
async fn a_state_without_checksums_is_read_and_gets_them_as_it_changes() {
    let Some(bed) = Bed::new(Kind::Postgres) else { return };
    let old = [record("ssh_file.a", 1), record("ssh_file.b", 1)];
    {
        let lock = locked(&bed.open().await).await;
        for record in &old {
            lock.put(record.clone()).await.unwrap();
        }
        lock.release().await.unwrap();
    }
    let (client, name) = connection(&bed).await;
    let strip = [
        "UPDATE moorfast_rows SET body = left(body, -18) WHERE name = $1",
        "UPDATE moorfast_states SET head = left(head, -18), format = 1 WHERE name = $1",
    ];
    for sql in strip {
        client.execute(sql, &[&name]).await.unwrap();
    }
    let reader = bed.open_existing().await.unwrap();
    assert!(reader.snapshot().await.unwrap().records.values().map(AsRef::as_ref).eq(&old));

    locked(&bed.open().await).await.put(record("ssh_file.a", 2)).await.unwrap();
    let format = client.query_one("SELECT format FROM moorfast_states WHERE name = $1", &[&name]).await.unwrap();
    assert_eq!(format.get::<_, i64>(0), 2, "an older moorfast refuses the state from now on");
    let with_checksum = "SELECT key FROM moorfast_rows WHERE name = $1 AND body ~ ' #[0-9a-f]{16}$'";
    let rows = client.query(with_checksum, &[&name]).await.unwrap();
    assert_eq!(rows.iter().map(|row| row.get(0)).collect::<Vec<&str>>(), ["ssh_file.a"]);
    assert_eq!(*bed.open_existing().await.unwrap().snapshot().await.unwrap().records["ssh_file.b"], old[1]);
}

/// A write whose connection breaks is repeated on a new connection, and made once.
#[tokio::test]
async fn a_broken_connection_is_opened_again() {
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
        lock.finish(&step.to_string(), crate::Outcome::Put(record("ssh_file.a", step).into())).await.unwrap();
    }
    let found = store.snapshot().await.unwrap();
    assert_eq!((found.serial.get(), found.intents.len()), (20, 0));
}
