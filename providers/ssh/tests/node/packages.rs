//! apt: downgrades, held packages, and packages that replace others.

use super::*;

const PACKAGE: &str = "ssh_package";

/// A repository of own packages on the node, which are removed when this is dropped.
struct Repository<'a>(&'a Testbed);

const REPOSITORY: &str = r#"
rm -rf /srv/debs; mkdir -p /srv/debs; cd /srv/debs
make() {
  mkdir -p build/DEBIAN
  printf 'Package: %s\nVersion: %s\nArchitecture: all\nMaintainer: A <a@example.com>\nDescription: A test\n%b' "$1" "$2" "$3" > build/DEBIAN/control
  dpkg-deb -b build "$1_$2.deb"; rm -r build
}
make mf-tool 1.0 ''; make mf-tool 2.0 ''; make mf-uses 1.0 'Depends: mf-tool (>= 2.0)\n'
make mf-old 1.0 ''; make mf-new 1.0 'Conflicts: mf-old\nReplaces: mf-old\nProvides: mf-old\n'
for F in *.deb; do
  dpkg-deb -f "$F"
  printf 'Filename: ./%s\nSize: %s\nSHA256: %s\n\n' "$F" "$(stat -c %s "$F")" "$(sha256sum < "$F" | cut -d ' ' -f 1)"
done > Packages
echo 'deb [trusted=yes] file:/srv/debs ./' > /etc/apt/sources.list.d/moorfast-test.list
apt-get -q update
"#;

impl<'a> Repository<'a> {
    fn on(testbed: &'a Testbed) -> Self {
        let this = Self(testbed);
        testbed.sh(REPOSITORY);
        this
    }

    /// Returns the installed packages of the repository, each as `name-version`.
    fn installed(&self) -> String {
        self.0.sh("dpkg-query -W -f '${db:Status-Status} ${Package}-${Version}\n' 'mf-*' | sed -n 's/^installed //p' | sort | paste -sd' '")
    }
}

impl Drop for Repository<'_> {
    fn drop(&mut self) {
        self.0.sh("apt-mark unhold mf-tool; apt-get -y -q purge 'mf-*'; rm -rf /srv/debs /etc/apt/sources.list.d/moorfast-test.list; apt-get -q update");
    }
}

fn obstacle(message: &str) -> Vec<Consequence> {
    vec![Consequence::Obstacle { message: message.to_owned() }]
}

/// Applies `desired` without the consequences of its plan, as if the plan had not shown them.
async fn apply_unplanned(world: &World, desired: serde_json::Value) -> ProviderError {
    let desired = World::full(PACKAGE, attributes(desired));
    let observed = world.read(PACKAGE, Some(desired.clone())).await.unwrap();
    world.operate(PACKAGE, OperationAction::Update(desired), observed, Vec::new()).await.unwrap_err()
}

