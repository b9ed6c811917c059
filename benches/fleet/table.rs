//! The table of the results.

use std::fmt;
use std::time::{Duration, Instant};

/// How often each side of a row is measured. The median counts.
const REPETITIONS: usize = 3;

/// The rows that were measured.
pub struct Table {
    filter: String,
    rows: Vec<Row>,
}

struct Row {
    work: String,
    moorfast: Duration,
    floor: Duration,
    floor_is: &'static str,
    /// The times of other programs.
    peers: Vec<(&'static str, Duration)>,
}

impl Table {
    /// Creates a table of the rows whose name contains `filter`.
    pub fn new(filter: String) -> Self {
        Self { filter, rows: Vec::new() }
    }

    /// Whether the row is selected.
    pub fn selects(&self, work: &str) -> bool {
        work.contains(&self.filter)
    }

    /// Measures moorfast and the floor in turn, so that both see the same load of the machine.
    pub fn compare(&mut self, work: &str, mut moorfast: impl FnMut(), floor_is: &'static str, mut floor: impl FnMut()) {
        if !self.selects(work) {
            return;
        }
        let pairs: Vec<_> = (0..REPETITIONS).map(|_| (time(&mut moorfast), time(&mut floor))).collect();
        let (of_moorfast, of_floor) = pairs.into_iter().unzip();
        self.add(work, median(of_moorfast), floor_is, median(of_floor));
    }

    /// Adds a row that was measured once.
    pub fn add(&mut self, work: &str, moorfast: Duration, floor_is: &'static str, floor: Duration) {
        eprintln!("{work}: {moorfast:.2?}, {floor_is}: {floor:.2?}");
        self.rows.push(Row { work: work.to_owned(), moorfast, floor, floor_is, peers: Vec::new() });
    }

    /// Adds the time of another program to the last row.
    pub fn add_peer(&mut self, name: &'static str, took: Duration) {
        eprintln!("    {name}: {took:.2?}");
        self.rows.last_mut().unwrap().peers.push((name, took));
    }
}

/// Returns how long `work` takes.
pub fn time(mut work: impl FnMut()) -> Duration {
    let started = Instant::now();
    work();
    started.elapsed()
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cores = std::thread::available_parallelism().map_or(0, usize::from);
        writeln!(
            f,
            "\nThis machine has {cores} cores. Each time is the median of {REPETITIONS}, except where objects are made or deleted.\n"
        )?;
        writeln!(f, "| work | moorfast | floor | ratio | what the floor is | others |\n|---|---|---|---|---|---|")?;
        for row in &self.rows {
            let ratio = row.moorfast.as_secs_f64() / row.floor.as_secs_f64();
            let (moorfast, floor) = (row.moorfast.as_secs_f64(), row.floor.as_secs_f64());
            let peer = |(name, took): &(&str, Duration)| format!("{name}: {:.1} s", took.as_secs_f64());
            let peers = row.peers.iter().map(peer).collect::<Vec<_>>().join(", ");
            writeln!(f, "| {} | {moorfast:.2} s | {floor:.2} s | {ratio:.1} | {} | {peers} |", row.work, row.floor_is)?;
        }
        Ok(())
    }
}
