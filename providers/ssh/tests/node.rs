//! The resource types that need a real machine: systemd, packages, accounts, the kernel. The tests run on the first node of the testbed that
//! MOORFAST_TESTBED_JSON describes, and are skipped without it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stderr)]

#[path = "node/accounts.rs"]
mod accounts;
mod common;
#[path = "node/container_images.rs"]
mod container_images;
#[path = "node/file_systems.rs"]
mod file_systems;
#[path = "node/firewall.rs"]
mod firewall;
#[path = "node/host_name.rs"]
mod host_name;
#[path = "node/mounts.rs"]
mod mounts;
#[path = "node/packages.rs"]
mod packages;
#[path = "node/parameters.rs"]
mod parameters;
#[path = "node/processes.rs"]
mod processes;
#[path = "node/reboots.rs"]
mod reboots;
#[path = "node/repositories.rs"]
mod repositories;
#[path = "node/time_zone.rs"]
mod time_zone;
#[path = "node/units.rs"]
mod units;

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use common::{World, address, attributes, create, local_node};
use moorfast_engine::model::{Node, NodeName, Transport, Value};
use moorfast_engine::provider::{Class, Consequence, Operation, OperationAction, ProposedAction, ProviderError};
use serde_json::json;
use tempfile::TempDir;
use tokio::sync::{Mutex, MutexGuard};

fn restart(cause: &str) -> Consequence {
    Consequence::Restart { cause: cause.to_owned() }
}

/// A node of the testbed, and a data folder.
struct Testbed {
    dir: TempDir,
    node: Node,
    /// The tests run one after the other, because they change the same node.
    _turn: MutexGuard<'static, ()>,
}

static TURN: Mutex<()> = Mutex::const_new(());

impl Testbed {
    /// Returns the testbed, or prints why there is none.
    async fn find() -> Option<Self> {
        let Some(path) = std::env::var_os("MOORFAST_TESTBED_JSON") else {
            eprintln!("skipped: MOORFAST_TESTBED_JSON names no testbed");
            return None;
        };
        let text = std::fs::read_to_string(path).expect("the testbed's description");
        let description: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        let node = &description["nodes"][0];
        let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
        let host_keys = node["host_keys"].as_array().unwrap().iter().map(|key| text(&key["public_key"])).collect();
        let node = Node {
            name: NodeName(text(&node["name"])),
            address: text(&node["address"]),
            port: node["port"].as_u64().map(|port| port as u16),
            user: Some("root".to_owned()),
            identity_file: Some(text(&description["ssh"]["identity_file"])),
            host_keys,
            transport: Transport::Ssh,
            sudo: true,
            ..local_node()
        };
        Some(Self { dir: tempfile::tempdir().unwrap(), node, _turn: TURN.lock().await })
    }

    async fn world(&self) -> World {
        self.world_as("root").await
    }

    async fn world_as(&self, user: &str) -> World {
        let node = Node { user: Some(user.to_owned()), ..self.node.clone() };
        std::fs::write(self.dir.path().join("ssh_config"), "").unwrap();
        World::configured(node, self.dir.path(), json!({ "config_file": "ssh_config" })).await
    }

    /// Returns the output of `script` on the node, without moorfast.
    fn sh(&self, script: &str) -> String {
        let node = &self.node;
        let output = Command::new("ssh")
            .args([
                "-F",
                "/dev/null",
                "-o",
                "StrictHostKeyChecking=no",
                "-o",
                "UserKnownHostsFile=/dev/null",
                "-o",
                "LogLevel=ERROR",
            ])
            .args(["-i", node.identity_file.as_deref().unwrap(), "-p", &node.port.unwrap_or(22).to_string()])
            .arg(format!("root@{}", node.address))
            .arg(script)
            .output()
            .unwrap();
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }
}

/// Returns an error as it is printed, with NODE for the node's name.
fn shown(error: &ProviderError, testbed: &Testbed) -> String {
    let detail: String = error.detail.iter().map(|line| format!("  {line}\n")).collect();
    let help = error.help.as_deref().unwrap_or("none");
    let text = format!("{:?}: {}\n{detail}help: {help}", error.class, error.summary);
    text.replace(&testbed.node.name.0, "NODE")
}

const SERVICE: &str =
    "[Unit]\nDescription=A test\n[Service]\nExecStart=/bin/sleep 1000\n[Install]\nWantedBy=multi-user.target\n";

