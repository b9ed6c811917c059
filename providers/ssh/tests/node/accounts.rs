//! Accounts as the node prints them: numbers, unusual names, moved homes, and keys that sshd trusts.

use super::*;

const KEY: &str = "ssh-ed25519 AAAA one";

#[tokio::test]
async fn groups_by_number_and_with_spaces_have_an_empty_second_plan() {
    let Some(testbed) = Testbed::find().await else { return };
    let world = testbed.world().await;
    testbed.sh("userdel -r moorie; groupdel moor; groupdel 'domain users'; groupadd -g 4100 moor; echo 'domain users:x:4101:' >> /etc/group; touch /srv/moored-file");
    let user = |group: &str, groups: &[&str]| {
        attributes(json!({ "name": "moorie", "group": group, "groups": groups, "remove_home": true }))
    };
    world.apply("ssh_user", user("4100", &["adm", "4101"])).await.unwrap();
    assert_eq!(testbed.sh("id -G moorie"), "4100 4 4101");
    for (group, groups) in [
        ("moor", ["adm", "domain users"]),
        ("04100", ["4", "04101"]),
        ("4100", ["domain users", "adm"]),
        ("moor", ["4101", "adm"]),
    ] {
        let seen = world.read("ssh_user", Some(user(group, &groups))).await.unwrap();
        assert_eq!(seen, world.read("ssh_user", None).await.unwrap(), "another spelling is no drift");
        let proposal = world.plan("ssh_user", user(group, &groups)).await.unwrap();
        assert_eq!(proposal.action, ProposedAction::NoOp, "{group} {groups:?}: {:?}", proposal.planned);
    }
    let twice = world.plan("ssh_user", user("4100", &["4", "adm", "domain users", "moor", "4100"])).await.unwrap();
    assert_eq!(twice.action, ProposedAction::NoOp, "{:?}", twice.planned);
    world.apply("ssh_user", user("domain users", &["moor"])).await.unwrap();
    let file = json!({ "path": "/srv/moored-file", "content": "", "owner": "moorie", "group": "domain users" });
    world.apply("ssh_file", attributes(file)).await.unwrap();
    world.destroy("ssh_file").await.unwrap();
    world.destroy("ssh_user").await.unwrap();
    testbed.sh("groupdel moor; groupdel 'domain users'");
}

#[tokio::test]
async fn accounts_with_unusual_names_are_managed() {
    let Some(testbed) = Testbed::find().await else { return };
    let world = testbed.world().await;
    for name in ["john.doe", "John", "corp\\ann"] {
        testbed.sh(&format!("userdel -r '{name}'; useradd --badname -M '{name}'"));
        world.clear_records();
        world.apply("ssh_user", attributes(json!({ "name": name, "shell": "/bin/bash" }))).await.unwrap();
        assert_eq!(testbed.sh(&format!("getent passwd '{name}' | cut -d: -f7; userdel '{name}'")), "/bin/bash");
        world.clear_records();
        world.apply("ssh_user", attributes(json!({ "name": name, "create_home": false }))).await.unwrap();
        world.destroy("ssh_user").await.unwrap();
        assert_eq!(testbed.sh(&format!("getent passwd '{name}'")), "");
    }
}

#[tokio::test]
async fn a_home_that_moves_belongs_to_the_account() {
    let Some(testbed) = Testbed::find().await else { return };
    let world = testbed.world().await;
    testbed.sh("userdel -r moorie; rm -rf /srv/moor");
    let user = |home: &str, create: bool| {
        attributes(json!({
            "name": "moorie", "home": home, "create_home": create, "remove_home": true, "authorized_keys": [KEY],
        }))
    };
    let owners = |home: &str| testbed.sh(&format!("stat -c '%U %a' {home} {home}/.ssh {home}/.ssh/authorized_keys"));
    world.apply("ssh_user", user("/home/moorie", true)).await.unwrap();
    testbed.sh("touch /home/moorie/mine");
    world.apply("ssh_user", user("/srv/moor/deep/moorie", true)).await.unwrap();
    assert_eq!(owners("/srv/moor/deep/moorie"), "moorie 755\nmoorie 700\nmoorie 600");
    assert_eq!(testbed.sh("ls -d /home/moorie /srv/moor/deep/moorie/mine"), "/srv/moor/deep/moorie/mine");
    world.apply("ssh_user", user("/srv/moor/second", false)).await.unwrap();
    assert_eq!(owners("/srv/moor/second"), "moorie 755\nmoorie 700\nmoorie 600", "its keys need a home");
    // The content of another user's directory stays where it is.
    testbed.sh("mkdir /srv/moor/shared; echo x > /srv/moor/shared/theirs; usermod -d /srv/moor/shared moorie");
    world.apply("ssh_user", user("/srv/moor/third", true)).await.unwrap();
    assert_eq!(testbed.sh("stat -c %U /srv/moor/third; cat /srv/moor/shared/theirs"), "moorie\nx");
    world.destroy("ssh_user").await.unwrap();
    testbed.sh("rm -rf /srv/moor");
}

