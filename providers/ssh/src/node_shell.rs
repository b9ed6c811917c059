//! The execution of scripts on one node.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use moorfast_engine::model::{self, Address, Machine, Node};
use moorfast_engine::provider::{Class, Context, Progress, ProviderError, StartPermit};
use sha2::{Digest, Sha256};
use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::{Mutex, OwnedSemaphorePermit, RwLock, Semaphore};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::answer::{self, LimitExceeded, Stderr, Stdout};
use crate::duration;
use crate::failure::LINES;
use crate::limits::QUICK_LIMIT;
use crate::machine;
use crate::preconditions::Preconditions;
use crate::script::{Script, Section};
use crate::size;
use crate::sources::{Source, changed};
use crate::transport::{Channel, Transport, from_sudo};

/// The time for a script to clean up after its stdin is closed.
const GRACE: Duration = Duration::from_secs(5);

/// The interval between two reports about an upload. On a slow connection, the first one comes long before the end.
const REPORT_INTERVAL: Duration = Duration::from_millis(500);

/// The pause between two attempts to reach a machine that reboots.
const BOOT_PAUSE: Duration = Duration::from_secs(1);

/// Counts of the work on nodes, for the statistics.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    /// The number of connections.
    pub(crate) connections: AtomicU64,
    /// The number of commands that were started on nodes over ssh.
    pub(crate) execs: AtomicU64,
    /// The number of commands that were started on this machine.
    pub(crate) local_execs: AtomicU64,
}

impl Counters {
    /// Returns the number of commands that were started over `transport`.
    fn execs_by(&self, transport: model::Transport) -> &AtomicU64 {
        match transport {
            model::Transport::Ssh => &self.execs,
            model::Transport::Local => &self.local_execs,
        }
    }
}

/// A node on which scripts run, with the transport to it.
pub(crate) struct NodeShell {
    /// The node.
    pub(crate) node: Arc<Node>,
    /// Held during an operation of the package manager, which permits one at a time.
    pub(crate) packages: Mutex<()>,
    /// What was read of the paths that the node's objects need.
    preconditions: std::sync::Mutex<Preconditions>,
    transport: Box<dyn Transport>,
    /// The machine that answered first. No other machine is changed.
    machine: OnceLock<Machine>,
    sessions: Arc<Semaphore>,
    /// Held by each script, and by a reboot alone.
    in_use: RwLock<()>,
    counters: Arc<Counters>,
    cancel: CancellationToken,
    start_permit: StartPermit,
}

/// A local file that is sent after a script.
pub(crate) struct Upload {
    /// The file.
    pub(crate) source: Arc<Source>,
    /// The receiver of the progress, the address of the instance, and the name of the file.
    pub(crate) progress: (Progress, Address, String),
}

/// The reason why a script ended.
enum ScriptEnd {
    Completed,
    TimedOut,
    Cancelled,
    LimitExceeded(LimitExceeded),
}

impl NodeShell {
    pub(crate) fn new(
        node: Arc<Node>,
        transport: Box<dyn Transport>,
        sessions: usize,
        counters: Arc<Counters>,
        context: &Context,
    ) -> Self {
        Self {
            node,
            packages: Mutex::new(()),
            preconditions: std::sync::Mutex::default(),
            transport,
            machine: OnceLock::new(),
            sessions: Arc::new(Semaphore::new(sessions)),
            in_use: RwLock::new(()),
            counters,
            cancel: context.cancel.clone(),
            start_permit: context.start_permit.clone(),
        }
    }

    /// Locks the preconditions of changes on the node, even if another holder panicked: they are never half-written.
    pub(crate) fn preconditions(&self) -> MutexGuard<'_, Preconditions> {
        self.preconditions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the machine that answers, if its identity was read already.
    pub(crate) fn machine(&self) -> Option<&Machine> {
        self.machine.get()
    }

    /// Whether a machine was reached by ssh and accepted the login.
    pub(crate) fn has_connected(&self) -> bool {
        !self.transport.host_keys().is_empty()
    }

    /// Records the machine that answers: its host keys and the answer of [`machine::READ`].
    pub(crate) fn record_machine(&self, answer: &Section) -> Machine {
        self.machine.get_or_init(|| machine::observe(&self.node, self.transport.host_keys(), Some(answer))).clone()
    }

    /// Runs `script`, which only reads, and returns its sections in order.
    ///
    /// # Errors
    /// If no section could start.
    pub(crate) async fn read(&self, script: &Script, limit: Duration) -> Result<Vec<Section>, ProviderError> {
        self.run(script, None, limit, || Ok(())).await
    }

