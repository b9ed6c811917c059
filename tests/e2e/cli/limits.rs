//! Limits: slow hosts, endless files, and users without write access to the state.

use std::fs;
use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::cli::manifests::PAIR;
use crate::support::folder::{BINARY, Folder};

/// A host key that no host has. It pins the nodes, so that moorfast connects without a check before.
const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHJ1cQk8r6gDyBqaTq5bBqNCnvA0hJvX3n1yDQ6Hk0Fq";

/// Starts a listener that serves every connection with `serve`. Returns its port and the number of connections.
fn host(serve: impl Fn(TcpStream) + Send + Sync + Copy + 'static) -> (u16, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (port, count) = (listener.local_addr().unwrap().port(), Arc::new(AtomicUsize::new(0)));
    let counted = Arc::clone(&count);
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            counted.fetch_add(1, Ordering::SeqCst);
            thread::spawn(move || serve(stream));
        }
    });
    (port, count)
}

/// Sends a byte now and then, but never an SSH banner.
fn drip(mut stream: TcpStream) {
    while stream.write_all(b"x").is_ok() {
        thread::park_timeout(Duration::from_millis(500));
    }
}

/// Sends the SSH banner and then nothing.
fn greet(mut stream: TcpStream) {
    let _sent = stream.write_all(b"SSH-2.0-OpenSSH_9.2\r\n");
    silent(stream);
}

fn silent(stream: TcpStream) {
    let _open = stream;
    thread::park();
}

/// Returns a manifest with a file on one node for each port.
fn nodes(ports: impl IntoIterator<Item = u16>) -> String {
    let mut text = "[providers.ssh]\nconnect_timeout = \"1s\"\n".to_owned();
    for (i, port) in ports.into_iter().enumerate() {
        text += &format!("[nodes.n{i}]\naddress = \"127.0.0.1\"\nport = {port}\nhost_key = \"{KEY}\"\n");
    }
    text + "[resource.ssh_file.f]\non = \"all\"\npath = \"/nowhere\"\ncontent = \"x\"\n"
}

#[test]
fn a_slow_host_times_out_and_does_not_delay_others() {
    let hosts: Vec<_> = (0..12).map(|i| host([drip, silent, greet][i % 3])).collect();
    let folder = Folder::new(&nodes(hosts.iter().map(|(port, _)| *port)));
    let begin = Instant::now();
    let run = folder.expect(1, &["plan"]);
    // Each host may take 6 s. One after the other in sixes would be twice that.
    assert!(begin.elapsed() < Duration::from_secs(11), "{:?}", begin.elapsed());
    assert_eq!(run.stderr.matches("cannot connect to n").count(), 12, "{run:?}");
    for (port, count) in hosts {
        assert_eq!(count.load(Ordering::SeqCst), 1, "a host that failed is not tried again: {port}");
    }
}

#[test]
fn a_silent_server_gets_few_connections_for_any_number_of_nodes() {
    let (port, count) = host(silent);
    let folder = Folder::new(&nodes([port; 100]));
    let run = folder.expect(1, &["plan"]);
    assert_eq!(run.stderr.matches("cannot connect to n").count(), 100, "{run:?}");
    assert!(count.load(Ordering::SeqCst) <= 6, "{count:?}");
}

#[track_caller]
fn larger(folder: &Folder, arguments: &[&str], limit: &str) {
    let run = folder.expect(1, arguments);
    assert!(run.stderr.contains(&format!("it is larger than {limit}")), "{run:?}");
}

#[test]
fn an_endless_file_is_an_error_with_the_limit() {
    let folder = Folder::new("");
    folder.write("main.toml", "[outputs.big]\nvalue = \"${file(\\\"big\\\")}\"\n");
    fs::File::create(folder.path("big")).unwrap().set_len(1 << 40).unwrap();
    larger(&folder, &["plan"], "64 MiB");
    folder.write("main.toml", "[variables.a]\ntype = \"string\"\n");
    larger(&folder, &["plan", "--var-file", "/dev/zero"], "16 MiB");
    larger(&folder, &["show", "/dev/zero"], "256 MiB");
}

/// Runs a command as a user that does not own the folder. Returns `None` if only root could do that.
fn as_reader(folder: &Folder, arguments: &[&str]) -> Option<std::process::Output> {
    if !is_root() {
        eprintln!("skipped: only root can become another user");
        return None;
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups", BINARY]);
    Some(command.args(arguments).current_dir(folder.path("")).env("HOME", "/nonexistent").output().unwrap())
}

fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|own| std::os::unix::fs::MetadataExt::uid(&own) == 0)
}

#[test]
fn read_access_to_the_state_is_enough_to_read() {
    let folder = Folder::new(PAIR);
    folder.expect(0, &["apply", "-auto-approve"]);
    let own = folder.path(".moorfast");
    for (path, mode) in
        [("", 0o755), (".moorfast", 0o750), (".moorfast/state.db", 0o640), (".moorfast/state.key", 0o640)]
    {
        fs::set_permissions(folder.path(path), fs::Permissions::from_mode(mode)).unwrap();
        if is_root() && !path.is_empty() {
            std::os::unix::fs::chown(folder.path(path), None, Some(65534)).unwrap();
        }
    }
    fs::set_permissions(folder.path("out/secret"), fs::Permissions::from_mode(0o644)).unwrap();
    let before = fs::read_dir(&own).unwrap().count();
    let Some(drift) = as_reader(&folder, &["drift"]) else { return };
    assert_eq!(drift.status.code(), Some(2), "{drift:?}");
    assert!(String::from_utf8_lossy(&drift.stdout).contains("ssh_file.secret"), "{drift:?}");
    let plan = as_reader(&folder, &["plan", "-lock=false"]).unwrap();
    assert_eq!(plan.status.code(), Some(0), "{plan:?}");
    let console = as_reader(&folder, &["console", "-e", "var.greeting"]).unwrap();
    assert_eq!(console.status.code(), Some(0), "{console:?}");
    let locked = as_reader(&folder, &["plan"]).unwrap();
    assert_eq!(locked.status.code(), Some(1), "{locked:?}");
    assert_eq!(fs::read_dir(&own).unwrap().count(), before, "a reader creates no file");
}