#[tokio::test]
async fn apt_downgrades_only_with_allow_downgrade() {
    let Some(testbed) = Testbed::find().await else { return };
    let world = testbed.world().await;
    let repository = Repository::on(&testbed);
    world.apply(PACKAGE, attributes(json!({ "names": ["mf-tool"] }))).await.unwrap();
    assert_eq!(repository.installed(), "mf-tool-2.0");

    let older = || json!({ "names": ["mf-tool=1.0"] });
    let plan = world.plan(PACKAGE, attributes(older())).await.unwrap();
    let newer =
        "package mf-tool 2.0 is newer than 1.0 (allow_downgrade = true replaces it by the older version)".to_owned();
    assert_eq!(plan.consequences, obstacle(&newer));
    let error = apply_unplanned(&world, older()).await;
    insta::assert_snapshot!(shown(&error, &testbed), @r#"
    Conflict: cannot change package mf-tool on NODE: the installed version is newer: mf-tool 2.0
    help: allow_downgrade = true permits the older version
    "#);

    let allowed = || json!({ "names": ["mf-tool=1.0"], "allow_downgrade": true });
    let error = apply_unplanned(&world, allowed()).await;
    assert_eq!(error.class, Class::Conflict);
    assert!(error.summary.contains("packages that the plan did not show: mf-tool"), "{error}");
    assert_eq!(repository.installed(), "mf-tool-2.0");
    let plan = world.plan(PACKAGE, attributes(allowed())).await.unwrap();
    let downgrade = Consequence::Downgrade { object: "package mf-tool".into(), from: "2.0".into(), to: "1.0".into() };
    assert_eq!(plan.consequences, [downgrade]);
    world.apply(PACKAGE, attributes(allowed())).await.unwrap();
    assert_eq!(repository.installed(), "mf-tool-1.0");
    world.destroy(PACKAGE).await.unwrap();
    assert_eq!(repository.installed(), "");
}

#[tokio::test]
async fn a_downgrade_shows_the_packages_that_need_the_newer_version_as_removed() {
    let Some(testbed) = Testbed::find().await else { return };
    let world = testbed.world().await;
    let repository = Repository::on(&testbed);
    testbed.sh("apt-get -y -q install mf-uses");
    assert_eq!(repository.installed(), "mf-tool-2.0 mf-uses-1.0");
    let older = || attributes(json!({ "names": ["mf-tool=1.0"], "allow_downgrade": true }));
    let plan = world.plan(PACKAGE, older()).await.unwrap();
    let removal = Consequence::Removal { object: "package mf-uses 1.0".into() };
    let downgrade = Consequence::Downgrade { object: "package mf-tool".into(), from: "2.0".into(), to: "1.0".into() };
    assert_eq!(plan.consequences, [removal, downgrade]);
    world.apply(PACKAGE, older()).await.unwrap();
    assert_eq!(repository.installed(), "mf-tool-1.0");
}

#[tokio::test]
async fn apt_changes_held_packages_only_with_allow_held() {
    let Some(testbed) = Testbed::find().await else { return };
    let world = testbed.world().await;
    let repository = Repository::on(&testbed);
    testbed.sh("apt-get -y -q install mf-tool=1.0; apt-mark hold mf-tool");
    let newer = || json!({ "names": ["mf-tool=2.0"] });
    let plan = world.plan(PACKAGE, attributes(newer())).await.unwrap();
    let held = "package mf-tool is held at its version (allow_held = true changes it, and it stays held)";
    assert_eq!(plan.consequences, obstacle(held));
    let error = apply_unplanned(&world, newer()).await;
    insta::assert_snapshot!(shown(&error, &testbed), @r#"
    Conflict: cannot change package mf-tool on NODE: the change affects packages that are held: mf-tool
    help: allow_held = true permits the change; `apt-mark unhold` ends the hold
    "#);
    assert_eq!(repository.installed(), "mf-tool-1.0");

    let allowed = attributes(json!({ "names": ["mf-tool=2.0"], "allow_held": true }));
    let plan = world.plan(PACKAGE, allowed.clone()).await.unwrap();
    assert_eq!(plan.consequences, []);
    world.apply(PACKAGE, allowed).await.unwrap();
    assert_eq!(repository.installed(), "mf-tool-2.0");
    assert_eq!(testbed.sh("apt-mark showhold"), "mf-tool", "the package stays held");

    world.clear_records();
    let absent = || json!({ "names": ["mf-tool"], "state": "absent" });
    let plan = world.plan(PACKAGE, attributes(absent())).await.unwrap();
    let removal = Consequence::Removal { object: "package mf-tool 2.0".into() };
    assert_eq!(plan.consequences, [vec![removal], obstacle(held)].concat());
    assert_eq!(apply_unplanned(&world, absent()).await.class, Class::Conflict);
    assert_eq!(repository.installed(), "mf-tool-2.0");
    let allowed = attributes(json!({ "names": ["mf-tool"], "state": "absent", "allow_held": true }));
    world.apply(PACKAGE, allowed).await.unwrap();
    assert_eq!(repository.installed(), "");
}

#[tokio::test]
async fn a_package_that_replaces_another_shows_it_as_removed() {
    let Some(testbed) = Testbed::find().await else { return };
    let world = testbed.world().await;
    let repository = Repository::on(&testbed);
    testbed.sh("apt-get -y -q install mf-old");
    let new = || json!({ "names": ["mf-new"] });
    let plan = world.plan(PACKAGE, attributes(new())).await.unwrap();
    assert_eq!(plan.consequences, [Consequence::Removal { object: "package mf-old 1.0".into() }]);
    let error = apply_unplanned(&world, new()).await;
    assert!(error.summary.contains("packages that the plan did not show: mf-old"), "{error}");
    assert_eq!(repository.installed(), "mf-old-1.0");
    world.apply(PACKAGE, attributes(new())).await.unwrap();
    assert_eq!(repository.installed(), "mf-new-1.0");
    world.destroy(PACKAGE).await.unwrap();
    assert_eq!(repository.installed(), "");
}

#[tokio::test]
async fn a_destroy_shows_what_else_is_removed_and_what_prevents_it() {
    let Some(testbed) = Testbed::find().await else { return };
    let world = testbed.world().await;
    let repository = Repository::on(&testbed);
    let removal = |package: &str| Consequence::Removal { object: format!("package {package}") };
    world.apply(PACKAGE, attributes(json!({ "names": ["mf-uses"] }))).await.unwrap();
    assert_eq!(world.removal_consequences(PACKAGE).await.unwrap(), [removal("mf-tool 2.0")]);
    assert_eq!(repository.installed(), "mf-tool-2.0 mf-uses-1.0");
    world.destroy(PACKAGE).await.unwrap();
    assert_eq!(repository.installed(), "");

    world.apply(PACKAGE, attributes(json!({ "names": ["mf-tool"] }))).await.unwrap();
    assert_eq!(world.removal_consequences(PACKAGE).await.unwrap(), []);
    testbed.sh("apt-get -y -q install mf-uses");
    let needed = "packages that moorfast did not install need them: mf-uses";
    assert_eq!(world.removal_consequences(PACKAGE).await.unwrap(), obstacle(needed));
    let error = world.destroy(PACKAGE).await.unwrap_err();
    assert!(error.summary.contains(needed), "{error}");
    assert_eq!(repository.installed(), "mf-tool-2.0 mf-uses-1.0");
}
