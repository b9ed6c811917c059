//! SIGKILL at any moment loses nothing: a plain `apply` afterwards ends with exactly the manifest.
//!
//! | variable | what it says |
//! |---|---|
//! | `MOORFAST_KILLS` | how many applies of 300 resources are killed at random moments |
//! | `MOORFAST_CRASH_STEP` | such an apply crashes at every Nth durable write; 1 is each |
//! | `MOORFAST_SEED` | chooses the moments of the kills |
//!
//! The defaults are those of every landing; `./test --long` kills more often, at moments of a new seed.

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a test that can't go on has failed")]

#[path = "../support/mod.rs"]
mod support;
mod world;

use std::collections::BTreeSet;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use support::moorfast::{Moorfast, Run};
use support::testbed::Testbed;
use world::{NAMESPACE, Size, Wanted, World};

const LARGE: Size = Size { chains: 73, tokens: 3 };
const SMALL: Size = Size { chains: 20, tokens: 2 };
const TINY: Size = Size { chains: 2, tokens: 1 };
const OTHER: Size = Size { chains: 1, tokens: 2 };
/// The lines by which a run tells that an operation began.
const BEGINNINGS: [&str; 3] = ["]: Creating...", "]: Modifying...", "]: Destroying..."];

#[test]
fn a_killed_apply_loses_nothing() {
    let Some(testbed) = Testbed::up("kill-matrix", 1) else { return };
    testbed.kubectl(&["create", "namespace", NAMESPACE]);
    let seed = number("MOORFAST_SEED", 1);
    eprintln!("seed {seed}: MOORFAST_SEED={seed} repeats it");
    assert_eq!(LARGE.resources(), 300);

    let (kills, step) = (number("MOORFAST_KILLS", 20), number("MOORFAST_CRASH_STEP", 30));
    let mut matrix = Matrix::new("sqlite", String::new(), &testbed, seed);
    let crashes = matrix.crash_at_every(1, TINY, OTHER);
    assert!(crashes > 20, "there are more boundaries than {crashes}");
    matrix.crash_at_every(step, LARGE, SMALL);
    matrix.kill_at_random(kills, LARGE, SMALL);
    matrix.end();

    // The same with the state in the cluster that the objects are in.
    let backend = format!(
        "[backend.kubernetes]\nname = \"kills\"\nnamespace = \"default\"\nkubeconfig = \"{}\"\n",
        testbed.facts.control_plane.kubeconfig.display()
    );
    let mut matrix = Matrix::new("kubernetes", backend, &testbed, seed);
    let crashes = matrix.crash_at_every(1, TINY, OTHER);
    assert!(crashes > 20, "there are more boundaries than {crashes}");
    matrix.kill_at_random(kills.div_ceil(10), SMALL, TINY);
    matrix.end();
}

fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).map_or(default, |text| text.parse().unwrap())
}

#[derive(Default)]
struct Tally {
    kills: u64,
    crash_points: u64,
    recovered: u64,
    listed: u64,
    states_lost: u64,
    resources_lost: u64,
    duplicates: u64,
    orphans: u64,
}

impl std::fmt::Display for Tally {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { kills, crash_points, recovered, listed, states_lost, resources_lost, duplicates, orphans } = self;
        write!(
            f,
            "kills: {kills} at random, {crash_points} at crash points; operations found open: {recovered}; state lists meanwhile: {listed}\n\
             states lost: {states_lost}, resources lost: {resources_lost}, duplicates: {duplicates}, orphans: {orphans}"
        )
    }
}

struct Matrix<'t> {
    /// The store that holds the state, and how the manifest says so.
    store: &'static str,
    backend: String,
    testbed: &'t Testbed,
    moorfast: Arc<Moorfast>,
    random: StdRng,
    wanted: Wanted,
    tally: Tally,
    rounds: u32,
}

impl<'t> Matrix<'t> {
    fn new(store: &'static str, backend: String, testbed: &'t Testbed, seed: u64) -> Self {
        let wanted = Wanted { size: Size { chains: 0, tokens: 0 }, generation: 0 };
        let (moorfast, random) = (Arc::new(Moorfast::with("")), StdRng::seed_from_u64(seed));
        Self { store, backend, testbed, moorfast, random, wanted, tally: Tally::default(), rounds: 0 }
    }