    /// Runs `script`, which changes the node, and sends `upload` after it. The script starts only while the run permits new operations.
    ///
    /// # Errors
    /// If no section could start.
    pub(crate) async fn operate(
        &self,
        script: &Script,
        upload: Option<Upload>,
        limit: Duration,
    ) -> Result<Vec<Section>, ProviderError> {
        self.run(script, upload, limit, || self.start_permit.check(&self.node.name)).await
    }

    /// Runs `request`, which may request a reboot, while no other script runs on the node, and waits until the machine has booted again. Then it runs `after`. Returns the
    /// sections of the last script that ran. `request` reports the boot-id that will end in the field `ends_boot`. `report_wait` is called at each attempt to reach the machine.
    ///
    /// # Errors
    /// If a script could not start, or if the machine does not answer with another boot-id within `limit`.
    pub(crate) async fn reboot(
        &self,
        request: &Script,
        after: &Script,
        limit: Duration,
        report_wait: impl Fn(),
    ) -> Result<Vec<Section>, ProviderError> {
        let _alone = self.in_use.write().await;
        let end = Instant::now() + limit;
        let requested = self.run_now(request, None, limit, || self.start_permit.check(&self.node.name)).await?;
        if requested.iter().any(|section| section.status != Some(0)) {
            return Ok(requested);
        }
        if let Some(ended) = requested.iter().find_map(|section| section.field("ends_boot")) {
            self.wait_for_boot_after(ended, end, limit, report_wait).await?;
        }
        self.run_now(after, None, QUICK_LIMIT, || Ok(())).await
    }

    /// Waits until the machine answers with another boot-id than `ended`.
    async fn wait_for_boot_after(
        &self,
        ended: &str,
        end: Instant,
        limit: Duration,
        report_wait: impl Fn(),
    ) -> Result<(), ProviderError> {
        let script = Script::of(machine::READ);
        loop {
            report_wait();
            sleep(BOOT_PAUSE).await;
            match self.run_now(&script, None, QUICK_LIMIT, || Ok(())).await {
                Ok(sections) if sections.iter().any(|s| s.field("boot_id").is_some_and(|boot| boot != ended)) => {
                    return Ok(());
                }
                Err(error) if matches!(error.class, Class::Identity | Class::Cancelled) => return Err(error),
                _ if Instant::now() > end => {
                    let why = format!("the machine did not boot again within {}", duration::shown(limit));
                    return Err(ProviderError::new(Class::Timeout, why).help(
                        "look at its console; the next run finds out whether it rebooted (`timeouts = { … }` on the resource permits more time)",
                    ));
                }
                _ => {}
            }
        }
    }

    /// Runs `script` as soon as the machine does not reboot.
    async fn run(
        &self,
        script: &Script,
        upload: Option<Upload>,
        limit: Duration,
        check_permit: impl Fn() -> Result<(), ProviderError>,
    ) -> Result<Vec<Section>, ProviderError> {
        let _in_use = self.in_use.read().await;
        self.run_now(script, upload, limit, check_permit).await
    }

    async fn run_now(
        &self,
        script: &Script,
        upload: Option<Upload>,
        limit: Duration,
        check_permit: impl Fn() -> Result<(), ProviderError>,
    ) -> Result<Vec<Section>, ProviderError> {
        let _session = self.sessions.acquire().await.map_err(|_| self.cancelled())?;
        check_permit()?;
        if self.cancel.is_cancelled() {
            return Err(self.cancelled());
        }
        let text = script.text(self.machine.get().and_then(|machine| machine.machine_id.as_deref()));
        let command = bootstrap(text.len(), self.node.sudo);
        let channel = self.open(&command).await?;
        // The connection may have taken long, and nothing was sent yet.
        check_permit()?;
        tracing::debug!(node = %self.node.name, sections = script.sections(), bytes = text.len(), "exec");
        let alive = channel.alive;
        let mut stdin = channel.stdin;
        let (mut stdout, mut stderr) = (Stdout::of(script), Stderr::of(script));
        let mut sent = Ok(());
        let end = {
            let mut answers = Box::pin(async {
                tokio::try_join!(answer::read(channel.stdout, &mut stdout), answer::read(channel.stderr, &mut stderr))
            });
            let feeding = async {
                sent = feed(&mut stdin, &text, upload).await;
                if sent.is_ok() {
                    std::future::pending::<()>().await;
                }
            };
            let (end, over) = tokio::select! {
                answers = &mut answers => (answers.map_or_else(ScriptEnd::LimitExceeded, |_| ScriptEnd::Completed), true),
                () = feeding => (ScriptEnd::Completed, false),
                () = sleep(limit) => (ScriptEnd::TimedOut, false),
                () = self.cancel.cancelled() => (ScriptEnd::Cancelled, false),
            };
            drop(stdin);
            if !over {
                // The output until the script is killed can explain the failure.
                let _ = tokio::time::timeout(GRACE, answers).await;
            }
            end
        };
        drop(alive);
        sent?;
        let (stdout, stderr) = (stdout.kept(), stderr.kept());
        if script.is_elsewhere(stdout) {
            return Err(self.machine_replaced());
        }
        let sections = script.parse(stdout, &stderr);
        let before = script.before(&stderr);
        if let Some(error) = self.start_failure(&sections, &end, limit, &before) {
            return Err(error);
        }
        Ok(sections.into_iter().map(|section| self.ended(section, &end, limit)).collect())
    }

