//! Tables of nftables: live and at boot, beside tables of others.

use super::*;

const TABLE: &str = "ssh_nftables_table";

/// Shell that prints everything that an ssh_nftables_table may change. No temporary file is left.
const STATE: &str = "nft -s list ruleset; ls -A /etc/nftables.d /etc | grep moorfast; ls /etc/systemd/system /etc/systemd/system/*.wants | grep moorfast-nft; systemctl list-units --all 'moorfast-nft*' --plain --no-legend";

const RESET: &str = "[ -x /usr/sbin/nft ] || { apt-get update; apt-get install -y nftables; } >/dev/null 2>&1
    nft flush ruleset; nft add table inet theirs; nft add chain inet theirs input '{ type filter hook input priority 10; }'; nft add rule inet theirs input counter accept";

const RULES: &str = "chain input {
  type filter hook input priority filter; policy accept;
  ct state established,related accept
  tcp dport { 22, 6443 } counter accept
}
set seen { type ipv4_addr; flags dynamic,timeout; timeout 1h; }
chain watch {
  type filter hook output priority filter
  update @seen { ip daddr }
}";

fn table(rules: &str) -> moorfast_engine::model::Attributes {
    attributes(json!({ "name": "moorfast-test", "rules": rules }))
}

#[tokio::test]
async fn a_table_is_loaded_corrected_and_removed() {
    let Some(testbed) = Testbed::find().await else { return };
    let world = testbed.world().await;
    testbed.sh(RESET);
    let before = testbed.sh(STATE);
    let live = || testbed.sh("nft -s list table inet moorfast-test");

    let planned = world.plan(TABLE, table(RULES)).await.unwrap();
    assert_eq!((planned.action, planned.consequences), (ProposedAction::Create, Vec::new()));
    assert_eq!(testbed.sh(STATE), before, "a plan changes nothing");
    world.apply(TABLE, table(RULES)).await.unwrap();
    assert!(live().contains("tcp dport { 22, 6443 } counter accept"), "{}", live());
    assert!(testbed.sh("nft list ruleset").contains("table inet theirs"));

    // Traffic and elements that come and go are not drift.
    testbed.sh("getent hosts 192.0.2.1; true < /dev/null");
    assert!(testbed.sh("nft list set inet moorfast-test seen").contains("expires"));
    assert_eq!(world.plan(TABLE, table(RULES)).await.unwrap().action, ProposedAction::NoOp);

    // Others change the kernel's table, the file and the unit.
    let file = "/etc/nftables.d/moorfast-inet-moorfast-test.nft";
    let changes = [
        ("nft add rule inet moorfast-test input drop".to_owned(), "ruleset"),
        ("nft delete table inet moorfast-test".to_owned(), "ruleset"),
        (format!("sed -i s/6443/6444/ {file}"), "rules"),
        (format!("sed -i '1i include \"/x\"' {file}"), "rules"),
        ("systemctl disable -q moorfast-nftables-inet-moorfast-test".to_owned(), "at_boot"),
    ];
    for (change, attribute) in changes {
        let applied = world.read(TABLE, None).await.unwrap().unwrap().attributes;
        testbed.sh(&change);
        let drift = world.read(TABLE, None).await.unwrap().unwrap().attributes;
        let differs: Vec<_> = drift
            .iter()
            .filter(|(name, value)| applied.get(name) != Some(value))
            .map(|(name, _)| name.as_str())
            .collect();
        assert_eq!(differs, [attribute], "{change}");
        world.apply(TABLE, table(RULES)).await.unwrap();
    }

    // A new version replaces the table in one step; a plan knows how the kernel prints it.
    let second = RULES.replace("6443", "8443");
    let planned = world.plan(TABLE, table(&second)).await.unwrap();
    assert!(planned.planned["ruleset"].as_str().unwrap().contains("tcp dport { 22, 8443 } counter accept"));
    world.apply(TABLE, table(&second)).await.unwrap();
    assert!(!live().contains("6443"));

    // A flush of all tables by the unit of others, and a boot.
    testbed.sh("printf '#!/usr/sbin/nft -f\\nflush ruleset\\n' > /etc/nftables.conf; systemctl restart nftables");
    assert!(live().contains("8443"), "loaded again after nftables.service");
    testbed.sh("systemctl stop nftables; systemctl stop moorfast-nftables-inet-moorfast-test; nft flush ruleset; systemctl start sysinit.target moorfast-nftables-inet-moorfast-test");
    assert!(live().contains("8443"));

    testbed.sh(RESET);
    world.destroy(TABLE).await.unwrap();
    assert_eq!(testbed.sh(STATE), before);
    world.destroy(TABLE).await.unwrap();
}

