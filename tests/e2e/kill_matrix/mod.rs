//! A run killed at any moment loses nothing: the next plain `apply` completes the manifest.
//!
//! | variable | meaning |
//! |---|---|
//! | `MOORFAST_KILLS` | number of applies of 300 resources that are killed at random moments |
//! | `MOORFAST_CRASH_STEP` | N: such an apply crashes at every Nth durable write |
//! | `MOORFAST_SEED` | seed of the moments of the kills |
//!
//! The defaults are for every change; `./test --long` sets 100 kills, a step of 1 and a new seed.

mod world;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use self::world::{ConfigMaps, NAMESPACE, Size, Wanted, World, config_maps};
use crate::support::folder::{Folder, Run};
use crate::support::kill::{Since, is_killed};
use crate::support::number;
use crate::support::testbed::Testbed;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

const LARGE: Size = Size { chains: 73, tokens: 3 };
const SMALL: Size = Size { chains: 20, tokens: 2 };
const TINY: Size = Size { chains: 2, tokens: 1 };
const OTHER: Size = Size { chains: 1, tokens: 2 };
/// The default of `MOORFAST_KILLS`.
const KILLS: u64 = 8;
/// The default of `MOORFAST_CRASH_STEP`.
const CRASH_STEP: u64 = 30;
/// The step for small applies, unless `MOORFAST_CRASH_STEP` is smaller.
const SMALL_CRASH_STEP: u64 = 2;

#[test]
fn a_killed_apply_loses_nothing_with_the_state_in_a_file() {
    let Some(testbed) = Testbed::up("kills-file", 1) else { return };
    let mut matrix = Matrix::new("sqlite", String::new(), &testbed);
    matrix.crash_small_applies();
    matrix.crash_at_every(number("MOORFAST_CRASH_STEP", CRASH_STEP), LARGE, SMALL);
    matrix.kill_at_random(number("MOORFAST_KILLS", KILLS), LARGE, SMALL);
    matrix.end();
}

#[test]
fn a_killed_apply_loses_nothing_with_the_state_in_the_cluster() {
    let Some(testbed) = Testbed::up("kills-cluster", 1) else { return };
    let backend = format!(
        "[backend.kubernetes]\nname = \"kills\"\nnamespace = \"default\"\nkubeconfig = \"{}\"\n",
        testbed.facts.control_plane.kubeconfig.display()
    );
    let mut matrix = Matrix::new("kubernetes", backend, &testbed);
    matrix.crash_small_applies();
    matrix.kill_at_random(number("MOORFAST_KILLS", KILLS).div_ceil(10).max(2), SMALL, TINY);
    matrix.end();
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
    /// The store of the state and its block of the manifest.
    store: &'static str,
    backend: String,
    testbed: &'t Testbed,
    moorfast: Arc<Folder>,
    random: StdRng,
    wanted: Wanted,
    tally: Tally,
    rounds: u32,
}

impl<'t> Matrix<'t> {
    fn new(store: &'static str, backend: String, testbed: &'t Testbed) -> Self {
        testbed.kubectl(&["create", "namespace", NAMESPACE]);
        let seed = number("MOORFAST_SEED", 1);
        eprintln!("{store}: MOORFAST_SEED={seed} repeats this run");
        assert_eq!(LARGE.resources(), 300);
        let wanted = Wanted { size: Size { chains: 0, tokens: 0 }, generation: 0 };
        let (moorfast, random) = (Arc::new(Folder::new("")), StdRng::seed_from_u64(seed));
        Self { store, backend, testbed, moorfast, random, wanted, tally: Tally::default(), rounds: 0 }
    }

    fn crash_small_applies(&mut self) {
        let step = number("MOORFAST_CRASH_STEP", CRASH_STEP).min(SMALL_CRASH_STEP);
        let crashes = self.crash_at_every(step, TINY, OTHER);
        assert!(crashes * step > 20, "a small apply has more durable writes than {crashes} * {step}");
    }

    /// Applies one manifest and the other in turn, and crashes before and after a durable write that is `step` writes later each time, until a
    /// run ends before its crash. Every run creates, changes and destroys objects. Returns the number of crashes.
    fn crash_at_every(&mut self, step: u64, one: Size, other: Size) -> u64 {
        self.write_manifest(one);
        self.moorfast.expect(0, &["apply", "--auto-approve"]);
        self.check(&ConfigMaps::new(), "the first apply");
        let (started, earlier) = (Instant::now(), self.tally.crash_points);
        let mut write = self.random.random_range(1..=step);
        loop {
            for (moment, size) in [("before", other), ("after", one)] {
                let before = config_maps(self.testbed);
                self.write_manifest(size);
                let at = format!("{moment}:{write}");
                let run = self.moorfast.start_in(&["apply", "--auto-approve"], &[("MOORFAST_CRASH_AT", &at)]);
                let run = run.end();
                if run.code == 0 {
                    self.check(&before, "an apply after all crashes");
                    let crashes = self.tally.crash_points - earlier;
                    let (store, resources, took) = (self.store, one.resources(), started.elapsed());
                    eprintln!(
                        "{store}: {crashes} crash points of applies of up to {resources} resources in {took:.0?}"
                    );
                    return crashes;
                }
                assert_eq!(run.code, -1, "{run}");
                self.tally.crash_points += 1;
                self.recover(&before, &at, moment == "after");
            }
            write += step;
        }
    }

