//! Checking the access to a node: each step from its address to the programs that scripts need, with what to do where a step fails.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use moorfast_engine::model::{Node, Transport};
use moorfast_engine::provider::{Class, Finding, Need, ProviderError, ReadRequest};

use crate::error_codes;
use crate::machine;
use crate::node_shell::NodeShell;
use crate::resource_type::resource_of;
use crate::script::{Script, Section};
use crate::size;
use crate::transport::{failed_need, from_sudo};

const READ: &str = include_str!("access.sh");

/// The time limit of the script, after the connection.
const LIMIT: Duration = Duration::from_secs(30);
/// The largest difference of the clocks, in seconds. Certificates that are valid from now on fail on a node whose clock is behind.
const CLOCK: i64 = 10;
/// The smallest free space of a file system, in KiB.
const FREE: u64 = 100 << 10;

/// What ssh does before it starts a script, in this order.
const CONNECTION: [Need; 4] = [Need::Address, Need::Connection, Need::HostKey, Need::Login];

/// Checks the node behind `login`, a shell without root.
pub(crate) async fn check(node: &Arc<Node>, login: &NodeShell, requests: &[ReadRequest]) -> Vec<Finding> {
    let root = if node.sudo { "yes" } else { "no" };
    let script = Script::of(&format!("ROOT={root}\n{READ}\n{}", machine::READ));
    let before = Timestamp::now().as_second();
    let answer = match login.read(&script, LIMIT).await.map(|answers| answers.into_iter().next()) {
        Ok(Some(mut answer)) => answer.interrupted.take().map_or(Ok(answer), Err),
        Ok(None) => Err(ProviderError::new(Class::Failed, format!("{} returned no answer", node.name))),
        Err(error) => Err(error),
    };
    let span = (before, Timestamp::now().as_second());
    match answer {
        Ok(answer) => {
            let mut findings = connected(node);
            findings.extend(found(node, &answer, &Wanted::of(requests), span));
            findings
        }
        Err(error) => failed(node, error, login.has_connected()),
    }
}

/// The needs of resource types that not every manifest has.
#[derive(Debug, Default)]
struct Wanted(Vec<Need>);

impl Wanted {
    fn of(requests: &[ReadRequest]) -> Self {
        Self(requests.iter().filter_map(|request| resource_of(&request.resource_type).ok()?.need()).collect())
    }
}

/// Returns the findings of a node whose shell did not run the script.
fn failed(node: &Node, error: ProviderError, has_connected: bool) -> Vec<Finding> {
    let need = match node.transport {
        Transport::Ssh if !has_connected => failed_need(&error),
        _ => Need::Shell,
    };
    let mut findings = connected(node);
    findings.retain(|finding| finding.need < need);
    let error = match need {
        Need::Shell => error.help(
            "log in by hand: the login shell must run `sh`, with `head` in its PATH, and print nothing of its own",
        ),
        _ => error,
    };
    findings.push(Finding::unmet(need, error));
    findings
}

/// Returns the findings of a node that accepted the login.
fn connected(node: &Node) -> Vec<Finding> {
    if node.transport == Transport::Local {
        return Vec::new();
    }
    let host_key =
        if node.host_keys.is_empty() { "known, from `moorfast node trust`" } else { "pinned in the manifest" };
    let port = node.port.map(|port| format!(" port {port}")).unwrap_or_default();
    let words = |need| match need {
        Need::Address => format!("{}{port}", node.address),
        Need::HostKey => host_key.to_owned(),
        Need::Connection if !node.jump.is_empty() => format!("through {}", node.jump.join(", ")),
        Need::Connection => "sshd answers".to_owned(),
        _ => "accepted".to_owned(),
    };
    CONNECTION.into_iter().map(|need| Finding::met(need, words(need))).collect()
}

/// Returns the findings from the answer of the script, which ran between two seconds of this machine's clock.
fn found(node: &Node, answer: &Section, wanted: &Wanted, (start, end): (i64, i64)) -> Vec<Finding> {
    let programs = answer.field("missing").unwrap_or_default().split_whitespace().collect::<Vec<_>>();
    let mut findings = vec![
        finding(Need::Root, root(node, answer)),
        Finding::met(Need::Shell, "runs scripts"),
        finding(Need::Programs, missing_programs(node, &programs)),
        finding(Need::Systemd, systemd(node, answer, wanted)),
        finding(Need::PackageManager, package_manager(node, answer, wanted)),
    ];
    let time = answer.field("time").and_then(|time| time.parse().ok());
    if let (Transport::Ssh, Some(time)) = (node.transport, time) {
        findings.push(finding(Need::Clock, clock(node, time, start, end)));
    }
    if let Some(table) = answer.text("disk") {
        findings.push(finding(Need::Disk, disk(node, &table)));
    }
    let machine = machine::observe(node, Vec::new(), Some(answer));
    findings.push(finding(Need::MachineId, machine.machine_id.ok_or_else(|| no_machine_id(node))));
    findings
}

