//! SIGKILL at any moment loses nothing: a plain `apply` afterwards ends with exactly the manifest.
//!
//! `MOORFAST_KILLS` says how many random kills there are. From 100 on the crash points run over the large manifest, too. `MOORFAST_SEED` repeats a run.

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a test that can't go on has failed")]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use support::moorfast::{Moorfast, Run};
use support::testbed::Testbed;

const LARGE: Size = Size { chains: 73, tokens: 3 };
const SMALL: Size = Size { chains: 20, tokens: 2 };
const FOLDER: &str = "/srv/kills";
const NAMESPACE: &str = "kills";
/// The lines by which a run tells that an operation began.
const BEGINNINGS: [&str; 3] = ["]: Creating...", "]: Modifying...", "]: Destroying..."];

#[test]
fn a_killed_apply_loses_nothing() {
    let Some(testbed) = Testbed::up("kill-matrix", 1) else { return };
    testbed.kubectl(&["create", "namespace", NAMESPACE]);
    let kills = number("MOORFAST_KILLS", 25);
    let seed = number("MOORFAST_SEED", rand::random());
    eprintln!("seed {seed}: MOORFAST_SEED={seed} repeats it");
    let mut matrix = Matrix::new(testbed, StdRng::seed_from_u64(seed));
    assert_eq!(LARGE.resources(), 300);

    let crashes = matrix.crash_at_every_commit(Size { chains: 2, tokens: 1 }, Size { chains: 1, tokens: 2 });
    if kills >= 100 {
        matrix.crash_at_every_commit(LARGE, SMALL);
    }
    matrix.kill_at_random(kills);
    let Matrix { tally, .. } = &matrix;
    eprintln!("{tally}");
    assert!(crashes > 20, "there are more boundaries than {crashes}");
    assert!(tally.kills >= kills && tally.recovered > 0 && tally.listed > 0);
    assert_eq!((tally.states_lost, tally.resources_lost, tally.duplicates, tally.orphans), (0, 0, 0, 0));
}

fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).map_or(default, |text| text.parse().unwrap())
}

/// How much a manifest holds.
#[derive(Clone, Copy)]
struct Size {
    /// Chains of a file, a ConfigMap with its digest, a file with that, and a ConfigMap with the digest of that.
    chains: usize,
    /// Bootstrap tokens, each with a file that holds it.
    tokens: usize,
}

impl Size {
    fn resources(self) -> usize {
        4 * self.chains + 2 * self.tokens + 2
    }
}

/// What the manifest wants.
#[derive(Clone, Copy)]
struct Wanted {
    size: Size,
    /// Goes into every file and so into everything.
    generation: u32,
}

/// What is there, as others than moorfast see it.
#[derive(Default)]
struct World {
    /// The content of each file.
    files: BTreeMap<String, String>,
    sums: BTreeMap<String, String>,
    /// The data and the uid of each ConfigMap.
    config_maps: BTreeMap<String, (String, String)>,
    tokens: BTreeSet<String>,
    /// What the unit saw when it started.
    seen: String,
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

struct Matrix {
    testbed: Testbed,
    moorfast: Arc<Moorfast>,
    random: StdRng,
    wanted: Wanted,
    tally: Tally,
    rounds: u32,
}

impl Matrix {
    fn new(testbed: Testbed, random: StdRng) -> Self {
        let wanted = Wanted { size: Size { chains: 0, tokens: 0 }, generation: 0 };
        Self { testbed, moorfast: Arc::new(Moorfast::with("")), random, wanted, tally: Tally::default(), rounds: 0 }
    }

    /// From one manifest to the other and back, with a crash one commit later each time, before and after it. Every run creates, changes and removes.
    fn crash_at_every_commit(&mut self, one: Size, other: Size) -> u64 {
        self.want(one);
        self.moorfast.expect(0, &["apply", "--auto-approve"]);
        self.check(&World::default(), "at first");
        let before = self.tally.crash_points;
        for commit in 1.. {
            for (moment, size) in [("before", other), ("after", one)] {
                let uids = self.world();
                self.want(size);
                let at = format!("{moment}:{commit}");
                let run = self.moorfast.start_in(&["apply", "--auto-approve"], &[("MOORFAST_CRASH_AT", &at)]);
                let run = run.end();
                if run.code == 0 {
                    self.check(&uids, "after all commits");
                    return self.tally.crash_points - before;
                }
                assert_eq!(run.code, -1, "{run}");
                self.tally.crash_points += 1;
                self.recover(&uids, &at, moment == "after");
            }
        }
        unreachable!("a run ends");
    }