#[tokio::test]
async fn a_unit_is_created_restarted_repaired_and_removed() {
    let Some(testbed) = Testbed::find().await else { return };
    let world = testbed.world().await;
    let name = "moorfast-test.service";
    let desired =
        |content: &str| attributes(json!({ "name": name, "content": content, "enabled": true, "state": "running" }));
    let active = || testbed.sh("systemctl is-active moorfast-test; systemctl is-enabled moorfast-test");
    let pid = || testbed.sh("systemctl show -p MainPID --value moorfast-test");

    world.apply("ssh_systemd_unit", desired(SERVICE)).await.unwrap();
    assert_eq!(active(), "active\nenabled");
    let first = pid();

    let longer = SERVICE.replace("1000", "2000");
    let proposal = world.plan("ssh_systemd_unit", desired(&longer)).await.unwrap();
    assert_eq!(proposal.consequences, [restart("its definition changes")]);
    world.apply("ssh_systemd_unit", desired(&longer)).await.unwrap();
    let second = pid();
    assert_ne!(first, second);

    let proposal = world.plan_with("ssh_systemd_unit", desired(&longer), vec![address("ssh_file")]).await.unwrap();
    assert_eq!((proposal.action, proposal.consequences), (ProposedAction::Update, vec![restart("ssh_file.x changes")]));
    world.apply_with("ssh_systemd_unit", desired(&longer), vec![address("ssh_file")]).await.unwrap();
    assert_ne!(second, pid());

    testbed.sh("mkdir -p /run/moorfast; touch /run/moorfast/moorfast-test.service.restart");
    let proposal = world.plan("ssh_systemd_unit", desired(&longer)).await.unwrap();
    let older = [restart("it runs an older definition")];
    assert_eq!(proposal.consequences, older, "an apply was cut off before the restart");

    testbed.sh("systemctl stop moorfast-test; systemctl disable moorfast-test");
    let proposal = world.plan("ssh_systemd_unit", desired(&longer)).await.unwrap();
    assert_eq!(proposal.action, ProposedAction::Update);
    world.apply("ssh_systemd_unit", desired(&longer)).await.unwrap();
    assert_eq!(active(), "active\nenabled");

    testbed.sh("echo '# by hand' >> /etc/systemd/system/moorfast-test.service");
    let drifted = world.read("ssh_systemd_unit", None).await.unwrap().unwrap();
    assert!(drifted.attributes["content"].as_str().unwrap().ends_with("# by hand\n"));
    world.apply("ssh_systemd_unit", desired(&longer)).await.unwrap();

    let mut with_drop_in = desired(&longer);
    let drop_in = Value::from("[Service]\nEnvironment=A=1\n").sensitive();
    with_drop_in.insert("drop_ins".to_owned(), Value::Map([("10-env.conf".to_owned(), drop_in)].into()));
    world.apply("ssh_systemd_unit", with_drop_in).await.unwrap();
    assert_eq!(testbed.sh("systemctl show -p Environment --value moorfast-test"), "A=1");

    world.destroy("ssh_systemd_unit").await.unwrap();
    assert_eq!(testbed.sh("systemctl show -p LoadState --value moorfast-test; ls -d /etc/systemd/system/moorfast-test* /etc/systemd/system/*/moorfast-test* /run/moorfast"), "not-found");
}

#[tokio::test]
async fn a_crashing_unit_is_reported_with_its_journal_and_stays_pending() {
    let Some(testbed) = Testbed::find().await else { return };
    let world = testbed.world().await;
    let content = "[Service]\nExecStart=/bin/sh -c 'echo no token >&2; exit 3'\nRestart=always\nRestartSec=100ms\nStartLimitIntervalSec=0\n";
    let desired =
        |content: &str| attributes(json!({ "name": "moorfast-crash.service", "content": content, "state": "running" }));
    let error = world.apply("ssh_systemd_unit", desired(content)).await.unwrap_err();
    assert_eq!(error.class, Class::Failed);
    let start =
        format!("cannot create unit moorfast-crash.service on {}: the unit does not stay active: ", testbed.node.name);
    assert!(error.summary.starts_with(&start), "{error}");
    assert!(error.detail.iter().any(|line| line == "no token"), "{:?}", error.detail);
    let plan = world.plan("ssh_systemd_unit", desired(content)).await.unwrap();
    assert_ne!(plan.action, ProposedAction::NoOp, "the restart is still due");
    world.apply("ssh_systemd_unit", desired(SERVICE)).await.unwrap();
    world.destroy("ssh_systemd_unit").await.unwrap();
    assert_eq!(testbed.sh("ls -d /run/moorfast /etc/systemd/system/moorfast-crash*"), "");
}

/// systemd refuses a sixth start within ten seconds. Killed and resumed runs can reach that number.
#[tokio::test]
async fn a_unit_is_restarted_as_often_as_its_files_change() {
    let Some(testbed) = Testbed::find().await else { return };
    let world = testbed.world().await;
    let desired = || {
        attributes(
            json!({ "name": "moorfast-often.service", "content": SERVICE, "state": "running", "settle": "100ms" }),
        )
    };
    world.apply("ssh_systemd_unit", desired()).await.unwrap();
    for _ in 0..8 {
        world.apply_with("ssh_systemd_unit", desired(), vec![address("ssh_file")]).await.unwrap();
    }
    world.destroy("ssh_systemd_unit").await.unwrap();
}

#[tokio::test]
async fn the_plan_shows_that_a_unit_does_not_exist() {
    let Some(testbed) = Testbed::find().await else { return };
    let world = testbed.world().await;
    let consequences = async |desired| world.plan("ssh_systemd_unit", attributes(desired)).await.unwrap().consequences;
    let missing = "the unit does not exist (install its package first, or set content)".to_owned();
    assert_eq!(
        consequences(json!({ "name": "mf-none.service", "state": "running" })).await,
        [Consequence::Obstacle { message: missing }]
    );
    assert_eq!(consequences(json!({ "name": "mf-none.service", "masked": true })).await, []);
    assert_eq!(consequences(json!({ "name": "mf-none.service", "content": SERVICE })).await, []);
}