fn finding(need: Need, result: Result<String, ProviderError>) -> Finding {
    Finding { need, result }
}

fn root(node: &Node, answer: &Section) -> Result<String, ProviderError> {
    let user = answer.field("user").filter(|user| !user.is_empty()).unwrap_or("the login user");
    match (answer.is("root"), node.sudo) {
        (true, _) if user == "root" => Ok("the login user is root".to_owned()),
        (true, _) => Ok(format!("{user} by sudo")),
        (false, false) => Ok(format!("{user}, without sudo (sudo = false)")),
        (false, true) => {
            let output: Vec<_> = answer.text("sudo").unwrap_or_default().lines().map(str::to_owned).collect();
            Err(from_sudo(node, &output).unwrap_or_else(|| {
                let why = output.last().map_or("sudo reported no reason", String::as_str);
                ProviderError::new(Class::Denied, format!("cannot become root on {}: {why}", node.name))
                    .code(error_codes::NO_ROOT)
                    .help("permit sudo without a password, log in as root (user = \"root\"), or set sudo = false")
            }))
        }
    }
}

fn missing_programs(node: &Node, programs: &[&str]) -> Result<String, ProviderError> {
    match programs {
        [] => Ok("coreutils, find, grep and sed".to_owned()),
        missing => {
            let summary = format!("{} has no {}", node.name, missing.join(", "));
            Err(ProviderError::new(Class::Failed, summary)
                .help("install the packages coreutils, findutils, grep and sed on the node"))
        }
    }
}

fn systemd(node: &Node, answer: &Section, wanted: &Wanted) -> Result<String, ProviderError> {
    match answer.field("systemd") {
        Some(version) if !version.is_empty() => Ok(version.split(" (").next().unwrap_or(version).to_owned()),
        Some(_) => Ok("runs".to_owned()),
        None if !wanted.0.contains(&Need::Systemd) => Ok("none; the manifest needs none on this node".to_owned()),
        None => Err(ProviderError::new(Class::Failed, format!("systemd does not run on {}", node.name))
            .help("boot the node with systemd, or manage no units on it")),
    }
}

fn package_manager(node: &Node, answer: &Section, wanted: &Wanted) -> Result<String, ProviderError> {
    match answer.field("package_manager") {
        Some(name) => Ok(name.to_owned()),
        None if !wanted.0.contains(&Need::PackageManager) => {
            Ok("none; the manifest needs none on this node".to_owned())
        }
        None => Err(ProviderError::new(Class::Failed, format!("{} has neither apt nor dnf", node.name))
            .help("install packages in another way, for example with `ssh_archive`, and manage no packages on it")),
    }
}

/// Compares the clock of the node with that of this machine, which was read before and after it.
fn clock(node: &Node, time: i64, start: i64, end: i64) -> Result<String, ProviderError> {
    let (seconds, word) = match (start - time, time - end) {
        (behind, _) if behind > 0 => (behind, "behind"),
        (_, ahead) if ahead > 0 => (ahead, "ahead of"),
        _ => (0, ""),
    };
    match seconds {
        0 => Ok("agrees with this machine".to_owned()),
        _ if seconds <= CLOCK => Ok(format!("{seconds} s {word} this machine")),
        _ => {
            let summary = format!("the clock of {} is {seconds} s {word} that of this machine", node.name);
            Err(ProviderError::new(Class::Failed, summary)
                .help("synchronise both clocks: `timedatectl set-ntp true`; `timedatectl` shows whether that works"))
        }
    }
}

/// Reads the output of `df -Pk`. A file system that has several of the paths is reported once.
fn disk(node: &Node, table: &str) -> Result<String, ProviderError> {
    let mut free: BTreeMap<&str, u64> = BTreeMap::new();
    for line in table.lines() {
        let columns: Vec<_> = line.split_whitespace().collect();
        let available = columns.len().checked_sub(3).and_then(|place| columns[place].parse().ok());
        if let (Some(available), Some(mount)) = (available, columns.last()) {
            free.insert(mount, available);
        }
    }
    let shown = |(mount, kib): (&&str, &u64)| format!("{} free on {mount}", size::shown(kib << 10));
    let full: Vec<_> = free.iter().filter(|(_, kib)| **kib < FREE).map(shown).collect();
    if full.is_empty() {
        return Ok(free.iter().map(shown).collect::<Vec<_>>().join(", "));
    }
    let summary = format!("{} has little space: {}", node.name, full.join(", "));
    Err(ProviderError::new(Class::Failed, summary)
        .help("free disk space: `du -xh --max-depth=2 /` shows where it is used"))
}