    /// Starts `script`, which only reads, as soon as the machine does not reboot, and returns its streams. The permit counts as one of the sessions of the node.
    ///
    /// # Errors
    /// If the script cannot be started.
    pub(crate) async fn start(&self, script: &str) -> Result<(Channel, OwnedSemaphorePermit), ProviderError> {
        let _in_use = self.in_use.read().await;
        let session = self.sessions.clone().acquire_owned().await.map_err(|_| self.cancelled())?;
        let mut channel = self.open(&bootstrap(script.len(), false)).await?;
        feed(&mut channel.stdin, script, None).await?;
        Ok((channel, session))
    }

    /// Starts a command, and counts it.
    async fn open(&self, command: &str) -> Result<Channel, ProviderError> {
        let channel = tokio::select! {
            channel = self.transport.open(command) => channel?,
            () = self.cancel.cancelled() => return Err(self.cancelled()),
        };
        self.counters.execs_by(self.node.transport).fetch_add(1, Ordering::Relaxed);
        Ok(channel)
    }

    fn cancelled(&self) -> ProviderError {
        ProviderError::new(Class::Cancelled, format!("cancelled before {} was contacted", self.node.name))
    }

    /// Closes the connection.
    pub(crate) async fn close(&self) {
        self.transport.close().await;
    }

    fn start_failure(
        &self,
        sections: &[Section],
        end: &ScriptEnd,
        limit: Duration,
        before: &[String],
    ) -> Option<ProviderError> {
        let started = |s: &Section| s.status.is_some() || !s.stderr.is_empty();
        if matches!(end, ScriptEnd::TimedOut | ScriptEnd::Cancelled)
            || sections.is_empty()
            || sections.iter().any(started)
        {
            return None;
        }
        Some(from_sudo(&self.node, before).unwrap_or_else(|| self.interruption(end, limit).detail(last_lines(before))))
    }

    fn ended(&self, mut section: Section, end: &ScriptEnd, limit: Duration) -> Section {
        if section.status.is_none() {
            section.interrupted =
                Some(self.interruption(end, limit).detail(last_lines(&std::mem::take(&mut section.stderr))));
        }
        section
    }

    fn machine_replaced(&self) -> ProviderError {
        ProviderError::new(
            Class::Identity,
            format!("{} was replaced by another machine during this run", self.node.name),
        )
        .help("plan again: the plan shows what happened to the node")
    }

    fn interruption(&self, end: &ScriptEnd, limit: Duration) -> ProviderError {
        let name = &self.node.name;
        match end {
            ScriptEnd::Completed => ProviderError::new(Class::Unreachable, format!("the connection to {name} was lost"))
                .help("the next run checks on the node what this run changed"),
            ScriptEnd::TimedOut => {
                ProviderError::new(Class::Timeout, format!("timed out after {}", duration::shown(limit))).help(
                    "if the operation is only slow, raise `timeouts = { … }` on the resource (`timeout` of ssh_exec)",
                )
            }
            ScriptEnd::Cancelled => ProviderError::new(Class::Cancelled, format!("cancelled while it ran on {name}")),
            ScriptEnd::LimitExceeded(limit) => {
                ProviderError::new(Class::Failed, format!("{name} printed more than {}", limit.description())).help(
                    "moorfast closed the connection: check the login shell and its profile on the node, and the output of the command",
                )
            }
        }
    }
}

