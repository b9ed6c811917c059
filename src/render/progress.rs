//! The progress of a run: progress bars on a terminal, otherwise plain lines on standard error, or JSON lines on standard output.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use moorfast_engine::model::Address;
use moorfast_engine::provider::{Action, Class};
use moorfast_engine::session::{Event, Events};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::oneshot;
use tokio::time::{MissedTickBehavior, interval};

use super::text::Style::{Bold, Danger, Dim, Warning};
use super::text::{Line, styled};
use super::wording::{counted, duration, progress_words};
use crate::signals::Notice;
use crate::ui::Ui;

/// Maximum number of target names in a line.
const NAMED: usize = 8;
/// The interval between reports about a long operation.
const REPORT_INTERVAL: Duration = Duration::from_secs(10);

/// The format of the progress.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProgressFormat {
    /// Text on standard error.
    Text,
    /// One JSON object per line on standard output.
    Json,
}

/// A task that prints the events of a run.
pub struct ProgressPrinter {
    events: UnboundedSender<Event>,
    notices: UnboundedSender<Notice>,
    flush: UnboundedSender<oneshot::Sender<()>>,
}

impl ProgressPrinter {
    /// Starts the task.
    pub fn start(ui: Ui, format: ProgressFormat) -> Self {
        let (events, event_receiver) = unbounded_channel();
        let (notices, notice_receiver) = unbounded_channel();
        let (flush, flush_receiver) = unbounded_channel();
        tokio::spawn(follow(event_receiver, notice_receiver, flush_receiver, Progress::new(ui, format)));
        Self { events, notices, flush }
    }

    /// Returns the sender for notices of signals. They are printed immediately, even if quiet.
    pub fn notices(&self) -> UnboundedSender<Notice> {
        self.notices.clone()
    }

    /// Returns the sender for events.
    pub fn events(&self) -> Events {
        Events(Some(self.events.clone()))
    }

    /// Waits until all events and notices are printed.
    pub async fn flush(&self) {
        let (sender, receiver) = oneshot::channel();
        if self.flush.send(sender).is_ok() {
            let _ = receiver.await;
        }
    }
}

async fn follow(
    mut events: UnboundedReceiver<Event>,
    mut notices: UnboundedReceiver<Notice>,
    mut flush: UnboundedReceiver<oneshot::Sender<()>>,
    mut progress: Progress,
) {
    let mut tick = interval(Duration::from_secs(1));
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            Some(event) = events.recv() => progress.event(event),
            Some(notice) = notices.recv() => progress.notice(notice),
            request = flush.recv() => {
                let Some(done) = request else { return };
                while let Ok(event) = events.try_recv() {
                    progress.event(event);
                }
                while let Ok(notice) = notices.try_recv() {
                    progress.notice(notice);
                }
                progress.print_reading();
                let _ = done.send(());
            }
            _ = tick.tick() => progress.report_long_operations(),
        }
    }
}

/// Returns the text of a notice. `is_running` is whether an operation is running.
fn interruption(notice: Notice, is_running: bool) -> &'static str {
    match (notice, is_running) {
        (Notice::Stopping, true) => {
            "Interrupted: running operations are finished, and no more are started. Interrupt again to cancel them."
        }
        (Notice::Stopping, false) => "Interrupted: no operation is running, and none will be started.",
        (Notice::Cancelling, true) => {
            "Cancelling the running operations. Interrupt again to exit at once; the next run resolves unfinished operations."
        }
        (Notice::Cancelling, false) => "Stopping. Interrupt again to exit at once.",
    }
}

struct Progress {
    ui: Ui,
    format: ProgressFormat,
    bars: Option<MultiProgress>,
    running: BTreeMap<Address, Running>,
    cancelled: BTreeSet<Address>,
    reading: Reading,
}

/// The targets that are being read, often many at once.
#[derive(Default)]
struct Reading {
    /// The progress bar of all of them.
    bar: Option<ProgressBar>,
    /// The targets that no line has named yet, with the number of their objects.
    unprinted: BTreeMap<String, usize>,
    targets: usize,
    objects: usize,
    done: usize,
    /// The start of the first read, and the time of the last report about it.
    since: Option<(Instant, Instant)>,
}