#[tokio::test]
async fn keys_that_sshd_refuses_are_drift() {
    let Some(testbed) = Testbed::find().await else { return };
    let world = testbed.world().await;
    testbed.sh("userdel -r moorie");
    let user = || attributes(json!({ "name": "moorie", "remove_home": true, "authorized_keys": [KEY] }));
    world.apply("ssh_user", user()).await.unwrap();
    let cases = [
        ("chmod 777 .ssh", Some("sshd refuses /home/moorie/.ssh: other users can write it (mode 0777)")),
        ("chmod 720 .ssh", Some("sshd refuses /home/moorie/.ssh: other users can write it (mode 0720)")),
        ("chown nobody .ssh", Some("sshd refuses /home/moorie/.ssh: it belongs to another user (65534)")),
        ("chown root .ssh", Some("the account cannot read /home/moorie/.ssh (owner root, mode 0700)")),
        (
            "chmod 666 .ssh/authorized_keys",
            Some("sshd refuses /home/moorie/.ssh/authorized_keys: other users can write it (mode 0666)"),
        ),
        ("chmod 0 .ssh/authorized_keys", Some("the account cannot read /home/moorie/.ssh/authorized_keys (mode 0000)")),
        (
            "chown root .ssh/authorized_keys",
            Some("the account cannot read /home/moorie/.ssh/authorized_keys (owner root, mode 0600)"),
        ),
        ("chmod 755 .ssh; chmod 644 .ssh/authorized_keys", None),
        ("chown -R root .ssh", None),
    ];
    for (script, why) in cases {
        testbed.sh(&format!("cd /home/moorie; {script}"));
        let proposal = world.plan("ssh_user", user()).await.unwrap();
        match why {
            None => assert_eq!(proposal.action, ProposedAction::NoOp, "{script}"),
            Some(why) => {
                assert_eq!(proposal.notes, [why], "{script}");
                world.apply("ssh_user", user()).await.unwrap();
                let after = testbed.sh("cd /home/moorie; stat -c '%U %a' .ssh .ssh/authorized_keys");
                assert_eq!(after, "moorie 700\nmoorie 600", "{script}");
            }
        }
    }
    world.destroy("ssh_user").await.unwrap();
}

#[tokio::test]
async fn lists_that_are_removed_from_the_manifest_are_restored() {
    let Some(testbed) = Testbed::find().await else { return };
    let world = testbed.world().await;
    testbed.sh("userdel -r moorie; useradd -m -G adm moorie; cd /home/moorie; mkdir .ssh; echo 'ssh-ed25519 BBBB found' > .ssh/authorized_keys; chown -R moorie .ssh");
    let all = || testbed.sh("id -Gn moorie; cat /home/moorie/.ssh/authorized_keys");
    let lists = || attributes(json!({ "name": "moorie", "groups": ["users"], "authorized_keys": [KEY] }));
    let none = || attributes(json!({ "name": "moorie" }));
    world.apply("ssh_user", lists()).await.unwrap();
    assert_eq!(all(), format!("moorie users\n{KEY}"));
    world.apply("ssh_user", none()).await.unwrap();
    assert_eq!(all(), "moorie adm\nssh-ed25519 BBBB found");
    testbed.sh("userdel -r moorie");
    world.clear_records();
    world.apply("ssh_user", lists()).await.unwrap();
    world.apply("ssh_user", none()).await.unwrap();
    assert_eq!(all(), "moorie", "moorfast made the account, so nothing was found");
    world
        .apply("ssh_user", attributes(json!({ "name": "moorie", "remove_home": true, "comment": "x" })))
        .await
        .unwrap();
    world.destroy("ssh_user").await.unwrap();
    assert_eq!(testbed.sh("getent passwd moorie"), "");
}
