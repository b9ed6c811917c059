//! How a run goes, on standard error: moving lines on a terminal, plain lines elsewhere, JSON lines for programs.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use moorfast_engine::model::{Address, CheckStatus};
use moorfast_engine::provider::{Action, Class};
use moorfast_engine::session::{Event, Events};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::oneshot;
use tokio::time::{MissedTickBehavior, interval};

use super::report::duration;
use super::style::{BOLD, DESTROY, DIM, WARNING, paint};
use super::value::printable;
use super::wording::doing;
use crate::ui::Ui;

/// The names of how many targets stand in a line.
const NAMED: usize = 8;
/// How often a long operation says that it still runs.
const STILL: Duration = Duration::from_secs(10);

/// The form in which a run is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// For people, on standard error.
    Text,
    /// One JSON object a line, on standard output.
    Json,
}

/// A task that tells the events of a run.
pub struct Follower {
    events: UnboundedSender<Event>,
    notices: UnboundedSender<String>,
    settle: UnboundedSender<oneshot::Sender<()>>,
}

impl Follower {
    /// Starts telling, in this form.
    pub fn start(ui: Ui, form: Form) -> Self {
        let (events, event_receiver) = unbounded_channel();
        let (notices, notice_receiver) = unbounded_channel();
        let (settle, settle_receiver) = unbounded_channel();
        tokio::spawn(follow(event_receiver, notice_receiver, settle_receiver, Progress::new(ui, form)));
        Self { events, notices, settle }
    }

    /// Where goes what the person must read at once: it is shown above the moving lines, even if quiet.
    pub fn notices(&self) -> UnboundedSender<String> {
        self.notices.clone()
    }

    /// Where the events go.
    pub fn events(&self) -> Events {
        Events(Some(self.events.clone()))
    }

    /// Returns when everything that was sent is told.
    pub async fn settle(&self) {
        let (sender, receiver) = oneshot::channel();
        if self.settle.send(sender).is_ok() {
            let _ = receiver.await;
        }
    }
}

async fn follow(
    mut events: UnboundedReceiver<Event>,
    mut notices: UnboundedReceiver<String>,
    mut settle: UnboundedReceiver<oneshot::Sender<()>>,
    mut progress: Progress,
) {
    let mut tick = interval(Duration::from_secs(1));
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            Some(event) = events.recv() => progress.tell(event),
            Some(notice) = notices.recv() => progress.notice(&notice),
            asked = settle.recv() => {
                let Some(asked) = asked else { return };
                while let Ok(event) = events.try_recv() {
                    progress.tell(event);
                }
                while let Ok(notice) = notices.try_recv() {
                    progress.notice(&notice);
                }
                progress.tell_reading();
                let _ = asked.send(());
            }
            _ = tick.tick() => progress.tell_still(),
        }
    }
}

struct Progress {
    ui: Ui,
    form: Form,
    bars: Option<MultiProgress>,
    running: BTreeMap<Address, Running>,
    cancelled: BTreeSet<Address>,
    reading: Reading,
}

/// The targets that are read, which often is done for many at once.
#[derive(Default)]
struct Reading {
    /// The moving line that shows them all.
    bar: Option<ProgressBar>,
    /// Those that no plain line has named yet, with the number of their objects.
    untold: Vec<(String, usize)>,
    targets: usize,
    objects: usize,
    done: usize,
    /// When the first of them began to be read, and when a line last said that some still are.
    since: Option<(Instant, Instant)>,
}

struct Running {
    action: Action,
    since: Instant,
    told: Instant,
    message: Option<String>,
    bar: Option<ProgressBar>,
}

impl Progress {
    fn new(ui: Ui, form: Form) -> Self {
        let bars = (form == Form::Text && ui.is_live()).then(MultiProgress::new);
        Self { ui, form, bars, running: BTreeMap::new(), cancelled: BTreeSet::new(), reading: Reading::default() }
    }

    fn tell(&mut self, event: Event) {
        if self.form == Form::Json {
            // A reader that went away does not stop the run.
            let _ = self.ui.json(super::json::event(&event));
            return;
        }
        if !matches!(event, Event::Reading { .. } | Event::ReadDone { .. }) {
            self.tell_reading();
        }
        match event {
            Event::Reading { target, instances } => self.reading(target, instances),
            Event::ReadDone { .. } => self.read(),
            Event::Recovered { address, message } => {
                self.line(&format!("{}: {}", paint(BOLD, address), printable(&message)));
            }
            Event::Started { address, action } => self.started(address, action),
            Event::Progress { address, message } => self.moved(&address, message),
            Event::Finished { address, action, took, notes } => {
                self.ended(&address);
                self.line(&format!("{}: {} after {}", paint(BOLD, &address), doing(action).1, duration(took)));
                notes.iter().for_each(|note| self.line(&format!("  {}", printable(note))));
            }
            Event::Failed { address, action, error } if error.class == Class::Cancelled => {
                self.ended(&address);
                let what = paint(WARNING, format!("{} cancelled", doing(action).0));
                self.line(&format!("{}: {what}: {}", paint(BOLD, &address), printable(&error.summary)));
                self.cancelled.insert(address);
            }
            Event::Failed { address, action, error } => {
                self.ended(&address);
                let what = paint(DESTROY.bold(), format!("{} failed", doing(action).0));
                self.line(&format!("{}: {what}: {}", paint(BOLD, address), printable(&error.summary)));
            }
            Event::Skipped { address, because } => {
                let skipped = paint(WARNING, "Skipped");
                let why = if self.cancelled.contains(&because) { "was cancelled" } else { "did not succeed" };
                self.line(&format!("{}: {skipped}, because {because} {why}", paint(BOLD, address)));
            }
            Event::Rollout { rollout, node, step } => self.line(&super::rollout::step(&rollout, &node, &step)),
            Event::Unapproved { node, operations } => {
                let left = paint(DESTROY.bold(), format!("{operations} operations are left"));
                self.line(&format!("{}: {left}, until it is approved", printable(&node.to_string())));
            }
            Event::Checked(check) => {
                let word = match check.status {
                    CheckStatus::Pass => "passed".to_owned(),
                    CheckStatus::Fail => paint(DESTROY.bold(), "failed"),
                    CheckStatus::Error => paint(DESTROY.bold(), "could not look"),
                    CheckStatus::Unknown => "waits for the apply".to_owned(),
                };
                self.line(&format!("{}: Check {word}", paint(BOLD, check.name)));
            }
        }
    }