#[tokio::test]
async fn a_destroy_restores_an_existing_unit() {
    let Some(testbed) = Testbed::find().await else { return };
    let world = testbed.world().await;
    testbed.sh("printf '%s' '[Service]\nExecStart=/bin/sleep 1000\n[Install]\nWantedBy=multi-user.target\n' > /lib/systemd/system/moorfast-found.service; systemctl daemon-reload");
    let desired = attributes(json!({ "name": "moorfast-found.service", "enabled": true, "state": "running" }));
    world.apply("ssh_systemd_unit", desired).await.unwrap();
    assert_eq!(
        testbed.sh("systemctl is-active moorfast-found; systemctl is-enabled moorfast-found"),
        "active\nenabled"
    );
    world.destroy("ssh_systemd_unit").await.unwrap();
    assert_eq!(
        testbed.sh("systemctl is-active moorfast-found; systemctl is-enabled moorfast-found"),
        "inactive\ndisabled"
    );
    let desired = attributes(json!({ "name": "moorfast-found.service", "masked": true, "state": "stopped" }));
    world.apply("ssh_systemd_unit", desired).await.unwrap();
    assert_eq!(testbed.sh("systemctl is-enabled moorfast-found"), "masked");
    world.destroy("ssh_systemd_unit").await.unwrap();
    assert_eq!(testbed.sh("systemctl is-enabled moorfast-found; rm /lib/systemd/system/moorfast-found.service; systemctl daemon-reload"), "disabled");

    let missing = attributes(json!({ "name": "moorfast-nowhere.service", "state": "running" }));
    let error = world.apply("ssh_systemd_unit", missing).await.unwrap_err();
    insta::assert_snapshot!(shown(&error, &testbed), @r#"
    Failed: cannot create unit moorfast-nowhere.service on NODE: the unit does not exist (install its package first, or set content)
    help: none
    "#);
}

#[tokio::test]
async fn packages_are_installed_and_only_own_packages_are_purged() {
    let Some(testbed) = Testbed::find().await else { return };
    let world = testbed.world().await;
    testbed.sh("apt-get purge -y hello tree; rm -rf /var/lib/apt/lists/*");
    let installed =
        || testbed.sh("dpkg-query -W -f '${Package} ${db:Status-Status}\n' hello tree 2>/dev/null | grep ' installed'");
    world.apply("ssh_package", attributes(json!({ "names": ["hello"] }))).await.unwrap();
    assert_eq!(installed(), "hello installed");
    world.apply("ssh_package", attributes(json!({ "names": ["hello", "tree", "procps"] }))).await.unwrap();
    assert_eq!(installed(), "hello installed\ntree installed");
    testbed.sh("apt-get remove -y hello");
    let drifted = world.plan("ssh_package", attributes(json!({ "names": ["hello", "tree", "procps"] }))).await.unwrap();
    assert_eq!(drifted.action, ProposedAction::Update);
    world.apply("ssh_package", attributes(json!({ "names": ["hello", "tree", "procps"] }))).await.unwrap();
    world.apply("ssh_package", attributes(json!({ "names": ["tree", "procps"] }))).await.unwrap();
    assert_eq!(installed(), "tree installed");
    world.destroy("ssh_package").await.unwrap();
    assert_eq!(installed(), "");
    assert_eq!(testbed.sh("dpkg-query -W -f '${db:Status-Status}' procps"), "installed", "existing packages stay");

    let error =
        world.apply("ssh_package", attributes(json!({ "names": ["no-such-package-at-all"] }))).await.unwrap_err();
    assert!(error.summary.contains("Unable to locate package"), "{error}");
    insta::assert_snapshot!(shown(&error, &testbed).lines().next().unwrap_or_default(), @r#"
    Failed: cannot create package no-such-package-at-all on NODE: E: Unable to locate package no-such-package-at-all
    "#);
    let version = testbed.sh("apt-cache policy hello | grep Candidate | cut -d: -f2").trim().to_owned();
    world.apply("ssh_package", attributes(json!({ "names": [format!("hello={version}")] }))).await.unwrap();
    world.apply("ssh_package", attributes(json!({ "names": ["hello"], "state": "absent" }))).await.unwrap();
    assert_eq!(installed(), "");
}

/// A repository of RPMs on the node, where apt is hidden until this is dropped.
struct OnlyDnf<'a>(&'a Testbed);

const RPMS: &str = r#"
apt-get -q update && DEBIAN_FRONTEND=noninteractive apt-get -y -q install --no-install-recommends dnf rpm createrepo-c
rm -rf /srv/rpms /tmp/rpms; mkdir -p /srv/rpms /tmp/rpms /etc/yum.repos.d; cd /tmp/rpms
make() {
  printf 'Name: %s\nVersion: %s\nRelease: 1\nSummary: A test\nLicense: MIT\nBuildArch: noarch\n%b%%description\nA test\n%%files\n' "$1" "$2" "$3" > one.spec
  rpmbuild -bb --quiet --define '_topdir /tmp/rpms' --define '_rpmdir /srv/rpms' one.spec
}
make mf-a 1.0; make mf-a 2.0; make mf-needs-a 1.0 'Requires: mf-a\n'; make mf-uses-needs-a 1.0 'Requires: mf-needs-a\n'; make mf-not-a 1.0 'Conflicts: mf-a\n'; make mf-b 1.0; make mf-for-b 1.0 'Obsoletes: mf-b < 2\n'
createrepo_c -q /srv/rpms
printf '[own]\nname=own\nbaseurl=file:///srv/rpms\ngpgcheck=0\n' > /etc/yum.repos.d/own.repo
mv /usr/bin/apt-get /usr/bin/apt-get.hidden
"#;

impl<'a> OnlyDnf<'a> {
    fn on(testbed: &'a Testbed) -> Self {
        let this = Self(testbed);
        testbed.sh(RPMS);
        this
    }
}

impl Drop for OnlyDnf<'_> {
    fn drop(&mut self) {
        self.0.sh(
            "dnf -y -q remove 'mf-*'; [ ! -e /usr/bin/apt-get.hidden ] || mv /usr/bin/apt-get.hidden /usr/bin/apt-get",
        );
    }
}