    fn kill_at_random(&mut self, kills: u64) {
        self.want(LARGE);
        let began = Instant::now();
        self.moorfast.expect(0, &["apply", "--auto-approve"]);
        let longest = began.elapsed();
        eprintln!("an apply of {} resources takes {longest:.1?}", LARGE.resources());
        let reader = Reader::begin(self.moorfast.clone());
        for round in 0.. {
            if self.tally.kills == kills {
                break;
            }
            assert!(round < 3 * kills + 10, "most runs ended before they were killed");
            let mut known = self.world();
            let command = if round % 5 == 4 { "destroy" } else { "apply" };
            let some = self.random.random_range(1..=LARGE.chains);
            self.want(match round % 5 {
                0 => LARGE,
                1 => SMALL,
                _ => Size { chains: some, ..LARGE },
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
                self.want(Size { chains: some, ..SMALL });
            }
            let moment = if acting { "the first operation" } else { "its start" };
            let what = format!("round {round}: {command} killed {after:.2?} after {moment}");
            self.recover(&known, &what, round % 5 == 0);
        }
        self.tally.listed = reader.end();
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
        let found = run.stderr.matches("was under way when a run died").count() as u64;
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
        self.moorfast.write("moorfast.toml", &self.wanted.manifest(&self.testbed));
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

    /// What is there, read without moorfast.
    fn world(&self) -> World {
        let node = &self.testbed.facts.nodes[0].name;
        let script = format!(
            "cat /run/kills-seen 2>/dev/null; echo; cd {FOLDER} 2>/dev/null || exit 0; \
             for f in $(ls -A); do echo \"$f $(cat $f)\"; done; echo; sha256sum $(ls -A) /dev/null"
        );
        let text = self.testbed.on(node, &script);
        let mut parts = text.splitn(2, '\n');
        let seen = parts.next().unwrap_or_default().to_owned();
        let (files, sums) = parts.next().unwrap_or_default().split_once("\n\n").unwrap_or_default();
        let files = files.lines().filter_map(|line| line.split_once(' ')).map(|(n, c)| (n.to_owned(), c.to_owned()));
        let sums = sums.lines().filter_map(|line| line.split_once("  ")).map(|(s, n)| (n.to_owned(), s.to_owned()));
        let maps = self.testbed.kubectl(&[
            "get",
            "configmaps",
            "-n",
            NAMESPACE,
            "-o",
            "go-template={{range .items}}{{.metadata.name}} {{.data.sum}} {{.metadata.uid}}\n{{end}}",
        ]);
        let map = |line: &str| {
            let mut words = line.split(' ').map(str::to_owned);
            Some((words.next()?, (words.next()?, words.next()?)))
        };
        let tokens = self.testbed.kubectl(&[
            "get",
            "secrets",
            "-n",
            "kube-system",
            "-o",
            "go-template={{range .items}}{{if eq .type \"bootstrap.kubernetes.io/token\"}}\
             {{index .data \"token-id\" | base64decode}}.{{index .data \"token-secret\" | base64decode}}\n{{end}}{{end}}",
        ]);
        World {
            files: files.collect(),
            sums: sums.collect(),
            config_maps: maps.lines().filter_map(map).filter(|(name, _)| name != "kube-root-ca.crt").collect(),
            tokens: tokens.lines().map(str::to_owned).collect(),
            seen,
        }
    }
}

impl Wanted {
    fn manifest(self, testbed: &Testbed) -> String {
        let node = &testbed.facts.nodes[0];
        let mut text = format!(
            "[nodes.{name}]\naddress = \"{address}\"\nuser = \"root\"\nidentity_file = \"{key}\"\nhost_key = \"{pin}\"\n\
             [providers.kubernetes]\nkubeconfig = \"{kubeconfig}\"\n\
             [resource.ssh_directory.folder]\non = \"all\"\npath = \"{FOLDER}\"\n",
            name = node.name,
            address = node.address,
            key = testbed.facts.ssh.identity_file.display(),
            pin = node.pin(),
            kubeconfig = testbed.facts.control_plane.kubeconfig.display(),
        );
        for i in 0..self.size.chains {
            text += &file(&format!("a{i}"), &self.origin(i));
            text += &config_map(&format!("b{i}"), &format!("${{ssh_file.a{i}.sha256}}"));
            text += &file(&format!("c{i}"), &format!("${{kubernetes_object.b{i}.manifest.data.sum}}"));
            text += &config_map(&format!("d{i}"), &format!("${{ssh_file.c{i}.sha256}}"));
        }
        for i in 0..self.size.tokens {
            text += &format!("[resource.kubernetes_bootstrap_token.t{i}]\non = \"all\"\nnode = \"kills-{i}\"\n");
            text += &file(&format!("token{i}"), &format!("${{kubernetes_bootstrap_token.t{i}.token}}"));
        }
        text += &format!(
            "[resource.ssh_systemd_unit.watch]\non = \"all\"\nname = \"kills.service\"\nstate = \"running\"\nsettle = \"100ms\"\n\
             restart_on = [\"ssh_file.a0\"]\ndepends_on = [\"ssh_file.a0\"]\n\
             content = \"[Service]\\nExecStartPre=/bin/cp {FOLDER}/a0 /run/kills-seen\\nExecStart=/bin/sleep infinity\\n\"\n"
        );
        text
    }

    fn origin(self, i: usize) -> String {
        format!("chain {i} of generation {}", self.generation)
    }

    fn files(self, world: &World) -> BTreeMap<String, String> {
        let sum = |i| world.sums.get(&format!("a{i}")).cloned().unwrap_or_default();
        let chain = |i| [(format!("a{i}"), self.origin(i)), (format!("c{i}"), sum(i))];
        (0..self.size.chains).flat_map(chain).collect()
    }

    fn config_maps(self, world: &World) -> BTreeMap<String, String> {
        let sum = |name: String| world.sums.get(&name).cloned().unwrap_or_default();
        let chain = |i| [(format!("b{i}"), sum(format!("a{i}"))), (format!("d{i}"), sum(format!("c{i}")))];
        (0..self.size.chains).flat_map(chain).collect()
    }
}

fn file(name: &str, content: &str) -> String {
    format!(
        "[resource.ssh_file.{name}]\non = \"all\"\npath = \"${{ssh_directory.folder.path}}/{name}\"\ncontent = \"{content}\"\n"
    )
}

fn config_map(name: &str, sum: &str) -> String {
    format!(
        "[resource.kubernetes_object.{name}]\non = \"all\"\n[resource.kubernetes_object.{name}.manifest]\napiVersion = \"v1\"\nkind = \"ConfigMap\"\n\
         metadata = {{ name = \"{name}\", namespace = \"{NAMESPACE}\" }}\ndata = {{ sum = \"{sum}\" }}\n"
    )
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
                assert_eq!(run.code, 0, "the state can be read at every moment\n{run}");
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
