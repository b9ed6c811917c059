//! Units in systemd: aliases, links, templates, masks, and files that were removed from the manifest.

use super::*;

const UNIT: &str = "ssh_systemd_unit";

fn unit(json: serde_json::Value) -> moorfast_engine::model::Attributes {
    attributes(json)
}

fn service(install: &str) -> String {
    format!("[Service]\nExecStart=/bin/sleep 1000\n{install}")
}

impl Testbed {
    /// Writes a unit of a package.
    fn package_unit(&self, name: &str, content: &str) {
        self.sh(&format!(
            "printf '%s' '{content}' > /usr/lib/systemd/system/{name}; systemctl stop {name}; systemctl daemon-reload"
        ));
    }

    fn no_units(&self, stem: &str) {
        self.sh(&format!(
            "systemctl stop '{stem}*'; rm -rf /usr/lib/systemd/system/{stem}* /run/systemd/system/{stem}* /etc/systemd/system/{stem}* /etc/systemd/system/*.wants/{stem}*; systemctl daemon-reload"
        ));
    }
}

#[tokio::test]
async fn an_alias_is_managed_as_the_unit_that_it_names() {
    let Some(testbed) = Testbed::find().await else { return };
    let world = testbed.world().await;
    testbed.no_units("mfa");
    testbed
        .package_unit("mfa-real.service", &service("[Install]\nWantedBy=multi-user.target\nAlias=mfa-alias.service\n"));
    let alias = |enabled: bool| unit(json!({ "name": "mfa-alias.service", "enabled": enabled, "state": "running" }));
    let error = world.apply_failing(UNIT, alias(true)).await;
    assert!(error.summary.ends_with("is enabled (name mfa-real.service)"), "{error}");
    world.clear_records();

    testbed.sh("systemctl enable mfa-real.service");
    world.apply(UNIT, alias(true)).await.unwrap();
    world.apply_with(UNIT, alias(true), vec![address("ssh_file")]).await.unwrap();
    assert_eq!(testbed.sh("systemctl is-active mfa-real; systemctl is-enabled mfa-real"), "active\nenabled");
    let error = world.plan(UNIT, alias(false)).await.unwrap_err();
    insta::assert_snapshot!(shown(&error, &testbed), @r"
    Invalid: mfa-alias.service is an alias of mfa-real.service that exists only while mfa-real.service is enabled
    help: name the unit itself: mfa-real.service
    ");

    // An alias of the package stays, whether or not the unit is enabled.
    world.clear_records();
    testbed.no_units("mfa");
    testbed.package_unit("mfa-real.service", &service("[Install]\nWantedBy=multi-user.target\n"));
    testbed.sh("ln -s mfa-real.service /usr/lib/systemd/system/mfa-alias.service; systemctl daemon-reload");
    world.apply(UNIT, alias(true)).await.unwrap();
    world.apply(UNIT, alias(false)).await.unwrap();
    world.destroy(UNIT).await.unwrap();
    assert_eq!(testbed.sh("systemctl is-active mfa-real; systemctl is-enabled mfa-real"), "inactive\ndisabled");
    testbed.no_units("mfa");
}

#[tokio::test]
async fn a_unit_that_enables_only_others_is_enabled_with_them() {
    let Some(testbed) = Testbed::find().await else { return };
    let world = testbed.world().await;
    testbed.no_units("mfi");
    testbed.package_unit("mfi.service", &service("[Install]\nAlso=mfi.socket mfi.timer\n"));
    testbed.package_unit("mfi.socket", "[Socket]\nListenStream=/run/mfi.sock\n[Install]\nWantedBy=sockets.target\n");
    testbed.package_unit("mfi.timer", "[Timer]\nOnCalendar=daily\n[Install]\nWantedBy=timers.target\n");
    let enabled = |enabled: bool| unit(json!({ "name": "mfi.service", "enabled": enabled }));
    world.apply(UNIT, enabled(true)).await.unwrap();
    assert_eq!(testbed.sh("systemctl is-enabled mfi.service mfi.socket mfi.timer"), "indirect\nenabled\nenabled");
    testbed.sh("systemctl disable mfi.timer");
    assert_eq!(world.plan(UNIT, enabled(true)).await.unwrap().action, ProposedAction::Update);
    world.apply(UNIT, enabled(true)).await.unwrap();
    world.apply(UNIT, enabled(false)).await.unwrap();
    assert_eq!(testbed.sh("systemctl is-enabled mfi.socket mfi.timer"), "disabled\ndisabled");
    testbed.no_units("mfi");
}

#[tokio::test]
async fn the_links_of_a_unit_follow_its_install_section() {
    let Some(testbed) = Testbed::find().await else { return };
    let world = testbed.world().await;
    testbed.no_units("mfl");
    let links = || testbed.sh("cd /etc/systemd/system; find . -type l -name 'mfl*' | sort");
    let managed = |install: &str| unit(json!({ "name": "mfl.service", "content": service(install), "enabled": true }));
    world.apply(UNIT, managed("[Install]\nWantedBy=multi-user.target\nAlias=mfl2.service\n")).await.unwrap();
    assert_eq!(links(), "./mfl2.service\n./multi-user.target.wants/mfl.service");
    world.apply(UNIT, managed("[Install]\nWantedBy=timers.target\n")).await.unwrap();
    assert_eq!(links(), "./timers.target.wants/mfl.service");
    // Without `enabled` the unit stays enabled, with the links of its new section.
    let kept = unit(json!({ "name": "mfl.service", "content": service("[Install]\nRequiredBy=timers.target\n") }));
    world.apply(UNIT, kept).await.unwrap();
    assert_eq!(links(), "./timers.target.requires/mfl.service");
    let dropped = json!({
        "name": "mfl.service", "content": service("[Install]\nRequiredBy=timers.target\n"), "enabled": true,
        "drop_ins": { "10-install.conf": "[Install]\nRequiredBy=\nWantedBy=sockets.target\n" },
    });
    world.apply(UNIT, unit(dropped)).await.unwrap();
    assert_eq!(links(), "./sockets.target.wants/mfl.service");
    world.destroy(UNIT).await.unwrap();
    assert_eq!(links(), "");

    // A new version of a package has another section, so the old link is not enough.
    testbed.package_unit("mfl.service", &service("[Install]\nWantedBy=multi-user.target\n"));
    testbed.sh("systemctl enable mfl.service");
    let enabled = || unit(json!({ "name": "mfl.service", "enabled": true }));
    assert_eq!(world.plan(UNIT, enabled()).await.unwrap().action, ProposedAction::NoOp);
    testbed.package_unit("mfl.service", &service("[Install]\nWantedBy=multi-user.target timers.target\n"));
    world.apply(UNIT, enabled()).await.unwrap();
    assert_eq!(links(), "./multi-user.target.wants/mfl.service\n./timers.target.wants/mfl.service");
    testbed.no_units("mfl");
}

#[tokio::test]
async fn a_linked_unit_is_still_known_when_it_is_disabled() {
    let Some(testbed) = Testbed::find().await else { return };
    let world = testbed.world().await;
    testbed.no_units("mfk");
    testbed.sh("mkdir -p /opt/mfk");
    testbed.sh(&format!("printf '%s' '{}' > /opt/mfk/mfk.service", service("[Install]\nWantedBy=multi-user.target\n")));
    testbed.sh("systemctl link /opt/mfk/mfk.service");
    let enabled = |enabled: bool| unit(json!({ "name": "mfk.service", "enabled": enabled }));
    world.apply(UNIT, enabled(true)).await.unwrap();
    assert_eq!(testbed.sh("systemctl is-enabled mfk.service"), "enabled");
    world.apply(UNIT, enabled(false)).await.unwrap();
    assert_eq!(testbed.sh("systemctl is-enabled mfk.service; rm -r /opt/mfk"), "linked");
    testbed.no_units("mfk");
}

#[tokio::test]
async fn runtime_enablement_and_runtime_mask_are_drift() {
    let Some(testbed) = Testbed::find().await else { return };
    let world = testbed.world().await;
    testbed.no_units("mfr");
    testbed.package_unit("mfr.service", &service("[Install]\nWantedBy=multi-user.target\n"));
    testbed.sh("systemctl enable --runtime mfr.service");
    world.apply(UNIT, unit(json!({ "name": "mfr.service", "enabled": true }))).await.unwrap();
    assert_eq!(testbed.sh("systemctl is-enabled mfr.service; systemctl disable mfr.service"), "enabled");
    world.clear_records();
    for masked in [true, false] {
        testbed.sh("systemctl mask --runtime mfr.service");
        world.apply(UNIT, unit(json!({ "name": "mfr.service", "masked": masked }))).await.unwrap();
    }
    testbed.sh("systemctl disable --runtime mfr.service");
    assert_eq!(testbed.sh("systemctl is-enabled mfr.service"), "disabled");
    testbed.no_units("mfr");
}

#[tokio::test]
async fn a_unit_that_does_not_exist_can_be_masked() {
    let Some(testbed) = Testbed::find().await else { return };
    let world = testbed.world().await;
    testbed.no_units("mfm");
    let masked = json!({ "name": "mfm.service", "masked": true, "state": "stopped", "enabled": false });
    world.apply(UNIT, unit(masked.clone())).await.unwrap();
    assert_eq!(testbed.sh("systemctl is-enabled mfm.service"), "masked");
    world.destroy(UNIT).await.unwrap();
    assert_eq!(testbed.sh("systemctl is-enabled mfm.service; ls /etc/systemd/system/mfm*"), "");
    world.apply_and_crash(UNIT, unit(masked)).await;
    world.destroy(UNIT).await.unwrap();
    assert_eq!(testbed.sh("ls /etc/systemd/system/mfm*"), "", "a run that died had masked it");
    testbed.package_unit("mfm.service", &service(""));
    testbed.sh("cp /usr/lib/systemd/system/mfm.service /etc/systemd/system; systemctl daemon-reload");
    let proposal = world.plan(UNIT, unit(json!({ "name": "mfm.service", "masked": true }))).await.unwrap();
    let message = "the file of the unit is in /etc, where the mask would be".to_owned();
    assert_eq!(proposal.consequences, [Consequence::Obstacle { message }]);
    testbed.no_units("mfm");
}

#[tokio::test]
async fn templates_are_enabled_and_removed_by_their_instances() {
    let Some(testbed) = Testbed::find().await else { return };
    let world = testbed.world().await;
    testbed.no_units("mft");
    let content = service("[Install]\nWantedBy=multi-user.target\nDefaultInstance=x\n");
    let template = unit(json!({ "name": "mft-a\\x2db@.service", "content": content, "enabled": true }));
    world.apply(UNIT, template).await.unwrap();
    testbed.sh("systemctl start 'mft-a\\x2db@y.service' 'mft-a\\x2db@z.service'");
    let longer = content.replace("1000", "2000");
    let template = unit(json!({ "name": "mft-a\\x2db@.service", "content": longer, "enabled": false }));
    let proposal = world.plan(UNIT, template.clone()).await.unwrap();
    assert_eq!(proposal.consequences, [], "a template has no process to restart");
    world.apply(UNIT, template).await.unwrap();
    assert_eq!(testbed.sh("ls /etc/systemd/system/multi-user.target.wants | grep -c mft"), "0");
    world.destroy(UNIT).await.unwrap();
    assert_eq!(
        testbed.sh("systemctl list-units --plain --no-legend 'mft*'; find /etc/systemd/system -name 'mft*'"),
        ""
    );

    testbed.package_unit("mft2@.service", &service("[Install]\nWantedBy=multi-user.target\n"));
    let instance = unit(json!({ "name": "mft2@b.service", "enabled": true, "state": "running" }));
    world.apply(UNIT, instance).await.unwrap();
    world.destroy(UNIT).await.unwrap();
    assert_eq!(
        testbed.sh("systemctl is-active mft2@b.service; systemctl is-enabled mft2@b.service"),
        "inactive\ndisabled"
    );
    testbed.no_units("mft");
}

#[tokio::test]
async fn removed_drop_ins_are_removed_from_the_node() {
    let Some(testbed) = Testbed::find().await else { return };
    let world = testbed.world().await;
    testbed.no_units("mfd");
    let files = || testbed.sh("cd /etc/systemd/system; find . -path './mfd.service.d*' | sort");
    let nice = "[Service]\nNice=5\n";
    let with = |drop_ins: serde_json::Value| {
        unit(json!({ "name": "mfd.service", "content": service(""), "state": "running", "drop_ins": drop_ins }))
    };
    let without = || unit(json!({ "name": "mfd.service", "content": service(""), "state": "running" }));
    world.apply(UNIT, with(json!({ "10-a.conf": nice, "20-b.conf": nice }))).await.unwrap();
    world.apply(UNIT, with(json!({ "20-b.conf": nice }))).await.unwrap();
    assert_eq!(files(), "./mfd.service.d\n./mfd.service.d/20-b.conf");
    let proposal = world.plan(UNIT, without()).await.unwrap();
    assert_eq!(proposal.consequences, [restart("its definition changes")]);
    world.apply(UNIT, without()).await.unwrap();
    assert_eq!(files(), "");
    assert_eq!(testbed.sh("systemctl show -p Nice --value mfd.service"), "0");
    // A drop-in of a failed apply is removed by the next one.
    let broken = json!({ "10-a.conf": "[Service]\nExecStart=\nExecStart=/bin/false\n" });
    world.apply_failing(UNIT, with(broken)).await;
    world.apply(UNIT, without()).await.unwrap();
    assert_eq!(files(), "");
    // A drop-in of another tool stays, also after the unit is destroyed.
    world.apply(UNIT, with(json!({ "10-a.conf": nice }))).await.unwrap();
    testbed.sh("echo '[Unit]' > /etc/systemd/system/mfd.service.d/50-theirs.conf; systemctl daemon-reload");
    world.apply(UNIT, without()).await.unwrap();
    world.destroy(UNIT).await.unwrap();
    assert_eq!(files(), "./mfd.service.d\n./mfd.service.d/50-theirs.conf");
    testbed.no_units("mfd");
}

#[tokio::test]
async fn a_removed_unit_file_is_replaced_by_the_unit_of_the_package() {
    let Some(testbed) = Testbed::find().await else { return };
    let world = testbed.world().await;
    testbed.no_units("mfc");
    world.apply(UNIT, unit(json!({ "name": "mfc.service", "content": service("") }))).await.unwrap();
    let left = || unit(json!({ "name": "mfc.service" }));
    let proposal = world.plan(UNIT, left()).await.unwrap();
    assert_eq!(proposal.action, ProposedAction::Replace(vec!["content".to_owned()]));
    let message = "no package provides the unit once its file is removed".to_owned();
    assert_eq!(proposal.consequences, [Consequence::Obstacle { message }]);
    testbed.package_unit("mfc.service", &service("[Install]\nWantedBy=multi-user.target\n"));
    assert_eq!(world.plan(UNIT, left()).await.unwrap().consequences, []);
    world.destroy(UNIT).await.unwrap();
    assert_eq!(world.plan(UNIT, left()).await.unwrap().action, ProposedAction::NoOp);
    let proposal = world.plan(UNIT, unit(json!({ "name": "dbus.service", "enabled": true }))).await.unwrap();
    let message = "the unit is static: it has no [Install] section, so it cannot be enabled".to_owned();
    assert_eq!(proposal.consequences, [Consequence::Obstacle { message }]);
    testbed.no_units("mfc");
}