fn no_machine_id(node: &Node) -> ProviderError {
    ProviderError::new(Class::Failed, format!("{} has no machine-id", node.name))
        .help("run on the node: systemd-machine-id-setup")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(sudo: bool) -> Node {
        Node { address: "10.0.0.11".to_owned(), user: Some("ops".to_owned()), sudo, ..Node::new("gpu01") }
    }

    fn shown(findings: &[Finding]) -> Vec<String> {
        let line = |finding: &Finding| match &finding.result {
            Ok(found) => format!("{}: {found}", finding.need.name()),
            Err(error) => format!("{} FAIL: {}", finding.need.name(), error.summary),
        };
        findings.iter().map(line).collect()
    }

    #[test]
    fn a_failed_step_is_reported_after_the_steps_that_succeeded() {
        let of = |class, line: &str| {
            let error = ProviderError::new(class, "cannot connect").detail([line]);
            shown(&failed(&node(true), error, false))
                .iter()
                .map(|l| l.split(':').next().unwrap().to_owned())
                .collect::<Vec<_>>()
        };
        let unreachable = Class::Unreachable;
        assert_eq!(of(unreachable, "ssh: Could not resolve hostname x: Name or service not known"), ["address FAIL"]);
        assert_eq!(
            of(unreachable, "ssh: connect to host x port 22: Connection refused"),
            ["address", "connection FAIL"]
        );
        assert_eq!(of(Class::Identity, "Host key verification failed."), ["address", "connection", "host key FAIL"]);
        assert_eq!(
            of(Class::Denied, "ops@x: Permission denied (publickey)."),
            ["address", "connection", "host key", "login FAIL"]
        );
        let lost =
            ProviderError::new(unreachable, "the connection to gpu01 was lost").detail(["sh: 1: head: not found"]);
        let findings = failed(&node(true), lost, true);
        assert_eq!(shown(&findings).last().unwrap(), "shell FAIL: the connection to gpu01 was lost");
    }

    #[test]
    fn the_answer_of_a_node_becomes_findings() {
        let fields = [
            ("user", "ops"),
            ("root", "yes"),
            ("missing", ""),
            ("systemd", "systemd 252 (252.39-1~deb12u1)"),
            ("package_manager", "apt"),
            ("time", "1000"),
            ("machine_id", "0123"),
        ];
        let answer = Section::ended(0, fields.map(|(name, value)| (name, value.to_owned())));
        assert_eq!(
            shown(&found(&node(true), &answer, &Wanted::default(), (1000, 1001))),
            [
                "root: ops by sudo",
                "shell: runs scripts",
                "programs: coreutils, find, grep and sed",
                "systemd: systemd 252",
                "package manager: apt",
                "clock: agrees with this machine",
                "machine-id: 0123",
            ]
        );
        let empty = Section::ended(0, [("missing", " base64 xargs".to_owned())]);
        let wanted = Wanted(vec![Need::Systemd, Need::PackageManager]);
        assert_eq!(
            shown(&found(&node(true), &empty, &wanted, (0, 0))),
            [
                "root FAIL: cannot become root on gpu01: sudo reported no reason",
                "shell: runs scripts",
                "programs FAIL: gpu01 has no base64, xargs",
                "systemd FAIL: systemd does not run on gpu01",
                "package manager FAIL: gpu01 has neither apt nor dnf",
                "machine-id FAIL: gpu01 has no machine-id",
            ]
        );
        let unprivileged = found(&node(false), &empty, &Wanted::default(), (0, 0));
        assert_eq!(shown(&unprivileged)[0], "root: the login user, without sudo (sudo = false)");
        assert_eq!(shown(&unprivileged)[3], "systemd: none; the manifest needs none on this node");
    }

    #[test]
    fn only_a_large_difference_of_the_clocks_is_a_failure() {
        let of = |time| clock(&node(true), time, 1000, 1002).map_err(|error| error.summary);
        assert_eq!(of(1001), Ok("agrees with this machine".to_owned()));
        assert_eq!(of(995), Ok("5 s behind this machine".to_owned()));
        assert_eq!(of(1012), Ok("10 s ahead of this machine".to_owned()));
        assert_eq!(of(400), Err("the clock of gpu01 is 600 s behind that of this machine".to_owned()));
        assert_eq!(of(1013), Err("the clock of gpu01 is 11 s ahead of that of this machine".to_owned()));
    }

    #[test]
    fn each_file_system_is_reported_once() {
        let line = |free: u64, mount: &str| format!("/dev/vda1 1000 10 {free} 1% {mount}\n");
        let of = |table: &str| disk(&node(true), table).map_err(|error| error.summary);
        let table = line(3 << 20, "/") + &line(3 << 20, "/") + &line(200 << 10, "/tmp");
        assert_eq!(of(&table), Ok("3.0 GiB free on /, 200.0 MiB free on /tmp".to_owned()));
        assert_eq!(of(&line(99, "/var")), Err("gpu01 has little space: 99.0 KiB free on /var".to_owned()));
    }
}