    /// From one manifest to the other and back, with a crash some durable writes later each time, before and after it. Every run creates,
    /// changes and removes.
    fn crash_at_every(&mut self, step: u64, one: Size, other: Size) -> u64 {
        self.want(one);
        self.moorfast.expect(0, &["apply", "--auto-approve"]);
        self.check(&World::default(), "at first");
        let (began, before) = (Instant::now(), self.tally.crash_points);
        let mut write = self.random.random_range(1..=step);
        loop {
            for (moment, size) in [("before", other), ("after", one)] {
                let uids = self.world();
                self.want(size);
                let at = format!("{moment}:{write}");
                let run = self.moorfast.start_in(&["apply", "--auto-approve"], &[("MOORFAST_CRASH_AT", &at)]);
                let run = run.end();
                if run.code == 0 {
                    self.check(&uids, "after all writes");
                    let crashes = self.tally.crash_points - before;
                    let (store, resources, took) = (self.store, one.resources(), began.elapsed());
                    eprintln!(
                        "{store}: {crashes} crash points of applies of up to {resources} resources in {took:.0?}"
                    );
                    return crashes;
                }
                assert_eq!(run.code, -1, "{run}");
                self.tally.crash_points += 1;
                self.recover(&uids, &at, moment == "after");
            }
            write += step;
        }
    }

    /// Everything goes, and nothing was lost.
    fn end(mut self) {
        self.moorfast.expect(0, &["destroy", "--auto-approve"]);
        let world = self.world();
        let left = world.files.len() + world.config_maps.len() + world.tokens.len();
        self.tally.orphans += left as u64;
        eprintln!("{}: {}", self.store, self.tally);
        let Tally { states_lost, resources_lost, duplicates, orphans, .. } = self.tally;
        assert_eq!((states_lost, resources_lost, duplicates, orphans), (0, 0, 0, 0));
    }

    fn world(&self) -> World {
        World::of(self.testbed)
    }

    fn kill_at_random(&mut self, kills: u64, large: Size, small: Size) {
        self.want(large);
        let began = Instant::now();
        self.moorfast.expect(0, &["apply", "--auto-approve"]);
        let longest = began.elapsed();
        eprintln!("{}: an apply of {} resources takes {longest:.1?}", self.store, large.resources());
        let reader = Reader::begin(self.moorfast.clone());
        for round in 0.. {
            if self.tally.kills == kills {
                break;
            }
            assert!(round < 3 * kills + 10, "most runs ended before they were killed");
            let mut known = self.world();
            let command = if round % 5 == 4 { "destroy" } else { "apply" };
            let some = self.random.random_range(1..=large.chains);
            self.want(match round % 5 {
                0 => large,
                1 => small,
                _ => Size { chains: some, ..large },
            });
            let acting = self.random.random_ratio(2, 3);
            let after = longest.mul_f64(self.random.random_range(0.0..if acting { 0.4 } else { 0.9 }));
            if self.kill(command, acting, after) {
                self.tally.kills += 1;
            }
            // In one half of the rounds there is no pause between the kill and the next run.
            if self.random.random() {
                known = self.world();
            }
            // What was destroyed is made again with every right.
            if command == "destroy" {
                known = World::default();
            }
            // What a killed run began and the manifest has lost since is removed.
            if self.random.random_ratio(1, 4) {
                let some = self.random.random_range(1..=self.wanted.size.chains);
                self.want(Size { chains: some, ..small });
            }
            let moment = if acting { "the first operation" } else { "its start" };
            let what = format!("round {round}: {command} killed {after:.2?} after {moment}");
            self.recover(&known, &what, round % 5 == 0);
        }
        self.tally.listed = reader.end();
        assert!(self.tally.recovered > 0 && self.tally.listed > 0);
        eprintln!("{}: {kills} kills in {:.0?}", self.store, began.elapsed());
    }

    /// Runs a command and kills it so long after it started, or after it began to act. False where it had ended before.
    fn kill(&self, command: &str, acting: bool, after: Duration) -> bool {
        let log = tempfile::NamedTempFile::new().unwrap();
        let mut command = self.moorfast.command(&[command, "--auto-approve"]);
        let mut child = command.stdout(Stdio::null()).stderr(log.reopen().unwrap()).spawn().unwrap();
        let begun =
            || std::fs::read_to_string(log.path()).is_ok_and(|text| BEGINNINGS.iter().any(|b| text.contains(b)));
        let mut started = Instant::now();
        while acting && child.try_wait().unwrap().is_none() && !begun() {
            std::thread::park_timeout(Duration::from_millis(2));
            started = Instant::now();
        }
        while started.elapsed() < after && child.try_wait().unwrap().is_none() {
            std::thread::park_timeout(Duration::from_millis(2));
        }
        child.kill().unwrap();
        let status = child.wait().unwrap();
        assert!(status.success() || status.code().is_none(), "{}", std::fs::read_to_string(log.path()).unwrap());
        status.code().is_none()
    }

