//! Another process: this test binary, started again for one job.

use std::io::{BufRead, BufReader, Write, stdin};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use futures::future::join_all;
use jiff::Timestamp;

use super::bed::Place;
use super::{intent, large, locked, noisy, record};
use crate::settings::Settings;
use crate::{LockRequest, Outcome, Run, RunEnd, RunResult, SealKey, StateError};

const JOB: &str = "MOORFAST_STATE_TEST_JOB";
const PLACE: &str = "MOORFAST_STATE_TEST_PLACE";
const MARK: &str = "child: ";

/// The number of concurrent operations of the writer.
pub(super) const LANES: u64 = 4;

/// A child process that is killed when dropped.
pub(super) struct Other {
    child: Child,
    said: BufReader<ChildStdout>,
}

impl Other {
    pub(super) fn start(job: &str, place: impl Into<Place>) -> Self {
        Self::spawn(Command::new(std::env::current_exe().unwrap()), job, &place.into())
    }

    /// Starts it with a crash at one of its durable writes: `before:3`.
    pub(super) fn start_to_crash(job: &str, at: &str, place: &Place) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.env("MOORFAST_CRASH_AT", at);
        Self::spawn(command, job, place)
    }

    /// Starts it in another pid namespace, as if on another machine.
    pub(super) fn start_far_away(job: &str, place: &Place) -> Self {
        if !nix::unistd::geteuid().is_root() {
            println!("only root can start a process as if it were on another machine: it is started as a neighbour");
            return Self::start(job, place.clone());
        }
        let mut far = Command::new("unshare");
        far.args(["--pid", "--fork", "--kill-child"]).arg(std::env::current_exe().unwrap());
        Self::spawn(far, job, place)
    }

    /// Starts it with a limit on the size of files. Larger writes fail as on a broken disk.
    pub(super) fn start_with_small_files(job: &str, dir: &Path, kib: u64) -> Self {
        let mut shell = Command::new("sh");
        shell.args(["-c", "trap '' XFSZ; ulimit -f $(($1 * 2)); shift; exec \"$@\"", "sh", &kib.to_string()]);
        shell.arg(std::env::current_exe().unwrap());
        Self::spawn(shell, job, &dir.into())
    }

    fn spawn(mut command: Command, job: &str, place: &Place) -> Self {
        let mut child = command
            .args(["--exact", "tests::child::other_process", "--nocapture"])
            .env(JOB, job)
            .env(PLACE, serde_json::to_string(place).unwrap())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let said = BufReader::new(child.stdout.take().unwrap());
        Self { child, said }
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Returns its next line, or `None` when it ended.
    pub(super) fn hear(&mut self) -> Option<String> {
        let mut line = String::new();
        while self.said.read_line(&mut line).unwrap() > 0 {
            // Ignore a line that the kill cut off.
            if let Some((_, said)) = line.split_once(MARK)
                && let Some(said) = said.strip_suffix('\n')
            {
                return Some(said.to_owned());
            }
            line.clear();
        }
        None
    }

    /// Lets it continue after `wait_for_parent`.
    pub(super) fn nudge(&mut self) {
        writeln!(self.child.stdin.as_mut().unwrap()).unwrap();
    }

    /// Waits for its end and returns whether it succeeded.
    pub(super) fn ended_well(&mut self) -> bool {
        self.child.wait().unwrap().success()
    }

    /// Sends SIGKILL and returns the remaining lines.
    pub(super) fn kill(&mut self) -> Vec<String> {
        // `wait` closes standard input, and the process would continue until the signal arrives.
        let _stdin = self.child.stdin.take();
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        std::iter::from_fn(|| self.hear()).collect()
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn say(text: &str) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{MARK}{text}").unwrap();
    out.flush().unwrap();
}

fn wait_for_parent() {
    stdin().read_line(&mut String::new()).unwrap();
}

/// The main function of the other process. As a test it does nothing.
#[tokio::test]
async fn other_process() {
    let Ok(job) = std::env::var(JOB) else { return };
    let place: Place = serde_json::from_str(&std::env::var(PLACE).unwrap()).unwrap();
    match job.as_str() {
        "hold" => hold(&place).await,
        "hold briefly" => hold_briefly(&place).await,
        "stall" => stall(&place).await,
        "write" => write(&place).await,
        "one of each" => one_of_each(&place).await,
        "replace" => replace(&place).await,
        "write until it fails" => say(&write_large(&place).await.to_string()),
        "count" => count(&place).await,
        "come and go" => come_and_go(&place).await,
        other => panic!("no job {other}"),
    }
}

/// Holds the lock until killed.
async fn hold(place: &Place) {
    let store = place.open(Settings::default()).await;
    let lock = locked(&store).await;
    lock.begin(vec![intent("held", "ssh_file.a")]).await.unwrap();
    say(&lock.info().id);
    wait_for_parent();
}

/// The expiry of the lock of `hold_briefly`.
pub(super) const BRIEFLY: Duration = Duration::from_secs(2);

/// Holds a lock with a short expiry and renews it.
async fn hold_briefly(place: &Place) {
    let settings = Settings { expiry: BRIEFLY, heartbeat: BRIEFLY / 4, ..Settings::default() };
    let store = place.open(settings).await;
    let lock = locked(&store).await;
    say(&lock.info().id);
    // The heartbeat continues meanwhile.
    tokio::task::spawn_blocking(wait_for_parent).await.unwrap();
}

/// Holds a lock with a short expiry without renewing it; writes on request and prints the result.
async fn stall(place: &Place) {
    let settings =
        Settings { expiry: Duration::from_millis(300), heartbeat: Duration::from_secs(3600), ..Settings::default() };
    let store = place.open(settings).await;
    let lock = store.lock(LockRequest::new("stall"), Duration::ZERO).await.unwrap();
    say("held");
    wait_for_parent();
    say(match lock.put(record("ssh_file.late", 1)).await {
        Err(StateError::LockLost { .. }) if lock.lost().is_cancelled() => "lost",
        Err(_) => "failed",
        Ok(()) => "written",
    });
}

/// Writes forever, several operations at a time, and prints each acknowledged step.
async fn write(place: &Place) {
    let store = place.open(Settings::default()).await;
    let lock = locked(&store).await;
    let first = store.snapshot().await.unwrap().serial.get();
    join_all((0..LANES).map(|lane| {
        let lock = &lock;
        async move {
            for step in first.. {
                let (id, address) = (format!("{lane}-{step}"), format!("ssh_file.{lane}"));
                lock.begin(vec![intent(&id, &address)]).await.unwrap();
                say(&format!("begun {lane} {step}"));
                lock.finish(&id, Outcome::Put(record(&address, step).into())).await.unwrap();
                say(&format!("done {lane} {step}"));
            }
        }
    }))
    .await;
}

/// Makes the writes of an apply and prints each acknowledged step. The rows are large enough to be moved to shards.
async fn one_of_each(place: &Place) {
    let store = place.open(Settings::default()).await;
    let lock = locked(&store).await;
    let run = Run { id: RUN.into(), ..Run::new("apply") };
    lock.start_run(run).await.unwrap();
    say("run started");
    for step in 1..=STEPS {
        let (id, address) = (step.to_string(), format!("ssh_file.{step}"));
        lock.begin(vec![intent(&id, &address)]).await.unwrap();
        say(&format!("begun {step}"));
        lock.finish(&id, Outcome::Put(noisy(&address, 64).into())).await.unwrap();
        say(&format!("done {step}"));
    }
    lock.rename("ssh_file.1", RENAMED).await.unwrap();
    say("renamed");
    lock.finish_run(RUN, RunEnd { at: Timestamp::UNIX_EPOCH, result: RunResult::Succeeded, counts: [].into() })
        .await
        .unwrap();
    say("run ended");
    lock.release().await.unwrap();
}

/// Replaces a state by another one with another key.
async fn replace(place: &Place) {
    let store = place.open(Settings::default()).await;
    let lock = locked(&store).await;
    lock.put(record("ssh_file.old", 1)).await.unwrap();
    let mut contents = store.contents().await.unwrap();
    contents.snapshot.records = [("ssh_file.new".to_owned(), record("ssh_file.new", 1).into())].into();
    contents.key = SealKey::generate();
    lock.replace(contents).await.unwrap();
    lock.release().await.unwrap();
}

/// Writes records of 64 KiB until a write fails.
async fn write_large(place: &Place) -> StateError {
    let store = place.open(Settings::default()).await;
    let lock = locked(&store).await;
    for at in 0.. {
        match lock.put(large(&format!("ssh_file.r{at}"), 64)).await {
            Ok(()) => say(&at.to_string()),
            Err(error) => return error,
        }
    }
    unreachable!()
}

/// The number of operations of `one_of_each`, the id of its run, and the final address of the first record.
pub(super) const STEPS: u64 = 5;
pub(super) const RUN: &str = "the-run";
pub(super) const RENAMED: &str = "ssh_file.renamed";

/// The number of increments of each process.
pub(super) const COUNTS: u64 = 20;

/// Increments a shared counter, each time under a new lock.
async fn count(place: &Place) {
    let store = place.open(Settings { retry: Duration::from_millis(1), ..Settings::default() }).await;
    for _ in 0..COUNTS {
        let lock = store.lock(LockRequest::new("count"), Duration::from_secs(300)).await.unwrap();
        let found = store.snapshot().await.unwrap();
        let value =
            found.records.get("ssh_file.count").map_or(0, |record| record.attributes["value"].as_u64().unwrap());
        lock.put(record("ssh_file.count", value + 1)).await.unwrap();
        lock.release().await.unwrap();
    }
    say("counted");
}

/// Opens the state, writes once and closes it, forever.
async fn come_and_go(place: &Place) {
    for step in 0.. {
        let store = place.open(Settings::default()).await;
        locked(&store).await.put(record("ssh_file.a", step)).await.unwrap();
        drop(store);
        say(&step.to_string());
    }
}