struct Running {
    action: Action,
    since: Instant,
    reported: Instant,
    message: Option<String>,
    bar: Option<ProgressBar>,
}

impl Progress {
    fn new(ui: Ui, format: ProgressFormat) -> Self {
        let bars = (format == ProgressFormat::Text && ui.is_live()).then(MultiProgress::new);
        Self { ui, format, bars, running: BTreeMap::new(), cancelled: BTreeSet::new(), reading: Reading::default() }
    }

    fn event(&mut self, event: Event) {
        if self.format == ProgressFormat::Json {
            // A closed output does not stop the run.
            let _ = self.ui.json(super::json::event(&event));
            match event {
                Event::Started { address, action } => self.run(address, action, None),
                Event::Finished { address, .. } | Event::Failed { address, .. } => self.finished(&address),
                _ => {}
            }
            return;
        }
        if !matches!(event, Event::Reading { .. } | Event::ReadDone { .. }) {
            self.print_reading();
        }
        match event {
            Event::Reading { target, instances } => self.reading(target, instances),
            Event::ReadDone { .. } => self.read(),
            Event::Recovered { address, message } => {
                self.line(styled(Bold, address) + ": " + message);
            }
            Event::Started { address, action } => self.started(address, action),
            Event::Progress { address, message } => self.progressed(&address, message),
            Event::Waiting { message } => self.line(styled(Warning, "Waiting") + ": " + message),
            Event::Finished { address, action, took, notes } => {
                self.finished(&address);
                let what = format!(": {} after {}", progress_words(action).1, duration(took));
                self.line(styled(Bold, &address) + what);
                notes.into_iter().for_each(|note| self.line(Line::from("  ") + note));
            }
            Event::Failed { address, action, error } if error.class == Class::Cancelled => {
                self.finished(&address);
                let what = styled(Warning, format!("{} cancelled", progress_words(action).0));
                self.line(styled(Bold, &address) + ": " + what + ": " + error.summary);
                self.cancelled.insert(address);
            }
            Event::Failed { address, action, error } => {
                self.finished(&address);
                let what = styled(Danger, format!("{} failed", progress_words(action).0));
                self.line(styled(Bold, &address) + ": " + what + ": " + error.summary);
            }
            Event::Skipped { address, because } => {
                let skipped = styled(Warning, "Skipped");
                let why = if self.cancelled.contains(&because) { "was cancelled" } else { "did not succeed" };
                self.line(styled(Bold, address) + ": " + skipped + format!(", because {because} {why}"));
            }
            Event::Rollout { rollout, node, step } => self.line(super::rollout::step(&rollout, &node, &step)),
            Event::Unapproved { node, operations } => {
                let skipped = styled(Danger, format!("Skipping {}", counted(operations, "operation")));
                self.line(Line::from(format!("{node}: ")) + skipped + " until the machine is approved");
            }
            // The plan and the report list the results of checks.
            Event::Checked(_) => {}
        }
    }

    fn reading(&mut self, target: String, instances: usize) {
        self.reading.targets += 1;
        self.reading.since.get_or_insert_with(|| (Instant::now(), Instant::now()));
        self.reading.objects += instances;
        if self.bars.is_none() {
            // Several providers can read one node.
            *self.reading.unprinted.entry(target).or_default() += instances;
            return;
        }
        if self.reading.bar.is_none() {
            self.reading.bar = self.bar(&target, String::new());
        }
        self.show_reading();
    }

    fn read(&mut self) {
        self.reading.done += 1;
        if self.reading.done < self.reading.targets {
            return self.show_reading();
        }
        self.print_reading();
        if let Some(bar) = std::mem::take(&mut self.reading).bar {
            bar.finish_and_clear();
        }
    }

    /// Updates the progress bar of the reads.
    fn show_reading(&self) {
        let Reading { bar, targets, objects, done, .. } = &self.reading;
        let Some(bar) = bar else { return };
        if *targets > 1 {
            bar.set_prefix(format!("{done} of {targets} targets"));
        }
        bar.set_message(format!("Reading {}...", counted(*objects, "object")));
    }