/// Returns the command that reads a script of `length` bytes from stdin and runs it, with `sudo` as root.
/// The bytes after the script on stdin are left for the script.
fn bootstrap(length: usize, sudo: bool) -> String {
    let plain = format!("s=$(head -c {length}); eval \"$s\"");
    if !sudo {
        return format!("exec sh -c '{plain}'");
    }
    let quoted = format!("s=\\$(head -c {length}); eval \\\"\\$s\\\"");
    format!("exec sh -c 'if [ \"$(id -u)\" = 0 ]; then {plain}; else exec sudo -n sh -c \"{quoted}\"; fi'")
}

async fn feed(
    stdin: &mut (impl AsyncWrite + Unpin),
    script: &str,
    upload: Option<Upload>,
) -> Result<(), ProviderError> {
    // A write fails if the other side has ended. Then its output has the reason.
    if stdin.write_all(script.as_bytes()).await.is_err() || stdin.flush().await.is_err() {
        return Ok(());
    }
    match upload {
        Some(upload) => send(stdin, upload).await,
        None => Ok(()),
    }
}

/// Sends a file. Its last piece is sent only if the digest of all pieces is the known one, so that the node never keeps another content.
async fn send(stdin: &mut (impl AsyncWrite + Unpin), upload: Upload) -> Result<(), ProviderError> {
    let Upload { source, progress: (progress, address, name) } = upload;
    let unreadable =
        |e: std::io::Error| ProviderError::new(Class::Failed, format!("cannot read {}: {e}", source.path.display()));
    let mut file = tokio::fs::File::open(&source.path).await.map_err(unreadable)?.take(source.size);
    let mut buffer = vec![0; 256 << 10];
    let mut digest = Sha256::new();
    let (mut sent, mut reported) = (0, Instant::now());
    while sent < source.size {
        let n = file.read(&mut buffer).await.map_err(unreadable)?;
        digest.update(&buffer[..n]);
        sent += n as u64;
        let is_known = || format!("{:x}", digest.clone().finalize()) == source.sha256;
        if n == 0 || (sent == source.size && !is_known()) {
            return Err(changed(&source.path));
        }
        if stdin.write_all(&buffer[..n]).await.is_err() {
            return Ok(());
        }
        if reported.elapsed() >= REPORT_INTERVAL {
            reported = Instant::now();
            progress.report(&address, uploading(&name, sent, source.size));
        }
    }
    // A flush fails if the other side has ended, as above.
    let _ = stdin.flush().await;
    Ok(())
}

/// Returns the progress of an upload.
fn uploading(name: &str, sent: u64, size: u64) -> String {
    let percent = sent.saturating_mul(100).checked_div(size).unwrap_or(100);
    format!("uploading {name}: {} of {} ({percent} %)", size::shown(sent), size::shown(size))
}

/// Returns the last of `lines`, as many as an error shows.
fn last_lines(lines: &[String]) -> Vec<String> {
    lines[lines.len().saturating_sub(LINES)..].to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_progress_of_an_upload_has_a_unit_that_fits_its_size() {
        assert_eq!(uploading("kubelet", 0, 3 << 20), "uploading kubelet: 0 B of 3.0 MiB (0 %)");
        assert_eq!(uploading("kubelet", 600 << 10, 3 << 20), "uploading kubelet: 600.0 KiB of 3.0 MiB (19 %)");
        assert_eq!(uploading("empty", 0, 0), "uploading empty: 0 B of 0 B (100 %)");
    }

    #[tokio::test]
    async fn the_last_piece_of_a_changed_file_is_not_sent() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        let planned = vec![1; 300 << 10];
        std::fs::write(&path, &planned).unwrap();
        let source = Source::read(&path).unwrap();
        let upload = || Upload {
            source: Arc::new(source.clone()),
            progress: (Progress(None), "ssh_file.f".parse().unwrap(), "f".to_owned()),
        };
        let mut received = Vec::new();
        send(&mut received, upload()).await.unwrap();
        assert!(received == planned);

        for changed in [[vec![2], planned[1..].to_vec()].concat(), planned[1..].to_vec()] {
            std::fs::write(&path, changed).unwrap();
            let mut received = Vec::new();
            let error = send(&mut received, upload()).await.unwrap_err();
            assert!(error.summary.ends_with("changed while moorfast was working"), "{error}");
            assert!(received.len() < planned.len());
        }
    }
}