#[tokio::test]
async fn dnf_plans_removals_and_downgrades() {
    let Some(testbed) = Testbed::find().await else { return };
    let world = testbed.world().await;
    let _only = OnlyDnf::on(&testbed);
    let installed = || testbed.sh("rpm -qa --qf '%{NAME}-%{VERSION}\n' | sort | paste -sd' '");
    let removal = |object: &str| Consequence::Removal { object: object.to_owned() };
    let names = |names: &[&str]| attributes(json!({ "names": names }));

    world.apply("ssh_package", names(&["mf-needs-a"])).await.unwrap();
    assert_eq!(installed(), "mf-a-2.0 mf-needs-a-1.0");
    let older = attributes(json!({ "names": ["mf-needs-a", "mf-a=1.0-1"], "allow_downgrade": true }));
    let plan = world.plan("ssh_package", older.clone()).await.unwrap();
    let downgrade = Consequence::Downgrade { object: "package mf-a".into(), from: "2.0-1".into(), to: "1.0-1".into() };
    assert_eq!(plan.consequences, [downgrade]);
    let plan = world.plan("ssh_package", names(&["mf-needs-a", "mf-a=1.0-1"])).await.unwrap();
    assert!(
        matches!(&plan.consequences[..], [Consequence::Obstacle { message }] if message.contains("allow_downgrade")),
        "{plan:?}"
    );

    let other = names(&["mf-needs-a", "mf-not-a"]);
    let error =
        world.operate("ssh_package", create("ssh_package", json!({ "names": ["mf-not-a"] })), None, Vec::new()).await;
    let error = error.unwrap_err();
    assert_eq!(error.class, Class::Conflict, "{error:?}");
    assert!(error.summary.contains("the plan did not show"), "{error}");
    assert_eq!(installed(), "mf-a-2.0 mf-needs-a-1.0");
    let plan = world.plan("ssh_package", other).await.unwrap();
    assert!(plan.consequences.iter().any(|c| matches!(c, Consequence::Obstacle { .. })), "{plan:?}");

    let absent = attributes(json!({ "names": ["mf-a"], "state": "absent" }));
    let plan = world.plan("ssh_package", absent).await.unwrap();
    assert_eq!(plan.consequences, [removal("package mf-a 2.0-1"), removal("package mf-needs-a 1.0-1")]);
    assert_eq!(world.removal_consequences("ssh_package").await.unwrap(), [removal("package mf-a 2.0-1")]);
    testbed.sh("rpm -i /srv/rpms/noarch/mf-uses-needs-a-1.0-1.noarch.rpm");
    let needed = "packages that moorfast did not install need them: mf-uses-needs-a".to_owned();
    let consequences = world.removal_consequences("ssh_package").await.unwrap();
    assert_eq!(consequences, [removal("package mf-a 2.0-1"), Consequence::Obstacle { message: needed }]);
    testbed.sh("rpm -e mf-uses-needs-a");
    world.destroy("ssh_package").await.unwrap();
    assert_eq!(installed(), "");

    testbed.sh("rpm -i /srv/rpms/noarch/mf-b-1.0-1.noarch.rpm");
    let plan = world.plan("ssh_package", names(&["mf-for-b"])).await.unwrap();
    assert_eq!(plan.consequences, [removal("package mf-b 1.0-1")], "the new package obsoletes it");
    world.apply("ssh_package", names(&["mf-for-b"])).await.unwrap();
    assert_eq!(installed(), "mf-for-b-1.0");
    world.destroy("ssh_package").await.unwrap();
    assert_eq!(installed(), "");
}

#[tokio::test]
async fn dependencies_of_a_package_are_removed_with_it() {
    let Some(testbed) = Testbed::find().await else { return };
    let world = testbed.world_as("ops").await;
    testbed.sh("apt-get purge -y containerd runc; apt-get autoremove --purge -y");
    let installed =
        || testbed.sh("dpkg-query -W -f '${Package} ${db:Status-Status}\n' containerd runc | grep -c ' installed'");
    let all = || testbed.sh("dpkg-query -W -f '${Package}\n'");
    let before = all();
    world.apply("ssh_package", attributes(json!({ "names": ["containerd"] }))).await.unwrap();
    assert_eq!(installed(), "2");
    let unit = attributes(json!({ "name": "containerd.service", "enabled": true, "state": "running" }));
    if world.plan("ssh_systemd_unit", unit.clone()).await.unwrap().action != ProposedAction::NoOp {
        world.apply("ssh_systemd_unit", unit).await.unwrap();
    }
    world.destroy("ssh_package").await.unwrap();
    assert_eq!(all(), before);
}

#[tokio::test]
async fn accounts_and_groups_are_created_changed_and_removed() {
    let Some(testbed) = Testbed::find().await else { return };
    let world = testbed.world().await;
    testbed.sh("userdel -r moorie; groupdel moor");
    world.apply("ssh_group", attributes(json!({ "name": "moor" }))).await.unwrap();
    world.apply("ssh_group", attributes(json!({ "name": "moor", "gid": 4242 }))).await.unwrap();
    let user = |shell: &str, keys: &[&str]| {
        attributes(
            json!({ "name": "moorie", "groups": ["moor", "adm"], "shell": shell, "comment": "A test", "authorized_keys": keys, "remove_home": true }),
        )
    };
    world.apply("ssh_user", user("/bin/sh", &["ssh-ed25519 AAAA one"])).await.unwrap();
    world.apply("ssh_user", user("/bin/bash", &["ssh-ed25519 AAAA one", "ssh-ed25519 BBBB two"])).await.unwrap();
    assert_eq!(
        testbed.sh("getent passwd moorie | cut -d: -f5-; id -Gn moorie; stat -c '%U %a' /home/moorie/.ssh/authorized_keys; wc -l < /home/moorie/.ssh/authorized_keys"),
        "A test:/home/moorie:/bin/bash\nmoorie adm moor\nmoorie 600\n2"
    );
    world.destroy("ssh_user").await.unwrap();
    world.destroy("ssh_group").await.unwrap();
    assert_eq!(testbed.sh("getent passwd moorie; getent group moor; ls -d /home/moorie"), "");
    let root = attributes(json!({ "name": "root", "comment": "root" }));
    assert_eq!(world.plan("ssh_user", root).await.unwrap().action, ProposedAction::NoOp);
}

