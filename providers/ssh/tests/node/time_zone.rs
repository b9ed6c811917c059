//! The time zone: the link and the file, what was there before, and zones that the node does not have.

use super::*;

const TIMEZONE: &str = "ssh_timezone";

fn zone(name: &str) -> moorfast_engine::model::Attributes {
    attributes(json!({ "name": name }))
}

/// Shell that prints everything that an ssh_timezone may change. No temporary file is left.
const STATE: &str =
    "stat -c '%N %F %a %U' /etc/localtime /etc/timezone 2>&1; cat /etc/timezone; ls -A /etc | grep moorfast";

/// Shell that gives the node the time zone of its image again.
const RESET: &str = "rm -f /etc/localtime /etc/timezone; ln -s /usr/share/zoneinfo/Etc/UTC /etc/localtime; echo Etc/UTC > /etc/timezone";

#[tokio::test]
async fn a_time_zone_is_set_corrected_and_restored() {
    let Some(testbed) = Testbed::find().await else { return };
    let world = testbed.world().await;
    let cases = [
        ("a link and a file", "chmod 0600 /etc/timezone"),
        ("no file", "ln -sfT ../usr/share/zoneinfo/Asia/Tokyo /etc/localtime; rm /etc/timezone"),
        ("no link, and a file without a line break", "rm /etc/localtime; printf Etc/UTC > /etc/timezone"),
        ("neither", "rm /etc/localtime /etc/timezone"),
        ("a link out of the database", "ln -sfT /opt/zone /etc/localtime"),
        ("a file that is a link", "echo UTC > /tmp/zone; ln -sfT /tmp/zone /etc/timezone"),
    ];
    for (what, script) in cases {
        testbed.sh(&format!("{RESET}; {script}"));
        let before = testbed.sh(STATE);
        let has_file = testbed.sh("[ ! -f /etc/timezone ] || [ -L /etc/timezone ] || echo yes") == "yes";
        let planned = world.plan(TIMEZONE, zone("Europe/Berlin")).await.unwrap();
        assert_eq!((planned.action, planned.consequences), (ProposedAction::Update, Vec::new()), "{what}");
        assert_eq!(testbed.sh(STATE), before, "{what}: a plan changes nothing");

        let applied = world.apply(TIMEZONE, zone("Europe/Berlin")).await.unwrap();
        let found = world.record(TIMEZONE).unwrap().private;
        assert_eq!(applied.attributes.contains_key("timezone_file"), has_file, "{what}");
        assert_eq!(testbed.sh("readlink /etc/localtime; date -d @0 +%Z"), "/usr/share/zoneinfo/Europe/Berlin\nCET");
        if has_file {
            assert_eq!(testbed.sh("cat /etc/timezone"), "Europe/Berlin", "{what}");
        }

        // What others change is corrected, each part on its own.
        testbed.sh("ln -sfT /usr/share/zoneinfo/UTC /etc/localtime");
        world.apply(TIMEZONE, zone("Europe/Berlin")).await.unwrap();
        if has_file {
            testbed.sh("echo UTC > /etc/timezone");
            world.apply(TIMEZONE, zone("Europe/Berlin")).await.unwrap();
        }
        world.apply(TIMEZONE, zone("America/Argentina/Buenos_Aires")).await.unwrap();
        assert_eq!(world.record(TIMEZONE).unwrap().private, found, "{what}: the first state is restored");
        world.destroy(TIMEZONE).await.unwrap();
        assert_eq!(testbed.sh(STATE), before, "{what}");
    }
    testbed.sh(RESET);
}

#[tokio::test]
async fn a_link_to_the_time_zone_in_another_spelling_is_kept() {
    let Some(testbed) = Testbed::find().await else { return };
    let world = testbed.world().await;
    testbed.sh(RESET);
    testbed.sh("ln -sfT ../usr/share/zoneinfo/Asia/Tokyo /etc/localtime; echo Asia/Tokyo > /etc/timezone");
    assert_eq!(world.plan(TIMEZONE, zone("Asia/Tokyo")).await.unwrap().action, ProposedAction::NoOp);
    // Only the file differs.
    testbed.sh("echo Etc/UTC > /etc/timezone");
    world.apply(TIMEZONE, zone("Asia/Tokyo")).await.unwrap();
    assert_eq!(
        testbed.sh("readlink /etc/localtime; cat /etc/timezone"),
        "../usr/share/zoneinfo/Asia/Tokyo\nAsia/Tokyo"
    );
    world.destroy(TIMEZONE).await.unwrap();
    assert_eq!(testbed.sh("cat /etc/timezone"), "Etc/UTC");
    testbed.sh(RESET);
}

#[tokio::test]
async fn a_time_zone_that_cannot_be_set_changes_nothing() {
    let Some(testbed) = Testbed::find().await else { return };
    let world = testbed.world().await;
    let obstacle = |message: &str| Consequence::Obstacle { message: message.to_owned() };

    testbed.sh(RESET);
    let before = testbed.sh(STATE);
    let proposal = world.plan(TIMEZONE, zone("Europe/Berlim")).await.unwrap();
    let message = "the node has no time zone `Europe/Berlim` (install tzdata with ssh_package, or correct the name)";
    assert_eq!(proposal.consequences, [obstacle(message)]);
    let error = world.apply_failing(TIMEZONE, zone("Europe/Berlim")).await;
    insta::assert_snapshot!(shown(&error, &testbed), @r"
    Invalid: cannot change /etc/localtime on NODE: the node has no time zone `Europe/Berlim`
    help: install tzdata with ssh_package, or correct the name
    ");
    world.destroy(TIMEZONE).await.unwrap();
    assert_eq!(testbed.sh(STATE), before);

    // A copy of a time zone belongs to somebody else. A record of a run that was killed does not change that.
    testbed.sh("rm /etc/localtime; cp /usr/share/zoneinfo/UTC /etc/localtime");
    let before = testbed.sh(STATE);
    let proposal = world.plan(TIMEZONE, zone("Europe/Berlin")).await.unwrap();
    assert_eq!(proposal.consequences, [obstacle("there is a regular file at the path")]);
    let error = world.apply_failing(TIMEZONE, zone("Europe/Berlin")).await;
    insta::assert_snapshot!(shown(&error, &testbed), @r"
    Conflict: cannot change /etc/localtime on NODE: there is a regular file at that path
    help: none
    ");
    let destroyed = world.destroy(TIMEZONE).await.unwrap();
    assert!(destroyed.notes.is_empty(), "without private data nothing was changed: {:?}", destroyed.notes);
    assert_eq!(testbed.sh(STATE), before);

    testbed.sh(RESET);
    world.apply(TIMEZONE, zone("Europe/Berlin")).await.unwrap();
    testbed.sh("rm /etc/localtime; cp /usr/share/zoneinfo/UTC /etc/localtime");
    let destroyed = world.destroy(TIMEZONE).await.unwrap();
    assert_eq!(destroyed.notes, ["the regular file at /etc/localtime stays: moorfast did not create it"]);
    testbed.sh(RESET);
}
