//! One node, as a place where scripts run.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use moorfast_engine::{Address, Class, Context, Leave, Machine, Node, Progress, ProviderError};
use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::{Mutex, Semaphore};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::answer::{self, Excess, Stderr, Stdout};
use crate::duration;
use crate::failure::LINES;
use crate::ground::Grounds;
use crate::machine;
use crate::script::{Script, Section};
use crate::transport::{Transport, from_sudo};

/// How long a script may still take to clean up after it was told to end.
const GRACE: Duration = Duration::from_secs(5);

/// What was asked of the world so far.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    /// Connections made.
    pub(crate) connections: AtomicU64,
    /// Commands started on nodes.
    pub(crate) execs: AtomicU64,
}

/// A node and the way to it.
pub(crate) struct Link {
    /// The node.
    pub(crate) node: Arc<Node>,
    /// Held by those who use the package manager, which takes one at a time.
    pub(crate) packages: Mutex<()>,
    /// What was read of the places that its objects need.
    pub(crate) grounds: std::sync::Mutex<Grounds>,
    transport: Box<dyn Transport>,
    /// Which machine answered first. Nothing is done on another one.
    machine: OnceLock<Machine>,
    sessions: Semaphore,
    counters: Arc<Counters>,
    cancel: CancellationToken,
    leave: Leave,
}

/// A file to send after the script.
pub(crate) struct Upload {
    /// Where it is on this machine.
    pub(crate) path: PathBuf,
    /// How many bytes are sent.
    pub(crate) size: u64,
    /// Who wants to hear how far it is, and the name to use.
    pub(crate) progress: (Progress, Address, String),
}

/// Why a script came to its end.
enum End {
    Itself,
    TimedOut,
    Cancelled,
    Excess(Excess),
}

impl Link {
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
            grounds: std::sync::Mutex::default(),
            transport,
            machine: OnceLock::new(),
            sessions: Semaphore::new(sessions),
            counters,
            cancel: context.cancel.clone(),
            leave: context.leave.clone(),
        }
    }

    /// Which machine answers, if it was asked already.
    pub(crate) fn machine(&self) -> Option<&Machine> {
        self.machine.get()
    }

    /// Notes which machine answers: it showed its host keys, and said this.
    pub(crate) fn meet(&self, said: &Section) -> Machine {
        self.machine.get_or_init(|| machine::observe(&self.node, self.transport.host_keys(), Some(said))).clone()
    }

    /// Runs `script`, which only looks. The sections, in their order, each as far as it answered.
    ///
    /// # Errors
    /// If none of them could begin.
    pub(crate) async fn look(&self, script: &Script, limit: Duration) -> Result<Vec<Section>, ProviderError> {
        self.run(script, None, limit, || Ok(())).await
    }

    /// As [`Link::look`], of `script` which changes something, and which `upload` is sent after. It is begun only as long as the run has leave.
    ///
    /// # Errors
    /// If none of its sections could begin.
    pub(crate) async fn operate(
        &self,
        script: &Script,
        upload: Option<Upload>,
        limit: Duration,
    ) -> Result<Vec<Section>, ProviderError> {
        self.run(script, upload, limit, || self.leave.check(&self.node.name)).await
    }

    async fn run(
        &self,
        script: &Script,
        upload: Option<Upload>,
        limit: Duration,
        may_begin: impl Fn() -> Result<(), ProviderError>,
    ) -> Result<Vec<Section>, ProviderError> {
        let cancelled =
            || ProviderError::new(Class::Cancelled, format!("cancelled before {} was contacted", self.node.name));
        let _session = self.sessions.acquire().await.map_err(|_| cancelled())?;
        may_begin()?;
        if self.cancel.is_cancelled() {
            return Err(cancelled());
        }
        let text = script.text(self.machine.get().and_then(|machine| machine.machine_id.as_deref()));
        let command = bootstrap(text.len(), self.node.sudo);
        let channel = tokio::select! {
            channel = self.transport.open(&command) => channel?,
            () = self.cancel.cancelled() => return Err(cancelled()),
        };
        // To get there may have taken long, and the node was told nothing yet.
        may_begin()?;
        self.counters.execs.fetch_add(1, Ordering::Relaxed);
        tracing::debug!(node = %self.node.name, sections = script.sections(), bytes = text.len(), "exec");
        let alive = channel.alive;
        let mut stdin = channel.stdin;
        let (mut stdout, mut stderr) = (Stdout::of(script), Stderr::of(script));
        let mut sent = Ok(());
        let end = {
            let mut heard = Box::pin(async {
                tokio::try_join!(answer::read(channel.stdout, &mut stdout), answer::read(channel.stderr, &mut stderr))
            });
            let feeding = async {
                sent = feed(&mut stdin, &text, upload).await;
                if sent.is_ok() {
                    std::future::pending::<()>().await;
                }
            };
            let (end, over) = tokio::select! {
                heard = &mut heard => (heard.map_or_else(End::Excess, |_| End::Itself), true),
                () = feeding => (End::Itself, false),
                () = sleep(limit) => (End::TimedOut, false),
                () = self.cancel.cancelled() => (End::Cancelled, false),
            };
            drop(stdin);
            if !over {
                // What it says until it is killed is worth hearing, and no more than that.
                let _ = tokio::time::timeout(GRACE, heard).await;
            }
            end
        };
        drop(alive);
        sent?;
        let (stdout, stderr) = (stdout.kept(), stderr.kept());
        if script.is_elsewhere(stdout) {
            return Err(self.became_another());
        }
        let sections = script.parse(stdout, &stderr);
        let before = script.before(&stderr);
        if let Some(error) = self.never_began(&sections, &end, limit, &before) {
            return Err(error);
        }
        Ok(sections.into_iter().map(|section| self.ended(section, &end, limit)).collect())
    }

    /// Ends the connection.
    pub(crate) async fn close(&self) {
        self.transport.close().await;
    }

    fn never_began(
        &self,
        sections: &[Section],
        end: &End,
        limit: Duration,
        before: &[String],
    ) -> Option<ProviderError> {
        let began = |s: &Section| s.status.is_some() || !s.said.is_empty();
        if matches!(end, End::TimedOut | End::Cancelled) || sections.is_empty() || sections.iter().any(began) {
            return None;
        }
        Some(from_sudo(&self.node, before).unwrap_or_else(|| self.cut_off(end, limit).detail(last(before))))
    }

    fn ended(&self, mut section: Section, end: &End, limit: Duration) -> Section {
        if section.status.is_none() {
            section.cut_off = Some(self.cut_off(end, limit).detail(last(&std::mem::take(&mut section.said))));
        }
        section
    }

    fn became_another(&self) -> ProviderError {
        ProviderError::new(
            Class::Identity,
            format!("{} was replaced by another machine during this run", self.node.name),
        )
        .help("plan again: the plan shows what happened to the node")
    }

    fn cut_off(&self, end: &End, limit: Duration) -> ProviderError {
        let name = &self.node.name;
        match end {
            End::Itself => ProviderError::new(Class::Unreachable, format!("the connection to {name} was lost"))
                .help("the next run checks on the node what this run changed"),
            End::TimedOut => {
                ProviderError::new(Class::Timeout, format!("timed out after {}", duration::shown(limit))).help(
                    "if the operation is only slow, raise `timeouts = { … }` on the resource (`timeout` of ssh_exec)",
                )
            }
            End::Cancelled => ProviderError::new(Class::Cancelled, format!("cancelled while it ran on {name}")),
            End::Excess(excess) => {
                ProviderError::new(Class::Failed, format!("{name} printed more than {}", excess.what())).help(
                    "moorfast closed the connection: check the login shell and its profile on the node, and the output of the command",
                )
            }
        }
    }
}