#[tokio::test]
async fn keys_and_groups_are_compared_without_their_formatting() {
    let Some(testbed) = Testbed::find().await else { return };
    let world = testbed.world().await;
    testbed.sh("userdel -r moorie");
    // Keys in the form of files.
    let keys = ["ssh-ed25519 AAAA one\n", "# of the others\n\n  ssh-ed25519 BBBB two\r\nssh-ed25519 CCCC three"];
    let user = |groups: &[&str], keys: Value| {
        let mut user = attributes(json!({ "name": "moorie", "groups": groups, "remove_home": true }));
        user.insert("authorized_keys".to_owned(), keys);
        user
    };
    world.apply("ssh_user", user(&["adm"], Value::from(keys.to_vec()))).await.unwrap();
    assert_eq!(
        testbed.sh("cat /home/moorie/.ssh/authorized_keys"),
        "ssh-ed25519 AAAA one\n# of the others\nssh-ed25519 BBBB two\nssh-ed25519 CCCC three"
    );
    // The primary group, which is not in the manifest, is not a supplementary group.
    let proposal = world.plan("ssh_user", user(&["moorie", "adm"], Value::from(keys.to_vec()))).await.unwrap();
    assert_eq!(proposal.action, ProposedAction::NoOp, "{:?}", proposal.planned);

    let secret = Value::List(vec![Value::from("ssh-ed25519 DDDD s3cr3t\n").sensitive()]);
    let proposal = world.plan("ssh_user", user(&["adm"], secret.clone())).await.unwrap();
    assert!(!format!("{proposal:?}").contains("s3cr3t"), "{proposal:?}");
    world.apply("ssh_user", user(&["adm"], secret)).await.unwrap();
    world.destroy("ssh_user").await.unwrap();
}

#[tokio::test]
async fn links_in_place_of_the_keys_of_an_account_are_not_followed() {
    let Some(testbed) = Testbed::find().await else { return };
    let world = testbed.world().await;
    testbed.sh("userdel -r moorie; useradd -m moorie");
    let user = |key: &str| attributes(json!({ "name": "moorie", "authorized_keys": [key] }));
    let secret = testbed.sh("stat -c '%U %a %Y' /etc/shadow /etc /root");
    let places = [
        ("mkdir -m 700 .ssh; ln -s /etc/shadow .ssh/authorized_keys", "/home/moorie/.ssh/authorized_keys"),
        ("ln -s /root .ssh", "/home/moorie/.ssh"),
    ];
    for (script, path) in places {
        testbed.sh(&format!("cd /home/moorie; rm -rf .ssh; su moorie -c '{script}'"));
        for error in [
            world.read("ssh_user", Some(user("ssh-ed25519 AAAA one"))).await.unwrap_err(),
            world
                .operate("ssh_user", OperationAction::Update(user("ssh-ed25519 AAAA one")), None, Vec::new())
                .await
                .unwrap_err(),
        ] {
            assert_eq!(error.class, Class::Conflict);
            assert!(
                error.summary.ends_with(&format!("{path} is a symbolic link: it is neither read nor written")),
                "{error}"
            );
        }
    }
    assert_eq!(testbed.sh("stat -c '%U %a %Y' /etc/shadow /etc /root"), secret);
    testbed.sh("rm /home/moorie/.ssh");
    world.apply("ssh_user", user("ssh-ed25519 AAAA one")).await.unwrap();
    assert_eq!(
        testbed.sh("cd /home/moorie; stat -c '%n %U %G %a' .ssh .ssh/*; userdel -r moorie"),
        ".ssh moorie moorie 700\n.ssh/authorized_keys moorie moorie 600"
    );
}

