//! Mounts: the line in /etc/fstab, what is mounted now, and what was there before.

use super::*;

const MOUNT: &str = "ssh_mount";

/// Shell that prints everything that an ssh_mount may change. No temporary file is left.
const STATE: &str = "stat -c '%a %U' /etc/fstab; cat /etc/fstab; grep -F ' /moorfast-' /proc/self/mountinfo | cut -d ' ' -f 4-6; ls -d /moorfast-* 2>/dev/null; ls -A /etc | grep moorfast";

/// Shell that removes what the tests leave, and writes an /etc/fstab with lines of others.
const RESET: &str = "for m in $(cut -d ' ' -f 5 /proc/self/mountinfo | grep ^/moorfast- | sort -r); do umount $(printf %b $m); done; rm -rf /moorfast-*
    printf '# mine\\n\\ntmpfs  /mnt/other\\ttmpfs  noauto  0 0\\n' > /etc/fstab; chmod 0640 /etc/fstab; systemctl daemon-reload";

fn tmpfs(options: &[&str]) -> moorfast_engine::model::Attributes {
    attributes(json!({ "path": "/moorfast-mount", "source": "tmpfs", "fstype": "tmpfs", "options": options }))
}

#[tokio::test]
async fn a_file_system_is_mounted_corrected_and_unmounted() {
    let Some(testbed) = Testbed::find().await else { return };
    let world = testbed.world().await;
    testbed.sh(RESET);
    let before = testbed.sh(STATE);
    let options = || {
        testbed.sh(
            "grep -F ' /moorfast-mount ' /proc/self/mountinfo | cut -d ' ' -f 6; grep -F /moorfast-mount /etc/fstab",
        )
    };
    let desired = || tmpfs(&["size=1m", "nosuid"]);

    let planned = world.plan(MOUNT, desired()).await.unwrap();
    assert_eq!((planned.action, planned.consequences), (ProposedAction::Create, Vec::new()));
    assert_eq!(testbed.sh(STATE), before, "a plan changes nothing");
    let applied = world.apply(MOUNT, desired()).await.unwrap();
    assert_eq!(applied.attributes["mounted_source"], Value::from("tmpfs"));
    assert_eq!(options(), "rw,nosuid,relatime\ntmpfs /moorfast-mount tmpfs size=1m,nosuid 0 0");
    assert_eq!(testbed.sh("systemctl is-active moorfast\\\\x2dmount.mount"), "active", "systemd knows the mount");

    // Others unmount it, mount it read-only, mount something else, and change the line.
    testbed.sh("umount /moorfast-mount");
    let drift = world.read(MOUNT, None).await.unwrap().unwrap().attributes;
    assert_eq!([&drift["mounted"], &drift["mounted_source"]], [&Value::from(false), &Value::from("")]);
    world.apply(MOUNT, desired()).await.unwrap();
    testbed.sh("mount -o remount,ro /moorfast-mount");
    assert_eq!(world.read(MOUNT, None).await.unwrap().unwrap().attributes["read_only"], Value::from(true));
    world.apply(MOUNT, desired()).await.unwrap();
    testbed.sh("umount /moorfast-mount; mount --bind /srv /moorfast-mount");
    let drift = world.read(MOUNT, None).await.unwrap().unwrap().attributes;
    assert_eq!(drift["mounted"], Value::from(false));
    let mount_of_others = world.plan(MOUNT, desired()).await.unwrap().consequences;
    assert!(
        matches!(&mount_of_others[..], [Consequence::Removal { object }] if object.starts_with("the mount of ")),
        "{mount_of_others:?}"
    );
    world.apply(MOUNT, desired()).await.unwrap();
    testbed.sh("sed -i 's/size=1m,nosuid/size=2m/' /etc/fstab");
    world.apply(MOUNT, desired()).await.unwrap();
    testbed.sh("sed -i /moorfast-mount/d /etc/fstab");
    assert_eq!(world.read(MOUNT, None).await.unwrap().unwrap().attributes["at_boot"], Value::from(false));
    let planned = world.plan(MOUNT, desired()).await.unwrap();
    assert_eq!((planned.action, planned.consequences), (ProposedAction::Update, Vec::new()));
    world.apply(MOUNT, desired()).await.unwrap();

    // Options change in place: open files stay.
    testbed.sh("echo kept > /moorfast-mount/file");
    world.apply(MOUNT, tmpfs(&["size=2m", "ro"])).await.unwrap();
    assert_eq!(
        testbed.sh("cat /moorfast-mount/file; df --output=size -h /moorfast-mount | tail -n 1 | tr -d ' '"),
        "kept\n2.0M"
    );
    assert!(options().starts_with("ro,"));
    let mut off = tmpfs(&["size=2m"]);
    off.insert("mounted".to_owned(), Value::from(false));
    world.apply(MOUNT, off).await.unwrap();
    assert_eq!(options(), "tmpfs /moorfast-mount tmpfs size=2m 0 0");
    world.apply(MOUNT, desired()).await.unwrap();

    // A file system in use is not unmounted.
    testbed.sh("systemd-run --unit=moorfast-user --working-directory=/moorfast-mount sleep 1000");
    let error = world.destroy(MOUNT).await.unwrap_err();
    testbed.sh("systemctl stop moorfast-user");
    insta::assert_snapshot!(shown(&error, &testbed), @r"
    Conflict: cannot remove mount /moorfast-mount on NODE: the file system at /moorfast-mount is in use
    help: stop what uses it: `fuser -vm /moorfast-mount` lists the processes, and `findmnt -R /moorfast-mount` the mounts below it
    ");
    world.destroy(MOUNT).await.unwrap();
    assert_eq!(testbed.sh(STATE), before);
    world.destroy(MOUNT).await.unwrap();
}

#[tokio::test]
async fn a_bind_mount_moves_to_another_source() {
    let Some(testbed) = Testbed::find().await else { return };
    let world = testbed.world().await;
    testbed.sh(RESET);
    testbed.sh("mkdir -p '/moorfast-a b' /moorfast-c /moorfast-mount; echo a > '/moorfast-a b/file'; echo c > /moorfast-c/file");
    let before = testbed.sh(STATE);
    let bind = |source: &str, options: &[&str]| {
        attributes(json!({ "path": "/moorfast-mount", "source": source, "fstype": "none", "options": options }))
    };
    world.apply(MOUNT, bind("/moorfast-a b", &["bind"])).await.unwrap();
    assert_eq!(
        testbed.sh("cat /moorfast-mount/file; grep moorfast-mount /etc/fstab"),
        "a\n/moorfast-a\\040b /moorfast-mount none bind 0 0"
    );
    world.apply(MOUNT, bind("/moorfast-a b", &["bind", "ro"])).await.unwrap();
    assert_eq!(
        testbed.sh("touch /moorfast-mount/x 2>/dev/null || echo refused; touch '/moorfast-a b/file' && echo written"),
        "refused\nwritten"
    );
    let planned = world.plan(MOUNT, bind("/moorfast-c", &["bind"])).await.unwrap();
    assert!(
        matches!(&planned.consequences[..], [Consequence::Restart { cause }] if cause.ends_with("[/moorfast-a b] is unmounted first")),
        "{:?}",
        planned.consequences
    );
    world.apply(MOUNT, bind("/moorfast-c", &["bind"])).await.unwrap();
    assert_eq!(testbed.sh("cat /moorfast-mount/file; touch /moorfast-mount/file && echo written"), "c\nwritten");
    world.destroy(MOUNT).await.unwrap();
    assert_eq!(testbed.sh(STATE), before, "the mount point existed before");

    let error = world.apply(MOUNT, bind("/moorfast-none", &["bind"])).await.unwrap_err();
    assert_eq!(error.class, Class::Failed);
    assert!(error.summary.contains("/moorfast-none"), "{error}");
    assert_eq!(testbed.sh(STATE), before, "a line that cannot be mounted is not written");
    world.clear_records();
    testbed.sh(RESET);
}

#[tokio::test]
async fn mounts_of_others_are_adopted_and_restored() {
    let Some(testbed) = Testbed::find().await else { return };
    let world = testbed.world().await;
    // A line with another spelling, mounted.
    testbed.sh(RESET);
    testbed.sh("mkdir /moorfast-mount; echo 'none\t/moorfast-mount/   tmpfs' >> /etc/fstab; mount /moorfast-mount");
    let before = testbed.sh(STATE);
    let planned = world.plan(MOUNT, tmpfs(&["size=1m"])).await.unwrap();
    assert_eq!((planned.action, planned.consequences), (ProposedAction::Update, vec![Consequence::Overwrite]));
    world.apply(MOUNT, tmpfs(&["size=1m"])).await.unwrap();
    let destroyed = world.destroy(MOUNT).await.unwrap();
    assert_eq!(destroyed.notes, ["/moorfast-mount stays mounted: it was mounted before"]);
    assert_eq!(testbed.sh(STATE), before);
    // It is as desired, and only recorded.
    let there = attributes(json!({ "path": "/moorfast-mount", "source": "none", "fstype": "tmpfs" }));
    assert_eq!(world.plan(MOUNT, there.clone()).await.unwrap().action, ProposedAction::NoOp);
    world.import(MOUNT, there.clone()).await;
    assert_eq!(world.plan(MOUNT, there).await.unwrap().action, ProposedAction::NoOp);
    world.destroy(MOUNT).await.unwrap();
    assert_eq!(testbed.sh(STATE), before);

    // A mount without a line.
    testbed.sh(RESET);
    testbed.sh("mkdir /moorfast-mount; mount -t tmpfs tmpfs /moorfast-mount");
    let before = testbed.sh(STATE);
    world.apply(MOUNT, tmpfs(&["defaults"])).await.unwrap();
    world.destroy(MOUNT).await.unwrap();
    assert_eq!(testbed.sh(STATE), before);

    testbed.sh("umount /moorfast-mount; for i in 1 2; do echo 'tmpfs /moorfast-mount tmpfs' >> /etc/fstab; done");
    let error = world.plan(MOUNT, tmpfs(&["defaults"])).await.unwrap_err();
    insta::assert_snapshot!(shown(&error, &testbed), @r"
    Conflict: /etc/fstab has 2 lines for /moorfast-mount
    help: delete all of them but one
    ");
    // A crash after the operation leaves what a destroy needs.
    testbed.sh(RESET);
    let before = testbed.sh(STATE);
    testbed.sh("mkdir /moorfast-mount");
    world.apply_and_crash(MOUNT, tmpfs(&["size=1m"])).await;
    world.destroy(MOUNT).await.unwrap();
    assert_eq!(testbed.sh("rmdir /moorfast-mount; ") + &testbed.sh(STATE), before);
    testbed.sh("umount /moorfast-*; rm -rf /moorfast-*; : > /etc/fstab; systemctl daemon-reload");
}