    fn reading(&mut self, target: String, instances: usize) {
        self.reading.targets += 1;
        self.reading.since.get_or_insert_with(|| (Instant::now(), Instant::now()));
        self.reading.objects += instances;
        if self.bars.is_none() {
            self.reading.untold.push((target, instances));
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
        self.tell_reading();
        if let Some(bar) = std::mem::take(&mut self.reading).bar {
            bar.finish_and_clear();
        }
    }

    /// The moving line of what is read.
    fn show_reading(&self) {
        let Reading { bar, targets, objects, done, .. } = &self.reading;
        let Some(bar) = bar else { return };
        if *targets > 1 {
            bar.set_prefix(format!("{done} of {targets} targets"));
        }
        bar.set_message(format!("Reading {}...", counted(*objects)));
    }

    /// The plain line of what is read: one for all that began to be read since the last one.
    fn tell_reading(&mut self) {
        let untold = std::mem::take(&mut self.reading.untold);
        let objects = counted(untold.iter().map(|(_, instances)| instances).sum());
        match untold.as_slice() {
            [] => {}
            [(target, _)] => self.line(&format!("{}: Reading {objects}...", paint(BOLD, target))),
            many => {
                let names: Vec<_> = many.iter().map(|(target, _)| target.as_str()).collect();
                let names = if names.len() <= NAMED { format!(" ({})", names.join(", ")) } else { String::new() };
                self.line(&format!("Reading {objects} of {} targets{names}...", many.len()));
            }
        }
    }

    fn started(&mut self, address: Address, action: Action) {
        let bar = self.bar(&address.to_string(), format!("{}...", doing(action).0));
        if bar.is_none() {
            self.line(&format!("{}: {}...", paint(BOLD, &address), doing(action).0));
        }
        let now = Instant::now();
        self.running.insert(address, Running { action, since: now, told: now, message: None, bar });
    }

    fn moved(&mut self, address: &Address, message: String) {
        let Some(running) = self.running.get_mut(address) else { return };
        if let Some(bar) = &running.bar {
            bar.set_message(format!("{}... {}", doing(running.action).0, paint(DIM, printable(&message))));
        }
        running.message = Some(message);
    }

    fn ended(&mut self, address: &Address) {
        if let Some(bar) = self.running.remove(address).and_then(|running| running.bar) {
            bar.finish_and_clear();
        }
    }

    /// A line for what is read and for each operation, where that takes long and no moving line shows it.
    fn tell_still(&mut self) {
        self.tell_reading();
        if self.form == Form::Json || self.bars.is_some() {
            return;
        }
        let mut lines = Vec::new();
        let Reading { targets, done, since, .. } = &mut self.reading;
        if let Some((since, told)) = since
            && told.elapsed() >= STILL
        {
            *told = Instant::now();
            let (left, elapsed) = (*targets - *done, since.elapsed().as_secs());
            lines.push(format!("Still reading {left} of {targets} targets... [{elapsed}s elapsed]"));
        }
        for (address, running) in &mut self.running {
            if running.told.elapsed() < STILL {
                continue;
            }
            running.told = Instant::now();
            let message = running.message.as_ref().map(|m| format!(": {}", printable(m))).unwrap_or_default();
            let verb = doing(running.action).0.to_lowercase();
            let elapsed = running.since.elapsed().as_secs();
            lines.push(format!("{}: Still {verb}... [{elapsed}s elapsed]{message}", paint(BOLD, address)));
        }
        lines.iter().for_each(|line| self.line(line));
    }

    fn bar(&self, name: &str, message: String) -> Option<ProgressBar> {
        let bar = self.bars.as_ref()?.add(ProgressBar::new_spinner());
        if let Ok(style) = ProgressStyle::with_template("{spinner} {prefix}: {wide_msg} [{elapsed}]") {
            bar.set_style(style);
        }
        bar.set_prefix(printable(name));
        bar.set_message(message);
        bar.enable_steady_tick(Duration::from_millis(120));
        Some(bar)
    }

    /// Shows what the person must read at once.
    fn notice(&mut self, text: &str) {
        self.tell_reading();
        let show = || match self.form {
            // That nobody reads it changes nothing.
            Form::Json => drop(self.ui.json(super::json::interrupted(text))),
            Form::Text => self.ui.err(format!("\n{text}\n")),
        };
        match &self.bars {
            Some(bars) => bars.suspend(show),
            None => show(),
        }
    }

    fn line(&self, line: &str) {
        match &self.bars {
            Some(bars) => bars.suspend(|| self.ui.note(format!("{line}\n"))),
            None => self.ui.note(format!("{line}\n")),
        }
    }
}

fn counted(objects: usize) -> String {
    if objects == 1 { "1 object".to_owned() } else { format!("{objects} objects") }
}