#[tokio::test]
async fn links_of_the_folder_owner_are_not_followed_by_an_archive() {
    let Some(testbed) = Testbed::find().await else { return };
    let world = testbed.world().await;
    testbed.sh("userdel -r moored; useradd -m moored; rm -rf /srv/moored /srv/other; mkdir -p /srv/moored /srv/other; echo x > /srv/other/tool; chown moored /srv/moored");
    let other = || testbed.sh("cat /srv/other/tool; ls /srv/other");
    std::fs::create_dir(testbed.dir.path().join("bin")).unwrap();
    std::fs::write(testbed.dir.path().join("bin/tool"), "from the archive").unwrap();
    let pack = Command::new("tar").args(["-cf", "a.tar", "bin"]).current_dir(testbed.dir.path()).status().unwrap();
    assert!(pack.success());
    let sum = Command::new("sha256sum").arg(testbed.dir.path().join("a.tar")).output().unwrap().stdout;
    let archive = || {
        let sum = String::from_utf8_lossy(&sum[..64]).into_owned();
        attributes(json!({ "path": "/srv/moored", "source": "a.tar", "sha256": sum }))
    };
    // A link instead of the marker: its target is not read.
    testbed.sh("su moored -c 'ln -s /etc/shadow /srv/moored/.moorfast-archive-archive'");
    assert_eq!(world.read("ssh_archive", Some(archive())).await.unwrap(), None);
    // A link instead of a folder.
    testbed.sh("su moored -c 'ln -s /srv/other /srv/moored/bin'");
    let error = world
        .operate("ssh_archive", OperationAction::Create(World::full("ssh_archive", archive())), None, Vec::new())
        .await
        .unwrap_err();
    assert_eq!(error.class, Class::Conflict, "{error}");
    insta::assert_snapshot!(shown(&error, &testbed), @r#"
    Conflict: cannot create archive /srv/moored/archive on NODE: /srv/moored/bin is a symbolic link of another user: nothing is written through it
    help: none
    "#);
    assert_eq!(other(), "x\ntool");
    // Links of root are followed: /lib is one on many machines.
    testbed.sh("rm /srv/moored/bin; mkdir /srv/moored/sbin; ln -s sbin /srv/moored/bin");
    world.apply("ssh_archive", archive()).await.unwrap();
    assert_eq!(testbed.sh("cat /srv/moored/sbin/tool"), "from the archive");
    // A foreign path in the marker, and a link instead of a folder of the archive.
    testbed.sh("cd /srv/moored; echo 'x *./../other/tool' >> .moorfast-archive-archive; rm bin; su moored -c 'ln -s /srv/other bin'");
    world.destroy("ssh_archive").await.unwrap();
    assert_eq!(other(), "x\ntool");
    testbed.sh("userdel -r moored; rm -rf /srv/moored /srv/other");
}

#[tokio::test]
async fn kernel_parameters_are_set_and_restored() {
    let Some(testbed) = Testbed::find().await else { return };
    let world = testbed.world().await;
    let before = testbed.sh("cat /proc/sys/net/ipv4/ip_local_port_range | tr '\\t' ' '");
    let desired = |value: &str| attributes(json!({ "name": "net.ipv4.ip_local_port_range", "value": value }));
    world.apply("ssh_sysctl", desired("20000 60000")).await.unwrap();
    world.apply("ssh_sysctl", desired("20000\t50000")).await.unwrap();
    testbed.sh("echo 30000 50000 > /proc/sys/net/ipv4/ip_local_port_range");
    assert_eq!(world.plan("ssh_sysctl", desired("20000 50000")).await.unwrap().action, ProposedAction::Update);
    world.apply("ssh_sysctl", desired("20000 50000")).await.unwrap();
    world.destroy("ssh_sysctl").await.unwrap();
    assert_eq!(
        testbed.sh("cat /proc/sys/net/ipv4/ip_local_port_range | tr '\\t' ' '; ls /etc/sysctl.d/*moorfast*"),
        before
    );
    let error =
        world.apply("ssh_sysctl", attributes(json!({ "name": "net.no.such", "value": "1" }))).await.unwrap_err();
    insta::assert_snapshot!(shown(&error, &testbed), @r#"
    Failed: cannot create sysctl net/no/such on NODE: the kernel parameter does not exist (it may need a module: ssh_kernel_module)
    help: none
    "#);

    let module = testbed.sh("ls /sys/module | head -n 1");
    world.apply("ssh_kernel_module", attributes(json!({ "name": module }))).await.unwrap();
    assert_eq!(testbed.sh(&format!("cat /etc/modules-load.d/moorfast-{module}.conf")), module);
    world.destroy("ssh_kernel_module").await.unwrap();
    assert_eq!(testbed.sh("ls /etc/modules-load.d/ | grep moorfast"), "");
}

#[tokio::test]
async fn changes_before_a_failure_are_recorded() {
    let Some(testbed) = Testbed::find().await else { return };
    let world = testbed.world().await;
    testbed.sh("userdel -r moorie");
    let user = |home: &str| {
        attributes(
            json!({ "name": "moorie", "home": home, "create_home": false, "authorized_keys": ["ssh-ed25519 AAAA one"] }),
        )
    };
    world.apply_failing("ssh_user", user("/proc/moorie")).await;
    assert_ne!(testbed.sh("getent passwd moorie"), "");
    world.apply("ssh_user", user("/srv/moorie")).await.unwrap();
    world.destroy("ssh_user").await.unwrap();
    assert_eq!(testbed.sh("getent passwd moorie; rm -rf /srv/moorie"), "");

    let value = || testbed.sh("cat /proc/sys/net/ipv4/ip_local_port_range | tr '\\t' ' '");
    let before = value();
    let parameter = || attributes(json!({ "name": "net.ipv4.ip_local_port_range", "value": "20000 60000" }));
    testbed.sh("mkdir -p /etc/sysctl.d/90-moorfast-net.ipv4.ip_local_port_range.conf");
    world.apply_failing("ssh_sysctl", parameter()).await;
    assert_eq!(value(), "20000 60000");
    testbed.sh("rmdir /etc/sysctl.d/90-moorfast-net.ipv4.ip_local_port_range.conf");
    world.apply("ssh_sysctl", parameter()).await.unwrap();
    world.destroy("ssh_sysctl").await.unwrap();
    assert_eq!(value(), before);

    testbed.sh("printf '[Service]\nExecStart=/bin/sleep 1000\n[Install]\nWantedBy=multi-user.target\n' > /lib/systemd/system/moorfast-half.service; systemctl daemon-reload");
    testbed.sh("mkdir -p /etc/systemd/system/moorfast-half.service.d/10-a.conf");
    let unit = || {
        attributes(
            json!({ "name": "moorfast-half.service", "state": "running", "drop_ins": { "10-a.conf": "[Service]\nNice=1\n" } }),
        )
    };
    world.apply_failing("ssh_systemd_unit", unit()).await;
    testbed.sh("systemctl start moorfast-half; rmdir /etc/systemd/system/moorfast-half.service.d/10-a.conf");
    world.apply("ssh_systemd_unit", unit()).await.unwrap();
    world.destroy("ssh_systemd_unit").await.unwrap();
    assert_eq!(
        testbed.sh(
            "systemctl is-active moorfast-half; rm /lib/systemd/system/moorfast-half.service; systemctl daemon-reload"
        ),
        "inactive",
        "the unit did not run before"
    );

    let all = || testbed.sh("dpkg-query -W -f '${Package}\n'");
    testbed.sh("apt-get purge -y hello tree rpcbind; apt-get autoremove --purge -y; apt-get update");
    let before = all();
    let packages = |name: &str| attributes(json!({ "names": ["hello", name] }));
    let error = world.apply_failing("ssh_package", packages("portmap")).await;
    insta::assert_snapshot!(shown(&error, &testbed), @r#"
    Invalid: cannot create package hello on NODE: portmap is a virtual package: name a package that provides it
    help: none
    "#);
    assert_eq!(all(), before, "no package is installed for a virtual package");
    world.clear_records();
    testbed.sh("echo 'DPkg::Post-Invoke { \"false\"; };' > /etc/apt/apt.conf.d/moorfast-broken");
    world.apply_failing("ssh_package", packages("tree")).await;
    testbed.sh("rm /etc/apt/apt.conf.d/moorfast-broken");
    assert_ne!(all(), before);
    world.destroy("ssh_package").await.unwrap();
    assert_eq!(all(), before);
}

#[tokio::test]
async fn changes_of_a_killed_run_are_recorded() {
    let Some(testbed) = Testbed::find().await else { return };
    let world = testbed.world().await;
    testbed.sh("userdel -r moorie; groupdel moor; apt-get purge -y hello; swapoff -a; printf 'LABEL=none none swap sw 0 0\\n' > /etc/fstab");
    testbed.sh("printf '[Service]\nExecStart=/bin/sleep 1000\n[Install]\nWantedBy=multi-user.target\n' > /lib/systemd/system/moorfast-died.service; systemctl daemon-reload; systemctl unmask swap.target");
    let all = "getent passwd; getent group; dpkg-query -W -f '${Package}\n'; cat /proc/sys/net/ipv4/ip_local_port_range /etc/fstab /etc/timezone /etc/hostname /proc/sys/kernel/hostname; ls /etc/sysctl.d; readlink /etc/localtime
        systemctl is-active moorfast-died; systemctl is-enabled moorfast-died swap.target";
    let before = testbed.sh(all);
    let resources = [
        ("ssh_user", json!({ "name": "moorie", "remove_home": true })),
        ("ssh_group", json!({ "name": "moor" })),
        ("ssh_package", json!({ "names": ["procps", "hello"] })),
        ("ssh_sysctl", json!({ "name": "net.ipv4.ip_local_port_range", "value": "20000 60000" })),
        ("ssh_systemd_unit", json!({ "name": "moorfast-died.service", "enabled": true, "state": "running" })),
        ("ssh_swap", json!({})),
        ("ssh_timezone", json!({ "name": "Europe/Berlin" })),
        ("ssh_hostname", json!({ "name": "moorfast-died" })),
    ];
    for (kind, desired) in &resources {
        world.apply_and_crash(kind, attributes(desired.clone())).await;
    }
    assert_ne!(testbed.sh(all), before);
    // A resumed run keeps the private data.
    let user =
        OperationAction::Update(attributes(json!({ "name": "moorie", "remove_home": true, "comment": "resumed" })));
    let observed = world.read("ssh_user", None).await.unwrap();
    let resumed = world.operate("ssh_user", user, observed, Vec::new()).await.unwrap();
    assert_eq!(resumed.private, json!({ "made": true }));
    for (kind, _) in &resources {
        world.destroy(kind).await.unwrap();
    }
    assert_eq!(testbed.sh(all), before);
    testbed.sh("rm /lib/systemd/system/moorfast-died.service; systemctl daemon-reload; : > /etc/fstab");
}

#[tokio::test]
async fn an_imported_object_gets_its_state_from_before_the_first_change_back() {
    let Some(testbed) = Testbed::find().await else { return };
    let world = testbed.world().await;
    testbed.sh("printf '[Service]\nExecStart=/bin/sleep 1000\n[Install]\nWantedBy=multi-user.target\n' > /lib/systemd/system/moorfast-there.service
        systemctl daemon-reload; systemctl enable --now moorfast-there");
    let host = testbed.sh("cat /etc/hostname");
    let all = "cat /proc/sys/net/ipv4/tcp_keepalive_probes /etc/timezone /etc/hostname /proc/sys/kernel/hostname; readlink /etc/localtime
        systemctl is-active moorfast-there; systemctl is-enabled moorfast-there";
    let before = testbed.sh(all);
    let name = "net.ipv4.tcp_keepalive_probes";
    let resources = [
        ("ssh_sysctl", json!({ "name": name, "value": "9" }), json!({ "name": name, "value": "7" })),
        (
            "ssh_systemd_unit",
            json!({ "name": "moorfast-there.service" }),
            json!({ "name": "moorfast-there.service", "enabled": false, "state": "stopped" }),
        ),
        ("ssh_timezone", json!({ "name": "Etc/UTC" }), json!({ "name": "Asia/Tokyo" })),
        ("ssh_hostname", json!({ "name": host }), json!({ "name": "moorfast-there" })),
    ];
    for (kind, there, then) in resources {
        world.import(kind, attributes(there)).await;
        world.apply(kind, attributes(then)).await.unwrap();
    }
    assert_ne!(testbed.sh(all), before);
    for kind in ["ssh_sysctl", "ssh_systemd_unit", "ssh_timezone", "ssh_hostname"] {
        world.destroy(kind).await.unwrap();
    }
    assert_eq!(testbed.sh(all), before);
    testbed.sh("systemctl disable --now moorfast-there; rm /lib/systemd/system/moorfast-there.service; systemctl daemon-reload");
}

#[tokio::test]
async fn an_interrupted_operation_keeps_the_state_that_it_found() {
    let Some(testbed) = Testbed::find().await else { return };
    let world = testbed.world().await;
    testbed.sh("printf '[Service]\nExecStartPre=/bin/sleep 100\nExecStart=/bin/sleep 1000\n' > /lib/systemd/system/moorfast-slow.service; systemctl daemon-reload");
    let unit = create("ssh_systemd_unit", json!({ "name": "moorfast-slow.service", "state": "running" }));
    let operation = world.operation("ssh_systemd_unit", unit, None, Vec::new());
    let operation = Operation { timeout: Some(Duration::from_secs(2)), ..operation };
    let error = world.operate_all(&[operation]).await.pop().unwrap().unwrap_err();
    testbed.sh("systemctl stop moorfast-slow; rm /lib/systemd/system/moorfast-slow.service; systemctl daemon-reload");
    assert_eq!(error.class, Class::Timeout);
    assert_eq!(error.private.as_deref(), Some(&json!({ "enabled": false, "masked": false, "running": false })));
}

#[tokio::test]
async fn swap_is_disabled_and_restored() {
    let Some(testbed) = Testbed::find().await else { return };
    let world = testbed.world().await;
    testbed.sh("printf '# mine\\nLABEL=none none swap sw 0 0\\ntmpfs /mnt tmpfs defaults 0 0\\n' > /etc/fstab; systemctl unmask swap.target");
    let before = testbed.sh("cat /etc/fstab");
    world.apply("ssh_swap", attributes(json!({}))).await.unwrap();
    assert_eq!(
        testbed.sh("cat /etc/fstab; systemctl is-enabled swap.target"),
        "# mine\n# moorfast: LABEL=none none swap sw 0 0\ntmpfs /mnt tmpfs defaults 0 0\nmasked"
    );
    testbed.sh("systemctl unmask swap.target");
    assert_eq!(world.plan("ssh_swap", attributes(json!({}))).await.unwrap().action, ProposedAction::Update);
    world.apply("ssh_swap", attributes(json!({}))).await.unwrap();
    world.destroy("ssh_swap").await.unwrap();
    assert_eq!(testbed.sh("cat /etc/fstab"), before);
    assert_ne!(testbed.sh("systemctl is-enabled swap.target"), "masked");
}

#[tokio::test]
async fn sudo_is_used_and_its_refusal_is_reported() {
    let Some(testbed) = Testbed::find().await else { return };
    let ops = testbed.world_as("ops").await;
    let desired = || attributes(json!({ "path": "/etc/moorfast-test", "content": "x", "mode": "0600" }));
    let applied = ops.apply("ssh_file", desired()).await.unwrap();
    assert_eq!(applied.attributes["owner"], Value::from("root"));
    ops.destroy("ssh_file").await.unwrap();
    let plain = testbed.world_as("plain").await;
    let error = plain.read("ssh_file", Some(desired())).await.unwrap_err();
    assert_eq!(error.class, Class::Denied);
    insta::assert_snapshot!(shown(&error, &testbed), @r#"
    Denied: cannot become root on NODE: sudo requires a password
      sudo: a password is required
    help: permit sudo without a password: echo "plain ALL=(ALL) NOPASSWD: ALL" > /etc/sudoers.d/plain on NODE
    "#);
}

#[tokio::test]
async fn an_unreadable_object_is_denied_and_not_absent() {
    let Some(testbed) = Testbed::find().await else { return };
    let node = Node { user: Some("plain".to_owned()), sudo: false, ..testbed.node.clone() };
    let world = World::new(node, testbed.dir.path()).await;
    let secret = attributes(json!({ "path": "/root/secret", "content": "x" }));
    let error = world.read("ssh_file", Some(secret)).await.unwrap_err();
    assert_eq!(error.class, Class::Denied);
    insta::assert_snapshot!(shown(&error, &testbed), @r#"
    Denied: cannot read /root/secret on NODE: permission denied
    help: run as root: set sudo = true on the node, or log in as another user
    "#);
    let of_another = attributes(json!({ "name": "moored", "authorized_keys": ["ssh-ed25519 AAAA one"] }));
    testbed.sh("userdel -r moored; useradd -m moored; chmod 755 /home/moored; su moored -c 'mkdir -m 700 ~/.ssh'");
    let error = world.read("ssh_user", Some(of_another)).await.unwrap_err();
    testbed.sh("userdel -r moored");
    assert_eq!(error.class, Class::Denied, "{error}");
    let refused = attributes(json!({ "path": "/etc/moorfast-test", "content": "x" }));
    let error = world.apply("ssh_file", refused).await.unwrap_err();
    assert_eq!(error.class, Class::Denied);
    insta::assert_snapshot!(shown(&error, &testbed), @r#"
    Denied: cannot create /etc/moorfast-test on NODE: permission denied
    help: run as root: set sudo = true on the node, or log in as another user
    "#);
}

#[tokio::test]
async fn a_full_disk_and_a_bind_mount() {
    let Some(testbed) = Testbed::find().await else { return };
    let world = testbed.world().await;
    testbed.sh("mkdir -p /moorfast-small && mount -t tmpfs -o size=64k tmpfs /moorfast-small");
    let big = "x".repeat(200_000);
    let error =
        world.apply("ssh_file", attributes(json!({ "path": "/moorfast-small/f", "content": big }))).await.unwrap_err();
    insta::assert_snapshot!(shown(&error, &testbed), @r#"
    Failed: cannot create /moorfast-small/f on NODE: no space left on device
    help: free space on that file system, then apply again
    "#);
    assert_eq!(testbed.sh("ls -A /moorfast-small; umount /moorfast-small; rmdir /moorfast-small"), "");

    testbed.sh(
        "mkdir -p /moorfast-bind && cd /moorfast-bind && echo old > real && : > mounted && mount --bind real mounted",
    );
    let desired = attributes(json!({ "path": "/moorfast-bind/mounted", "content": "new" }));
    world.apply("ssh_file", desired).await.unwrap();
    assert_eq!(testbed.sh("cat /moorfast-bind/real; ls -A /moorfast-bind"), "newmounted\nreal");
    world.clear_records();
    testbed.sh("mkdir -p /moorfast-bind/pods/a && mount -t tmpfs tmpfs /moorfast-bind/pods/a");
    world
        .apply("ssh_directory", attributes(json!({ "path": "/moorfast-bind", "force_destroy": true, "mode": "0700" })))
        .await
        .unwrap();
    world.destroy("ssh_directory").await.unwrap();
    assert_eq!(testbed.sh("ls -d /moorfast-bind; grep -c moorfast-bind /proc/self/mountinfo"), "0");
}

#[tokio::test]
async fn no_temporary_file_is_left_on_the_node() {
    let Some(testbed) = Testbed::find().await else { return };
    let world = testbed.world().await;
    let script = attributes(json!({ "script": "echo $SECRET; ! ps -eo args | grep 's3cr[3]t'" }));
    let mut desired = script;
    desired.insert(
        "environment".to_owned(),
        Value::Map([("SECRET".to_owned(), Value::from("s3cr3t").sensitive())].into()),
    );
    let applied = world.apply("ssh_exec", desired).await.unwrap();
    assert!(!applied.attributes.contains_key("stdout"));
    assert_eq!(testbed.sh("find / -xdev -name '.moorfast*' 2>/dev/null; ls /tmp/.moorfast* 2>/dev/null"), "");
    assert_eq!(world.connection.statistics()[0], ("ssh connections", 1));
    assert!(Path::new(testbed.node.identity_file.as_deref().unwrap()).exists());
}