#[tokio::test]
async fn rules_that_nft_refuses_change_nothing() {
    let Some(testbed) = Testbed::find().await else { return };
    let world = testbed.world().await;
    testbed.sh(RESET);
    let before = testbed.sh(STATE);
    let wrong = "chain input {\n  type filter hook input priority filter;\n  tcp dprt 22 accept\n}";
    let planned = world.plan(TABLE, table(wrong)).await.unwrap();
    let message = "nft refuses line 3 of the rules: syntax error, unexpected string".to_owned();
    assert_eq!(planned.consequences, [Consequence::Obstacle { message }]);
    let error = world.apply(TABLE, table(wrong)).await.unwrap_err();
    insta::assert_snapshot!(shown(&error, &testbed), @r"
    Invalid: cannot create table inet moorfast-test on NODE: nft refuses the rules
      /dev/stdin:3:7-10: Error: syntax error, unexpected string
        tcp dprt 22 accept
            ^^^^
    help: none
    ");
    assert_eq!(testbed.sh(STATE), before);
    // The table that is loaded stays, too.
    world.clear_records();
    world.apply(TABLE, table(RULES)).await.unwrap();
    let loaded = testbed.sh(STATE);
    let planned = world.plan(TABLE, table(wrong)).await.unwrap();
    assert!(matches!(&planned.consequences[..], [Consequence::Obstacle { .. }]), "{:?}", planned.consequences);
    let observed = world.read(TABLE, Some(table(wrong))).await.unwrap();
    let update = OperationAction::Update(World::full(TABLE, table(wrong)));
    world.operate(TABLE, update, observed, Vec::new()).await.unwrap_err();
    assert_eq!(testbed.sh(STATE), loaded);
    world.destroy(TABLE).await.unwrap();
    assert_eq!(testbed.sh(STATE), before);

    testbed.sh("mv /usr/sbin/nft /usr/sbin/nft.away");
    let planned = world.plan(TABLE, table(RULES)).await.unwrap();
    let error = world.apply(TABLE, table(RULES)).await.unwrap_err();
    testbed.sh("mv /usr/sbin/nft.away /usr/sbin/nft");
    let message = "nft is not installed (install the package nftables with ssh_package)".to_owned();
    assert_eq!(planned.consequences, [Consequence::Obstacle { message: message.clone() }]);
    assert!(error.summary.ends_with(&message), "{error}");
}

#[tokio::test]
async fn a_table_of_others_is_adopted_and_restored() {
    let Some(testbed) = Testbed::find().await else { return };
    let world = testbed.world().await;
    testbed.sh(RESET);
    testbed.sh("nft add table inet moorfast-test; nft add chain inet moorfast-test old");
    let before = testbed.sh(STATE);
    let planned = world.plan(TABLE, table(RULES)).await.unwrap();
    assert_eq!((planned.action, planned.consequences), (ProposedAction::Update, vec![Consequence::Overwrite]));
    world.apply(TABLE, table(RULES)).await.unwrap();
    world.destroy(TABLE).await.unwrap();
    assert_eq!(testbed.sh(STATE), before);

    testbed.sh(RESET);
    let before = testbed.sh(STATE);
    world.apply_and_crash(TABLE, table(RULES)).await;
    world.clear_records();
    // The record is lost, and the table is as desired.
    assert_eq!(world.plan(TABLE, table(RULES)).await.unwrap().action, ProposedAction::NoOp);
    world.import(TABLE, table(RULES)).await;
    world.destroy(TABLE).await.unwrap();
    assert_eq!(testbed.sh(STATE), before);
    testbed.sh("nft flush ruleset");
}