    /// Destroys everything and checks that nothing was lost.
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
        self.write_manifest(large);
        let started = Instant::now();
        self.moorfast.expect(0, &["apply", "--auto-approve"]);
        let longest = started.elapsed();
        eprintln!("{}: an apply of {} resources takes {longest:.1?}", self.store, large.resources());
        let reader = Reader::start(self.moorfast.clone());
        for round in 0.. {
            if self.tally.kills == kills {
                break;
            }
            assert!(round < 3 * kills + 10, "most runs ended before they were killed");
            let mut known = config_maps(self.testbed);
            let command = if round % 5 == 4 { "destroy" } else { "apply" };
            let some = self.random.random_range(1..=large.chains);
            self.write_manifest(match round % 5 {
                0 => large,
                1 => small,
                _ => Size { chains: some, ..large },
            });
            let (since, longest_part, moment) = match self.random.random_ratio(2, 3) {
                true => (Since::FirstOperation, 0.4, "the first operation"),
                false => (Since::Start, 0.9, "its start"),
            };
            let after = longest.mul_f64(self.random.random_range(0.0..longest_part));
            if is_killed(self.moorfast.command(&[command, "--auto-approve"]), since, after) {
                self.tally.kills += 1;
            }
            // In one half of the rounds there is no pause between the kill and the next run.
            if self.random.random() {
                known = config_maps(self.testbed);
            }
            // Objects that the killed destroy removed are rightly created again.
            if command == "destroy" {
                known = ConfigMaps::new();
            }
            // Objects that the killed run created and that have left the manifest since must be destroyed.
            if self.random.random_ratio(1, 4) {
                let some = self.random.random_range(1..=self.wanted.size.chains);
                self.write_manifest(Size { chains: some, ..small });
            }
            let case = format!("round {round}: {command} killed {after:.2?} after {moment}");
            self.recover(&known, &case, round % 5 == 0);
        }
        self.tally.listed = reader.end();
        assert!(self.tally.recovered > 0 && self.tally.listed > 0);
        eprintln!("{}: {kills} kills in {:.0?}", self.store, started.elapsed());
    }

    /// Runs a plain apply, which must complete the manifest.
    fn recover(&mut self, before: &ConfigMaps, case: &str, plan: bool) {
        let started = Instant::now();
        let run = self.moorfast.run(&["apply", "--auto-approve"]);
        let found = run.stderr.matches("an earlier run died during").count() as u64;
        eprintln!("{case}: {found} open operations, completed in {:.1?}", started.elapsed());
        assert_eq!(run.code, 0, "{case}\n{run}");
        self.tally.recovered += found;
        self.check(before, &format!("{case}\n{run}"));
        if plan {
            let run = self.moorfast.run(&["plan", "--detailed-exitcode"]);
            assert_eq!(run.code, 0, "{case}\n{run}");
        }
    }

    /// Writes another manifest.
    fn write_manifest(&mut self, size: Size) {
        self.rounds += 1;
        self.wanted = Wanted { size, generation: self.rounds };
        self.moorfast.write("main.toml", &self.wanted.manifest(self.testbed, &self.backend));
    }

    /// Compares the node and the cluster with the manifest, and counts and reports every difference.
    fn check(&mut self, before: &ConfigMaps, case: &str) {
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
            let uids = found.zip(before.get(name)).filter(|(now, then)| now.1 != then.1);
            if uids.is_some() {
                lost(&mut wrong, &mut self.tally.duplicates, format!("ConfigMap {name} was created twice"));
            }
        }
        let extra = world.files.keys().filter(|name| !files.contains_key(*name) && !name.starts_with("token"));
        let extra = extra.chain(world.config_maps.keys().filter(|name| !config_maps.contains_key(*name)));
        for name in extra {
            lost(&mut wrong, &mut self.tally.orphans, format!("{name} is not in the manifest"));
        }
        let held: BTreeSet<_> = world.files.iter().filter(|f| f.0.starts_with("token")).map(|f| f.1.clone()).collect();
        if held != world.tokens || held.len() != wanted.size.tokens {
            let text = format!("{} tokens in files, {} in the cluster", held.len(), world.tokens.len());
            lost(&mut wrong, &mut self.tally.duplicates, text);
        }
        if Some(&world.seen) != files.get("a0") {
            let text = format!("the unit runs with {:?}: its restart is still pending", world.seen);
            lost(&mut wrong, &mut self.tally.resources_lost, text);
        }
        let list = self.moorfast.expect(0, &["state", "list"]);
        if list.stdout.lines().count() != wanted.size.resources() {
            let text = format!("the state has {} resources", list.stdout.lines().count());
            lost(&mut wrong, &mut self.tally.states_lost, text);
        }
        assert!(wrong.is_empty(), "{}\n{case}\n{}", wrong.join("\n"), self.tally);
    }
}

/// A thread that lists the state again and again while other runs write it.
struct Reader {
    ended: Arc<AtomicBool>,
    thread: JoinHandle<u64>,
}

impl Reader {
    fn start(moorfast: Arc<Folder>) -> Self {
        let ended = Arc::new(AtomicBool::new(false));
        let ends = ended.clone();
        let thread = std::thread::spawn(move || {
            let mut lists = 0;
            while !ends.load(Ordering::Relaxed) {
                let run: Run = moorfast.run(&["state", "list"]);
                let is_empty = run.code == 1 && run.stderr.contains("it has no objects");
                assert!(run.code == 0 || is_empty, "the state can be read at every moment\n{run}");
                lists += 1;
                std::thread::park_timeout(Duration::from_millis(250));
            }
            lists
        });
        Self { ended, thread }
    }

    /// Ends the thread and returns the number of lists.
    fn end(self) -> u64 {
        self.ended.store(true, Ordering::Relaxed);
        self.thread.join().unwrap()
    }
}
