//! Kernel parameters: values at boot, values that the kernel refuses, and equal spellings.

use super::*;

const SYSCTL: &str = "ssh_sysctl";

fn parameter(name: &str, value: &str) -> moorfast_engine::model::Attributes {
    attributes(json!({ "name": name, "value": value }))
}

#[tokio::test]
async fn a_value_holds_at_boot_whatever_other_files_set() {
    let Some(testbed) = Testbed::find().await else { return };
    let world = testbed.world().await;
    let name = "net.ipv4.tcp_keepalive_probes";
    let set = |value: &str| parameter(name, value);
    let boot = || {
        testbed.sh("/lib/systemd/systemd-sysctl --prefix=/net/ipv4/tcp_keepalive_probes; cat /proc/sys/net/ipv4/tcp_keepalive_probes")
    };
    let files = [
        "/etc/sysctl.d/99-moorfast-test.conf",
        "/run/sysctl.d/95-moorfast-test.conf",
        "/usr/lib/sysctl.d/z-moorfast-test.conf",
        "/etc/sysctl.d/50-moorfast-test.conf",
    ];
    for file in files {
        testbed.sh(&format!(
            "mkdir -p {}; echo '-net.ipv4.tcp_keepalive_probes = 3' > {file}",
            file.rsplit_once('/').unwrap().0
        ));
        world.apply(SYSCTL, set("7")).await.unwrap();
        assert_eq!(boot(), "7", "{file}");
        world.destroy(SYSCTL).await.unwrap();
        assert_eq!(testbed.sh(&format!("rm {file}; ls /etc/sysctl.d | grep moorfast")), "");
    }
    // Another file that is read later.
    world.apply(SYSCTL, set("7")).await.unwrap();
    testbed.sh("echo net/ipv4/tcp_keepalive_probes=3 > /etc/sysctl.d/99-moorfast-test.conf");
    world.apply(SYSCTL, set("7")).await.unwrap();
    assert_eq!(boot(), "7");
    // No file name of moorfast is read later.
    testbed.sh("mv /etc/sysctl.d/99-moorfast-test.conf /etc/sysctl.d/zzz.conf");
    let proposal = world.plan(SYSCTL, set("7")).await.unwrap();
    let message = "/etc/sysctl.d/zzz.conf sets another value at boot, after the file of moorfast".to_owned();
    assert_eq!(proposal.consequences, [Consequence::Obstacle { message }]);
    let error = world.apply_failing(SYSCTL, set("7")).await;
    insta::assert_snapshot!(shown(&error, &testbed), @r"
    Conflict: /etc/sysctl.d/zzz.conf sets `3` at boot, after the file of moorfast
    help: remove the line from /etc/sysctl.d/zzz.conf
    ");
    // A file that is hidden or empty sets nothing.
    testbed.sh("rm /etc/sysctl.d/zzz.conf; echo net.ipv4.tcp_keepalive_probes=3 > /usr/lib/sysctl.d/zzz.conf; ln -s /dev/null /etc/sysctl.d/zzz.conf");
    world.apply(SYSCTL, set("8")).await.unwrap();
    assert_eq!(boot(), "8");
    world.destroy(SYSCTL).await.unwrap();
    assert_eq!(
        testbed.sh("rm /usr/lib/sysctl.d/zzz.conf /etc/sysctl.d/zzz.conf; ls /etc/sysctl.d | grep moorfast"),
        ""
    );
}

#[tokio::test]
async fn spellings_that_the_kernel_prints_in_another_way_are_equal() {
    let Some(testbed) = Testbed::find().await else { return };
    let world = testbed.world().await;
    let cases = [
        ("net.ipv4.tcp_keepalive_intvl", "0x10", "16", "16"),
        ("net.ipv4.tcp_keepalive_intvl", "020", "16", "0x10"),
        ("net.ipv4.ip_local_port_range", "20000   60000", "20000\t60000", "0x4e20 60000"),
        ("net.ipv4.ip_local_reserved_ports", "30000,30001,30002,32000", "30000-30002,32000", "32000,30000-30002"),
    ];
    for (name, value, printed, other) in cases {
        world.apply(SYSCTL, parameter(name, value)).await.unwrap();
        assert_eq!(testbed.sh(&format!("cat /proc/sys/{}", name.replace('.', "/"))), printed);
        let seen = world.read(SYSCTL, Some(parameter(name, other))).await.unwrap();
        assert_eq!(seen, world.read(SYSCTL, None).await.unwrap(), "another spelling is no drift");
        let proposal = world.plan(SYSCTL, parameter(name, other)).await.unwrap();
        assert_eq!(proposal.action, ProposedAction::NoOp, "{name}: {:?}", proposal.planned);
        world.destroy(SYSCTL).await.unwrap();
        world.clear_records();
    }
}

#[tokio::test]
async fn a_value_that_the_kernel_refuses_is_reported_with_its_reason() {
    let Some(testbed) = Testbed::find().await else { return };
    let world = testbed.world().await;
    let error = world.apply_failing(SYSCTL, parameter("net.ipv4.ip_default_ttl", "999")).await;
    insta::assert_snapshot!(shown(&error, &testbed), @r"
    Invalid: cannot change sysctl net/ipv4/ip_default_ttl on NODE: the kernel refuses the value `999` (Invalid argument)
    help: write a value that the kernel's documentation of the parameter allows
    ");
    world.clear_records();
    let proposal = world.plan(SYSCTL, parameter("kernel.version", "1")).await.unwrap();
    let message = "the parameter is read-only in the kernel".to_owned();
    assert_eq!(proposal.consequences, [Consequence::Obstacle { message }]);
    let error = world.apply_failing(SYSCTL, parameter("kernel.version", "1")).await;
    assert!(!error.help.as_deref().unwrap_or_default().contains("run as root"), "{error:?}");
    world.clear_records();
    let error = world.read(SYSCTL, Some(parameter("net.ipv4.route.flush", "1"))).await.unwrap_err();
    insta::assert_snapshot!(shown(&error, &testbed), @r"
    Invalid: cannot read sysctl net/ipv4/route/flush on NODE: the parameter is write-only: its value cannot be read
    help: write the parameter with a command (ssh_exec)
    ");

    // The previous value may be one that cannot be set.
    world.apply(SYSCTL, parameter("net.ipv4.ip_default_ttl", "65")).await.unwrap();
    let observed = world.read(SYSCTL, None).await.unwrap();
    let mut operation = world.operation(SYSCTL, OperationAction::Delete, observed, Vec::new());
    let mut record = operation.recorded.as_deref().cloned().unwrap();
    record.private = json!({ "before": "999" });
    operation.recorded = Some(std::sync::Arc::new(record));
    let destroyed = world.operate_all(&[operation]).await.pop().unwrap().unwrap();
    assert_eq!(destroyed.notes, ["the value stays 65: the kernel refuses the previous value 999 (Invalid argument)"]);
    assert_eq!(testbed.sh("ls /etc/sysctl.d | grep moorfast; echo 64 > /proc/sys/net/ipv4/ip_default_ttl"), "");
}