/// The command that reads a script of `length` bytes from stdin and runs it, as root by sudo where that is wanted.
/// What comes after the script on stdin is the script's to read.
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
    // A write fails where the other side has ended, and then what it said tells why.
    if stdin.write_all(script.as_bytes()).await.is_err() || stdin.flush().await.is_err() {
        return Ok(());
    }
    match upload {
        Some(upload) => send(stdin, upload).await,
        None => Ok(()),
    }
}

async fn send(stdin: &mut (impl AsyncWrite + Unpin), upload: Upload) -> Result<(), ProviderError> {
    let unreadable =
        |e: std::io::Error| ProviderError::new(Class::Failed, format!("cannot read {}: {e}", upload.path.display()));
    let (progress, address, name) = &upload.progress;
    let mut file = tokio::fs::File::open(&upload.path).await.map_err(unreadable)?.take(upload.size);
    let mut buffer = vec![0; 256 << 10];
    let (mut sent, mut told) = (0u64, 0u64);
    loop {
        let n = file.read(&mut buffer).await.map_err(unreadable)?;
        if n == 0 {
            break;
        }
        if stdin.write_all(&buffer[..n]).await.is_err() {
            return Ok(());
        }
        sent += n as u64;
        if sent - told >= 4 << 20 {
            told = sent;
            progress.report(address, format!("uploading {name}: {} of {} MiB", sent >> 20, upload.size >> 20));
        }
    }
    if sent < upload.size {
        let short = format!("{} became shorter while it was uploaded", upload.path.display());
        return Err(ProviderError::new(Class::Failed, short));
    }
    // As above: a failing flush means that the other side has ended.
    let _ = stdin.flush().await;
    Ok(())
}

/// The last lines of what was said, as many as an error shows.
fn last(lines: &[String]) -> Vec<String> {
    lines[lines.len().saturating_sub(LINES)..].to_vec()
}
