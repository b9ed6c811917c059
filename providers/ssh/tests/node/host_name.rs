//! The host name: the kernel's and the one for the next boot, and what was there before.

use super::*;

const HOSTNAME: &str = "ssh_hostname";

/// Shell that prints everything that an ssh_hostname may change. No temporary file is left.
const STATE: &str =
    "stat -c '%N %F %a %U' /etc/hostname 2>&1; cat /etc/hostname /proc/sys/kernel/hostname; ls -A /etc | grep moorfast";

#[tokio::test]
async fn a_host_name_is_set_corrected_and_restored() {
    let Some(testbed) = Testbed::find().await else { return };
    let world = testbed.world().await;
    let name = |name: &str| attributes(json!({ "name": name }));
    let original = testbed.sh("cat /etc/hostname");
    let reset = || {
        testbed.sh(&format!(
            "rm -f /etc/hostname; echo {original} > /etc/hostname; echo {original} > /proc/sys/kernel/hostname"
        ))
    };
    let cases = [
        ("a file", "true"),
        ("a file with a comment", "printf '# mine\\n\\nother' > /etc/hostname; chmod 0600 /etc/hostname"),
        ("another name of the kernel", "echo transient > /proc/sys/kernel/hostname"),
        ("no file", "rm /etc/hostname"),
    ];
    for (what, script) in cases {
        reset();
        testbed.sh(script);
        let before = testbed.sh(STATE);
        let planned = world.plan(HOSTNAME, name("gpu01.example.org")).await.unwrap();
        assert_eq!((planned.action, planned.consequences), (ProposedAction::Update, Vec::new()), "{what}");
        assert_eq!(testbed.sh(STATE), before, "{what}: a plan changes nothing");

        world.apply(HOSTNAME, name("gpu01.example.org")).await.unwrap();
        let found = world.record(HOSTNAME).unwrap().private;
        assert_eq!(
            testbed.sh("uname -n; cat /etc/hostname; hostnamectl --static"),
            "gpu01.example.org\ngpu01.example.org\ngpu01.example.org"
        );
        // What others change is corrected, each part on its own.
        testbed.sh("echo transient > /proc/sys/kernel/hostname");
        world.apply(HOSTNAME, name("gpu01.example.org")).await.unwrap();
        testbed.sh("echo other > /etc/hostname");
        world.apply(HOSTNAME, name("gpu02")).await.unwrap();
        assert_eq!(world.record(HOSTNAME).unwrap().private, found, "{what}: the first state is restored");
        world.destroy(HOSTNAME).await.unwrap();
        assert_eq!(testbed.sh(STATE), before, "{what}");
    }
    // A file with comments stays as it is, if it has the name.
    reset();
    testbed.sh("printf '# mine\\ngpu03\\n' > /etc/hostname");
    world.apply(HOSTNAME, name("gpu03")).await.unwrap();
    assert_eq!(testbed.sh("cat /etc/hostname; uname -n"), "# mine\ngpu03\ngpu03");
    world.clear_records();

    reset();
    testbed.sh("mv /etc/hostname /etc/moorfast-name; ln -s moorfast-name /etc/hostname");
    let proposal = world.plan(HOSTNAME, name("gpu01")).await.unwrap();
    let message = "there is a symbolic link at the path".to_owned();
    assert_eq!(proposal.consequences, [Consequence::Obstacle { message }]);
    let error = world.apply_failing(HOSTNAME, name("gpu01")).await;
    insta::assert_snapshot!(shown(&error, &testbed), @r"
    Conflict: cannot change /etc/hostname on NODE: there is a symbolic link at that path
    help: none
    ");
    world.clear_records();
    testbed.sh("rm -f /etc/hostname /etc/moorfast-name");
    reset();
}
