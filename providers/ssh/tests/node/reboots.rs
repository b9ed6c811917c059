//! Reboots: the reasons, the wait until the machine answers again, and interrupted runs.

use super::*;

const REBOOT: &str = "ssh_reboot";

fn boot(testbed: &Testbed) -> String {
    testbed.sh("cat /proc/sys/kernel/random/boot_id")
}

/// The reasons of a node whose kernel comes from no package.
const RESET: &str = "rm -f /run/reboot-required* /var/lib/moorfast-reboot /boot/vmlinuz-*";

#[tokio::test]
async fn a_machine_reboots_once_for_each_reason() {
    let Some(testbed) = Testbed::find().await else { return };
    let world = testbed.world().await;
    testbed.sh(RESET);
    let desired = || attributes(json!({}));
    let reasons =
        || async { world.read(REBOOT, Some(desired())).await.unwrap().unwrap().attributes["reasons"].clone() };
    assert_eq!(world.plan(REBOOT, desired()).await.unwrap().action, ProposedAction::NoOp);
    world.import(REBOOT, desired()).await;
    let first = boot(&testbed);

    testbed.sh("touch /run/reboot-required; printf 'linux-image-6.1\\nlibc6\\nlibc6\\n' > /run/reboot-required.pkgs");
    let planned = world.plan(REBOOT, desired()).await.unwrap();
    assert_eq!(planned.consequences, [restart("the machine reboots: packages require it: libc6 linux-image-6.1")]);
    assert_eq!(boot(&testbed), first, "a plan changes nothing");
    // Operations on the node wait for the reboot.
    let file = create("ssh_file", json!({ "path": "/run/moorfast-after", "content": "x" }));
    let others = [world.operation("ssh_file", file, None, Vec::new())];
    let (applied, outcomes) = tokio::join!(world.apply(REBOOT, desired()), async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        world.operate_all(&others).await
    });
    applied.unwrap();
    outcomes.into_iter().next().unwrap().unwrap();
    let second = boot(&testbed);
    assert_ne!(first, second);
    assert_eq!(testbed.sh("cat /run/moorfast-after; ls /var/lib/moorfast-reboot"), "x");

    // A newer kernel that does not start is a reason for one reboot.
    testbed.sh("touch /boot/vmlinuz-$(uname -r) /boot/vmlinuz-999.1 /boot/vmlinuz-0-rescue");
    world.apply(REBOOT, desired()).await.unwrap();
    let third = boot(&testbed);
    assert_ne!(second, third);
    assert_eq!(reasons().await, Value::List(Vec::new()));
    testbed.sh("touch /boot/vmlinuz-999.2");
    assert!(format!("{:?}", reasons().await).contains("kernel 999.2 is installed"));
    testbed.sh(RESET);

    // Changes of other resources: a check, or a reboot in any case.
    let triggers = || vec![address("ssh_package")];
    let planned = world.plan_with(REBOOT, desired(), triggers()).await.unwrap();
    assert_eq!(planned.consequences, [restart("the machine reboots if it is required after ssh_package.x changes")]);
    world.apply_with(REBOOT, desired(), triggers()).await.unwrap();
    assert_eq!(boot(&testbed), third);
    let always = || attributes(json!({ "when": "restart_on" }));
    world.apply_with(REBOOT, always(), triggers()).await.unwrap();
    let fourth = boot(&testbed);
    assert_ne!(third, fourth);
    world.destroy(REBOOT).await.unwrap();
    assert_eq!(boot(&testbed), fourth);
}

#[tokio::test]
async fn an_interrupted_run_does_not_reboot_the_machine_again() {
    let Some(testbed) = Testbed::find().await else { return };
    let world = testbed.world().await;
    testbed.sh(RESET);
    let always = || attributes(json!({ "when": "restart_on" }));
    world.import(REBOOT, always()).await;
    let before = boot(&testbed);
    // The run ends while it waits for the machine.
    let update = OperationAction::Update(World::full(REBOOT, always()));
    let observed = world.read(REBOOT, Some(always())).await.unwrap();
    let operation = world.operation(REBOOT, update, observed, vec![address("ssh_package")]);
    let operation = Operation { timeout: Some(Duration::from_millis(1500)), ..operation };
    let error = world.operate_all(&[operation]).await.pop().unwrap().unwrap_err();
    assert_eq!(error.class, Class::Timeout, "{error}");
    world.set_incomplete(REBOOT);
    wait_for(|| !matches!(boot(&testbed), boot if boot.is_empty() || boot == before));
    let after = boot(&testbed);
    world.apply_with(REBOOT, always(), vec![address("ssh_package")]).await.unwrap();
    assert_eq!(boot(&testbed), after, "the reboot happened");

    // The run ended before the machine rebooted.
    world.set_incomplete(REBOOT);
    testbed.sh("cat /proc/sys/kernel/random/boot_id > /var/lib/moorfast-reboot");
    world.apply_with(REBOOT, always(), vec![address("ssh_package")]).await.unwrap();
    assert_ne!(boot(&testbed), after);
}

#[tokio::test]
async fn the_machine_that_runs_moorfast_is_never_rebooted() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::local(dir.path()).await;
    let error = world.plan(REBOOT, attributes(json!({}))).await.unwrap_err();
    assert_eq!(error.summary, "the machine that runs moorfast is never rebooted");
    let update = OperationAction::Update(World::full(REBOOT, attributes(json!({ "when": "restart_on" }))));
    let observed = world.read(REBOOT, None).await.unwrap();
    world.operate(REBOOT, update, observed, vec![address("ssh_package")]).await.unwrap_err();
}

fn wait_for(condition: impl Fn() -> bool) {
    let end = std::time::Instant::now() + Duration::from_secs(60);
    while !condition() {
        assert!(std::time::Instant::now() < end);
        std::thread::sleep(Duration::from_millis(200));
    }
}
