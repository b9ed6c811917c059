//! Files and directories where the file system or the user does not permit a change: the plan shows it, and the error of an apply explains it.

use super::*;

impl Testbed {
    /// Mounts a tmpfs with these options at `path`.
    fn mount(&self, path: &str, options: &str) {
        self.sh(&format!("umount {path}; mkdir -p {path} && mount -t tmpfs -o {options} tmpfs {path}"));
    }

    fn unmount(&self, path: &str) {
        self.sh(&format!("umount {path}; rmdir {path}"));
    }
}

fn obstacle(message: &str) -> Vec<Consequence> {
    vec![Consequence::Obstacle { message: message.to_owned() }]
}

/// Plans and applies a creation; returns the consequences of the plan and the error of the apply.
async fn refused(world: &World, kind: &str, desired: serde_json::Value) -> (Vec<Consequence>, ProviderError) {
    let plan = world.plan(kind, attributes(desired.clone())).await.unwrap();
    let error = world.operate(kind, create(kind, desired), None, Vec::new()).await.unwrap_err();
    (plan.consequences, error)
}

#[tokio::test]
async fn a_read_only_file_system() {
    let Some(testbed) = Testbed::find().await else { return };
    let world = testbed.world().await;
    testbed.mount("/moorfast-ro", "size=1m");
    testbed.sh("cd /moorfast-ro; echo old > f; mkdir d; mount -o remount,ro /moorfast-ro");
    let on_it = obstacle("/moorfast-ro is on a read-only file system");

    let (plan, error) = refused(&world, "ssh_file", json!({ "path": "/moorfast-ro/new", "content": "x" })).await;
    assert_eq!(plan, on_it);
    insta::assert_snapshot!(shown(&error, &testbed), @r#"
    Failed: cannot create /moorfast-ro/new on NODE: read-only file system
    help: the file system is mounted read-only: choose another path, or remount it
    "#);
    let (plan, error) = refused(&world, "ssh_file", json!({ "path": "/moorfast-ro/f", "content": "x" })).await;
    assert_eq!(plan, [vec![Consequence::Overwrite], on_it.clone()].concat());
    assert!(error.summary.ends_with("read-only file system"), "{error}");
    let (plan, error) = refused(&world, "ssh_directory", json!({ "path": "/moorfast-ro/new" })).await;
    assert_eq!(plan, on_it);
    insta::assert_snapshot!(shown(&error, &testbed), @r#"
    Failed: cannot create /moorfast-ro/new on NODE: read-only file system
    help: the file system is mounted read-only: choose another path, or remount it
    "#);
    let (plan, error) = refused(&world, "ssh_directory", json!({ "path": "/moorfast-ro/d", "mode": "0700" })).await;
    assert_eq!(plan, on_it);
    insta::assert_snapshot!(shown(&error, &testbed), @r#"
    Failed: cannot create /moorfast-ro/d on NODE: read-only file system
    help: the file system is mounted read-only: choose another path, or remount it
    "#);
    let same = attributes(json!({ "path": "/moorfast-ro/f", "content": "old\n" }));
    assert_eq!(world.plan("ssh_file", same).await.unwrap().consequences, [], "no change, no obstacle");
    testbed.unmount("/moorfast-ro");
}

#[tokio::test]
async fn a_full_file_system() {
    let Some(testbed) = Testbed::find().await else { return };
    let world = testbed.world().await;
    testbed.mount("/moorfast-full", "size=64k,nr_inodes=3");
    let big = "x".repeat(200_000);
    let (plan, error) = refused(&world, "ssh_file", json!({ "path": "/moorfast-full/f", "content": big })).await;
    assert_eq!(
        plan,
        obstacle("the file system of /moorfast-full has 65536 bytes of free space, and 200000 are needed")
    );
    insta::assert_snapshot!(shown(&error, &testbed), @r#"
    Failed: cannot create /moorfast-full/f on NODE: no space left on device
    help: free space on that file system, then apply again
    "#);
    assert_eq!(testbed.sh("ls -A /moorfast-full"), "", "nothing is left of the file");

    testbed.sh("mkdir /moorfast-full/a /moorfast-full/b");
    let no_inode = obstacle("the file system of /moorfast-full has no free inode");
    let (plan, error) = refused(&world, "ssh_directory", json!({ "path": "/moorfast-full/c" })).await;
    assert_eq!(plan, no_inode);
    insta::assert_snapshot!(shown(&error, &testbed), @r#"
    Failed: cannot create /moorfast-full/c on NODE: no space left on device
    help: free space on that file system, then apply again
    "#);
    let (plan, error) = refused(&world, "ssh_file", json!({ "path": "/moorfast-full/c", "content": "" })).await;
    assert_eq!(plan, no_inode);
    assert!(error.summary.ends_with("no space left on device"), "{error}");
    testbed.unmount("/moorfast-full");
}

#[tokio::test]
async fn a_user_with_sudo_manages_files_and_directories_of_root() {
    let Some(testbed) = Testbed::find().await else { return };
    let world = testbed.world_as("ops").await;
    testbed.sh("rm -rf /srv/mf-sudo; mkdir -m 0700 /srv/mf-sudo");
    let owners = |path: &str| testbed.sh(&format!("stat -c '%U:%G %a' {path}"));
    let directory =
        |mode: &str| attributes(json!({ "path": "/srv/mf-sudo/a/d", "mode": mode, "owner": "ops", "group": "root" }));
    world.apply("ssh_directory", directory("2750")).await.unwrap();
    assert_eq!(owners("/srv/mf-sudo/a /srv/mf-sudo/a/d"), "root:root 755\nops:root 2750");
    world.apply("ssh_directory", directory("0700")).await.unwrap();
    assert_eq!(owners("/srv/mf-sudo/a/d"), "ops:root 700");

    let file = |content: &str| attributes(json!({ "path": "/srv/mf-sudo/f", "content": content, "mode": "0600" }));
    world.apply("ssh_file", file("one")).await.unwrap();
    assert_eq!(owners("/srv/mf-sudo/f"), "root:root 600");
    testbed.sh("chown ops /srv/mf-sudo/f");
    world.apply("ssh_file", file("two")).await.unwrap();
    assert_eq!(owners("/srv/mf-sudo/f"), "ops:root 600", "without owner in the manifest the file keeps its owner");
    // A big file is uploaded after the script, which runs under sudo.
    std::fs::write(testbed.dir.path().join("big"), "x".repeat(3_000_000)).unwrap();
    let big = attributes(json!({ "path": "/srv/mf-sudo/f", "source": "big", "owner": "root" }));
    world.apply("ssh_file", big).await.unwrap();
    assert_eq!(testbed.sh("stat -c '%U %s' /srv/mf-sudo/f"), "root 3000000");
    world.destroy("ssh_file").await.unwrap();
    world.destroy("ssh_directory").await.unwrap();
    assert_eq!(testbed.sh("cd /srv/mf-sudo; find . ! -type d; rm -rf /srv/mf-sudo"), "");
}

#[tokio::test]
async fn a_user_without_sudo_sees_in_the_plan_what_only_root_can_change() {
    let Some(testbed) = Testbed::find().await else { return };
    let node = Node { user: Some("plain".to_owned()), sudo: false, ..testbed.node.clone() };
    let world = World::new(node, testbed.dir.path()).await;
    let only_root =
        obstacle("the user that moorfast logs in as cannot write to /srv (sudo = true on the node makes it root)");
    let (plan, error) = refused(&world, "ssh_file", json!({ "path": "/srv/mf-plain", "content": "x" })).await;
    assert_eq!((plan, error.class), (only_root.clone(), Class::Denied));
    let (plan, error) = refused(&world, "ssh_directory", json!({ "path": "/srv/mf-plain" })).await;
    assert_eq!(plan, only_root);
    insta::assert_snapshot!(shown(&error, &testbed), @r#"
    Denied: cannot create /srv/mf-plain on NODE: permission denied
    help: run as root: set sudo = true on the node, or log in as another user
    "#);
    let own = || attributes(json!({ "path": "/home/plain/d/f", "content": "x", "parents": true }));
    world.apply("ssh_file", own()).await.unwrap();
    world.destroy("ssh_file").await.unwrap();
    testbed.sh("rm -r /home/plain/d");
}