    /// Prints one line about the reads that started since the last such line.
    fn print_reading(&mut self) {
        let unprinted = std::mem::take(&mut self.reading.unprinted);
        let objects = counted(unprinted.values().sum(), "object");
        let names: Vec<&str> = unprinted.keys().map(String::as_str).collect();
        match names.as_slice() {
            [] => {}
            [target] => self.line(styled(Bold, target) + format!(": Reading {objects}...")),
            many => {
                let names = if many.len() <= NAMED { format!(" ({})", many.join(", ")) } else { String::new() };
                self.line(format!("Reading {objects} of {} targets{names}...", many.len()));
            }
        }
    }

    fn started(&mut self, address: Address, action: Action) {
        let bar = self.bar(&address.to_string(), format!("{}...", progress_words(action).0));
        if bar.is_none() {
            self.line(styled(Bold, &address) + format!(": {}...", progress_words(action).0));
        }
        self.run(address, action, bar);
    }

    fn run(&mut self, address: Address, action: Action, bar: Option<ProgressBar>) {
        let now = Instant::now();
        self.running.insert(address, Running { action, since: now, reported: now, message: None, bar });
    }

    fn progressed(&mut self, address: &Address, message: String) {
        let Some(running) = self.running.get_mut(address) else { return };
        if let Some(bar) = &running.bar {
            let line = Line::from(format!("{}... ", progress_words(running.action).0)) + styled(Dim, &message);
            bar.set_message(self.ui.error_terminal().line(&line));
        }
        running.message = Some(message);
    }

    fn finished(&mut self, address: &Address) {
        if let Some(bar) = self.running.remove(address).and_then(|running| running.bar) {
            bar.finish_and_clear();
        }
    }

    /// Prints a line about each long read and operation, unless progress bars show them.
    fn report_long_operations(&mut self) {
        self.print_reading();
        if self.format == ProgressFormat::Json || self.bars.is_some() {
            return;
        }
        let mut lines = Vec::new();
        let Reading { targets, done, since, .. } = &mut self.reading;
        if let Some((since, reported)) = since
            && reported.elapsed() >= REPORT_INTERVAL
        {
            *reported = Instant::now();
            let (unread, elapsed) = (*targets - *done, since.elapsed().as_secs());
            lines.push(Line::from(format!("Still reading {unread} of {targets} targets... [{elapsed}s elapsed]")));
        }
        for (address, running) in &mut self.running {
            if running.reported.elapsed() < REPORT_INTERVAL {
                continue;
            }
            running.reported = Instant::now();
            let message = running.message.as_ref().map(|message| format!(": {message}")).unwrap_or_default();
            let verb = progress_words(running.action).0.to_lowercase();
            let elapsed = running.since.elapsed().as_secs();
            lines.push(styled(Bold, address) + format!(": Still {verb}... [{elapsed}s elapsed]{message}"));
        }
        lines.into_iter().for_each(|line| self.line(line));
    }

    fn bar(&self, name: &str, message: String) -> Option<ProgressBar> {
        let bar = self.bars.as_ref()?.add(ProgressBar::new_spinner());
        if let Ok(style) = ProgressStyle::with_template("{spinner} {prefix}: {wide_msg} [{elapsed}]") {
            bar.set_style(style);
        }
        bar.set_prefix(self.ui.error_terminal().line(&name.into()));
        bar.set_message(message);
        bar.enable_steady_tick(Duration::from_millis(120));
        Some(bar)
    }

    /// Prints a notice immediately.
    fn notice(&mut self, notice: Notice) {
        let text = interruption(notice, !self.running.is_empty());
        self.print_reading();
        let show = || match self.format {
            // A closed output does not stop the run.
            ProgressFormat::Json => drop(self.ui.json(super::json::interrupted(text))),
            ProgressFormat::Text => self.ui.err(format!("\n{text}")),
        };
        match &self.bars {
            Some(bars) => bars.suspend(show),
            None => show(),
        }
    }

    fn line(&self, line: impl Into<Line>) {
        let note = || self.ui.note(line.into());
        match &self.bars {
            Some(bars) => bars.suspend(note),
            None => note(),
        }
    }
}