    /// A plain apply ends with exactly the manifest.
    fn recover(&mut self, before: &World, what: &str, plan: bool) {
        let began = Instant::now();
        let run = self.moorfast.run(&["apply", "--auto-approve"]);
        let found = run.stderr.matches("an earlier run died during").count() as u64;
        eprintln!("{what}: {found} open, resumed in {:.1?}", began.elapsed());
        assert_eq!(run.code, 0, "{what}\n{run}");
        self.tally.recovered += found;
        self.check(before, &format!("{what}\n{run}"));
        if plan {
            let run = self.moorfast.run(&["plan", "--detailed-exitcode"]);
            assert_eq!(run.code, 0, "{what}\n{run}");
        }
    }

    /// Writes another manifest.
    fn want(&mut self, size: Size) {
        self.rounds += 1;
        self.wanted = Wanted { size, generation: self.rounds };
        self.moorfast.write("moorfast.toml", &self.wanted.manifest(self.testbed, &self.backend));
    }

    /// Compares the world with the manifest; everything that is wrong is counted and said.
    fn check(&mut self, before: &World, what: &str) {
        let world = self.world();
        let wanted = self.wanted;
        let mut wrong = Vec::new();
        let (files, config_maps) = (wanted.files(&world), wanted.config_maps(&world));
        let lost = |wrong: &mut Vec<String>, tally: &mut u64, text: String| {
            wrong.push(text);
            *tally += 1;
        };
        for (name, content) in &files {
            if world.files.get(name) != Some(content) {
                let text = format!("file {name}: {:?} instead of {content:?}", world.files.get(name));
                lost(&mut wrong, &mut self.tally.resources_lost, text);
            }
        }
        for (name, sum) in &config_maps {
            let found = world.config_maps.get(name);
            if found.map(|(sum, _)| sum) != Some(sum) {
                let text = format!("ConfigMap {name}: {found:?} instead of {sum}");
                lost(&mut wrong, &mut self.tally.resources_lost, text);
            }
            let uids = found.zip(before.config_maps.get(name)).filter(|(now, then)| now.1 != then.1);
            if uids.is_some() {
                lost(&mut wrong, &mut self.tally.duplicates, format!("ConfigMap {name} was made twice"));
            }
        }
        let strangers = world.files.keys().filter(|name| !files.contains_key(*name) && !name.starts_with("token"));
        let strangers = strangers.chain(world.config_maps.keys().filter(|name| !config_maps.contains_key(*name)));
        for name in strangers {
            lost(&mut wrong, &mut self.tally.orphans, format!("{name} is left over"));
        }
        let held: BTreeSet<_> = world.files.iter().filter(|f| f.0.starts_with("token")).map(|f| f.1.clone()).collect();
        if held != world.tokens || held.len() != wanted.size.tokens {
            let text = format!("{} tokens in files, {} in the cluster", held.len(), world.tokens.len());
            lost(&mut wrong, &mut self.tally.duplicates, text);
        }
        if Some(&world.seen) != files.get("a0") {
            let text = format!("the unit runs with {:?}: its restart is still owed", world.seen);
            lost(&mut wrong, &mut self.tally.resources_lost, text);
        }
        let list = self.moorfast.expect(0, &["state", "list"]);
        if list.stdout.lines().count() != wanted.size.resources() {
            let text = format!("the state knows {} resources", list.stdout.lines().count());
            lost(&mut wrong, &mut self.tally.states_lost, text);
        }
        assert!(wrong.is_empty(), "{}\n{what}\n{}", wrong.join("\n"), self.tally);
    }
}

/// Another process that reads the state all the time.
struct Reader {
    ended: Arc<AtomicBool>,
    thread: JoinHandle<u64>,
}

impl Reader {
    fn begin(moorfast: Arc<Moorfast>) -> Self {
        let ended = Arc::new(AtomicBool::new(false));
        let ends = ended.clone();
        let thread = std::thread::spawn(move || {
            let mut lists = 0;
            while !ends.load(Ordering::Relaxed) {
                let run: Run = moorfast.run(&["state", "list"]);
                let is_empty = run.code == 1 && run.stderr.contains("it holds no objects");
                assert!(run.code == 0 || is_empty, "the state can be read at every moment\n{run}");
                lists += 1;
                std::thread::park_timeout(Duration::from_millis(250));
            }
            lists
        });
        Self { ended, thread }
    }

    /// How often it read.
    fn end(self) -> u64 {
        self.ended.store(true, Ordering::Relaxed);
        self.thread.join().unwrap()
    }
}
