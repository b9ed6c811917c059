//! Laws of all resource types, and what they refuse.

use moorfast_engine::model::Value;

use super::proposal::propose;
use super::*;
use crate::resource_type::resource_of;
use crate::resource_type::tests::named;
use serde_json::json;

fn attributes(json: serde_json::Value) -> Attributes {
    match Value::from(json) {
        Value::Map(map) => map,
        other => panic!("{other:?} is not a map"),
    }
}

#[test]
fn every_attribute_is_documented_and_every_setting_is_one() {
    for resource in RESOURCES {
        let declared = resource.declaration();
        assert!(declared.schema.doc.contains(". ") || declared.schema.doc.ends_with('.'), "{}", declared.name);
        for attribute in &declared.schema.attributes {
            assert!(attribute.doc.ends_with('.'), "{}.{}", declared.name, attribute.name);
        }
        for setting in resource.settings() {
            assert!(declared.schema.attribute(setting).is_some(), "{}.{setting}", declared.name);
        }
    }
}

#[test]
fn foreign_objects_report_lost_values_as_overwritten() {
    let overwritten = |kind: &str, now: serde_json::Value, then: serde_json::Value| {
        let request = PlanRequest {
            address: format!("{kind}.x").parse().unwrap(),
            resource_type: named(kind),
            desired: Attributes::new(),
            recorded: None,
            observed: Some(Observed { attributes: attributes(now), private: json!(null) }),
            foreign: true,
            ignored: Vec::new(),
            triggers: Vec::new(),
            dependencies: Vec::new(),
        };
        let proposal = propose(resource_of(&named(kind)).unwrap(), &request, attributes(then));
        proposal.consequences.contains(&moorfast_engine::provider::Consequence::Overwrite)
    };
    let lost = [
        ("ssh_file", json!({ "sha256": "a" }), json!({ "sha256": "b" })),
        ("ssh_file_block", json!({ "content": "a" }), json!({ "content": "b" })),
        ("ssh_link", json!({ "target": "a" }), json!({ "target": "b" })),
        ("ssh_mount", json!({ "source": "a" }), json!({ "source": "b" })),
        ("ssh_archive", json!({ "sha256": "a" }), json!({ "sha256": "b" })),
        ("ssh_systemd_unit", json!({ "content": "a" }), json!({ "content": "b" })),
        ("ssh_systemd_unit", json!({ "drop_ins": { "a": "1" } }), json!({ "drop_ins": { "a": "2" } })),
        ("ssh_user", json!({ "shell": "/bin/sh" }), json!({ "shell": "/bin/bash" })),
        ("ssh_user", json!({ "authorized_keys": ["a"] }), json!({ "authorized_keys": ["b"] })),
        ("ssh_group", json!({ "gid": 1 }), json!({ "gid": 2 })),
    ];
    let kept = [
        ("ssh_file", json!({ "mode": "0600" }), json!({ "mode": "0644" })),
        ("ssh_directory", json!({ "mode": "0700", "owner": "a" }), json!({ "mode": "0755", "owner": "b" })),
        (
            "ssh_systemd_unit",
            json!({ "enabled": false, "state": "stopped" }),
            json!({ "enabled": true, "state": "running" }),
        ),
        ("ssh_systemd_unit", json!({ "drop_ins": {} }), json!({ "drop_ins": { "a": "2" } })),
        ("ssh_sysctl", json!({ "value": "0" }), json!({ "value": "1" })),
        ("ssh_package", json!({ "names": ["a"] }), json!({ "names": ["b"] })),
        ("ssh_timezone", json!({ "name": "UTC" }), json!({ "name": "Europe/Berlin" })),
        ("ssh_hostname", json!({ "name": "a" }), json!({ "name": "b" })),
    ];
    let of = |(kind, now, then)| (overwritten(kind, now, then), kind);
    assert!(lost.into_iter().map(of).all(|(is, _)| is));
    assert_eq!(kept.into_iter().map(of).filter(|(is, _)| *is).collect::<Vec<_>>(), []);
}

#[test]
fn identities() {
    let cases = [
        ("ssh_file", json!({ "path": "/etc/motd" }), "path:/etc/motd"),
        ("ssh_file_block", json!({ "path": "/etc/hosts", "name": "cluster" }), "block:/etc/hosts#cluster"),
        ("ssh_directory", json!({ "path": "/etc/motd" }), "path:/etc/motd"),
        ("ssh_link", json!({ "path": "/etc/motd" }), "path:/etc/motd"),
        ("ssh_archive", json!({ "path": "/opt/cni", "name": "plugins" }), "archive:/opt/cni/plugins"),
        ("ssh_systemd_unit", json!({ "name": "kubelet.service" }), "unit:kubelet.service"),
        ("ssh_package", json!({ "names": ["jq=1.6", "curl"] }), "package:jq"),
        ("ssh_sysctl", json!({ "name": "net.ipv4.ip_forward" }), "sysctl:net/ipv4/ip_forward"),
        ("ssh_sysctl", json!({ "name": "net.ipv4.conf.eth0/1.forwarding" }), "sysctl:net/ipv4/conf/eth0.1/forwarding"),
        ("ssh_kernel_module", json!({ "name": "br-netfilter" }), "module:br_netfilter"),
        ("ssh_user", json!({ "name": "ops" }), "user:ops"),
        ("ssh_group", json!({ "name": "ops" }), "group:ops"),
        ("ssh_swap", json!({}), "swap:all"),
        ("ssh_timezone", json!({ "name": "UTC" }), "path:/etc/localtime"),
        ("ssh_hostname", json!({ "name": "gpu01" }), "path:/etc/hostname"),
        ("ssh_mount", json!({ "path": "/data" }), "mount:/data"),
        ("ssh_reboot", json!({}), "reboot:of the machine"),
        ("ssh_apt_repository", json!({ "name": "k8s" }), "path:/etc/apt/sources.list.d/k8s.sources"),
        ("ssh_dnf_repository", json!({ "name": "k8s" }), "path:/etc/yum.repos.d/k8s.repo"),
        ("ssh_nftables_table", json!({ "family": "inet", "name": "filter" }), "table:inet filter"),
        ("ssh_exec", json!({ "name": "once", "command": ["true"] }), "exec:once"),
        ("ssh_exec", json!({ "command": ["kubeadm", "init"] }), "exec:kubeadm init (17a9342a)"),
        (
            "ssh_exec",
            json!({ "script": "#!/bin/sh\nset -eu\n\n  dd if=/dev/zero of=/swapfile bs=1M count=1024\n" }),
            "exec:dd if=/dev/zero of=/swapfile bs=1M count… (3e64acfa)",
        ),
    ];
    for (kind, json, identity) in cases {
        assert_eq!(named(kind).identity(&attributes(json)).as_deref(), Some(identity), "{kind}");
    }
}

#[test]
fn invalid_manifests_are_refused() {
    let cases = [
        ("ssh_file", json!({ "path": "etc/motd", "content": "" }), "`etc/motd` is not a plain absolute path"),
        ("ssh_file", json!({ "path": "/etc/../motd", "content": "" }), "`/etc/../motd` is not a plain absolute path"),
        (
            "ssh_file",
            json!({ "path": "/etc/motd" }),
            "missing required attribute: `content`, `content_base64` or `source`",
        ),
        ("ssh_user", json!({ "name": "a", "uid": -1 }), "uid must be between 0 and 4294967294"),
        ("ssh_user", json!({ "name": "a", "uid": 4_294_967_295_i64 }), "uid must be between 0 and 4294967294"),
        ("ssh_group", json!({ "name": "a", "gid": u64::MAX }), "gid must be between 0 and 4294967294"),
        (
            "ssh_file",
            json!({ "path": "/m", "content": "", "source": "m" }),
            "`content` and `source` cannot be combined",
        ),
        (
            "ssh_file",
            json!({ "path": "/m", "content": "", "validate": [1] }),
            "validate must be a list of strings, or one string",
        ),
        ("ssh_file_block", json!({ "path": "hosts" }), "`hosts` is not a plain absolute path"),
        ("ssh_file_block", json!({ "name": "a b" }), "`a b` is not a valid name of a block"),
        ("ssh_file_block", json!({ "content": "a\r\n" }), "content must not contain a carriage return or a zero byte"),
        (
            "ssh_file_block",
            json!({ "content": "a\n# END moorfast b\nc" }),
            "content must not contain a marker line of a block",
        ),
        ("ssh_file_block", json!({ "content": "x".repeat(300_000) }), "content is larger than 256 KiB"),
        (
            "ssh_file_block",
            json!({ "comment": "" }),
            "comment must not be empty, nor contain a line break or outer spaces",
        ),
        ("ssh_file_block", json!({ "after": "a", "before": "b" }), "`after` and `before` cannot be combined"),
        ("ssh_file_block", json!({ "after": "a\nb" }), "after must be a single line"),
        ("ssh_systemd_unit", json!({ "name": "kubelet" }), "`kubelet` is not a full unit name"),
        (
            "ssh_systemd_unit",
            json!({ "name": "a.service", "content": "", "masked": true }),
            "a unit with content cannot be masked",
        ),
        (
            "ssh_systemd_unit",
            json!({ "name": "a.service", "drop_ins": { "x": "" } }),
            "`x` is not a valid drop-in name",
        ),
        ("ssh_systemd_unit", json!({ "name": "a@.service", "state": "running" }), "a template cannot have a state"),
        (
            "ssh_systemd_unit",
            json!({ "name": "a@.service", "content": "[Install]\nWantedBy=x.target\n", "enabled": true }),
            "a template without DefaultInstance= cannot be enabled",
        ),
        (
            "ssh_systemd_unit",
            json!({ "name": "a.service", "content": "[Service]\nExecStart=/bin/true\n", "enabled": true }),
            "a unit without an [Install] section cannot be enabled",
        ),
        (
            "ssh_systemd_unit",
            json!({ "name": "a.service", "enabled": true, "masked": true }),
            "a masked unit cannot be enabled",
        ),
        (
            "ssh_systemd_unit",
            json!({ "name": "a.service", "content": "", "path": "/opt/a.service" }),
            "systemd reads no units in `/opt`",
        ),
        (
            "ssh_systemd_unit",
            json!({ "name": "a.service", "content": "", "path": "/etc/systemd/system/b.service" }),
            "`/etc/systemd/system/b.service` is not the file of the unit",
        ),
        ("ssh_package", json!({ "names": ["a b"] }), "`a b` is not a valid package name"),
        ("ssh_package", json!({ "names": ["--yes"] }), "`--yes` is not a valid package name"),
        ("ssh_package", json!({ "names": [] }), "names is an empty list"),
        ("ssh_sysctl", json!({ "name": "../x" }), "`../x` is not a valid name of a kernel parameter"),
        (
            "ssh_sysctl",
            json!({ "name": "net.ipv4.conf.*.rp_filter" }),
            "`net.ipv4.conf.*.rp_filter` is not a valid name of a kernel parameter",
        ),
        (
            "ssh_sysctl",
            json!({ "name": "net/ipv4//ip_forward" }),
            "`net/ipv4//ip_forward` is not a valid name of a kernel parameter",
        ),
        (
            "ssh_sysctl",
            json!({ "name": "net.ipv4.ip_forward." }),
            "`net.ipv4.ip_forward.` is not a valid name of a kernel parameter",
        ),
        ("ssh_sysctl", json!({ "name": "vm.swappiness", "value": "1\n2" }), "value must be a single line"),
        ("ssh_hostname", json!({ "name": "gpu_01" }), "`gpu_01` is not a valid host name"),
        ("ssh_mount", json!({ "path": "/data/" }), "`/data/` is not a plain absolute path"),
        ("ssh_mount", json!({ "source": "" }), "source must not be empty, nor begin with `#`"),
        ("ssh_mount", json!({ "fstype": "swap" }), "swap is not mounted"),
        ("ssh_mount", json!({ "options": [] }), "options is an empty list"),
        ("ssh_mount", json!({ "options": ["ro,noatime"] }), "`ro,noatime` is not a valid mount option"),
        ("ssh_mount", json!({ "pass": 3 }), "pass must be between 0 and 2"),
        ("ssh_nftables_table", json!({ "family": "ipv4" }), "`ipv4` is not an address family of nftables"),
        ("ssh_nftables_table", json!({ "name": "a/b" }), "`a/b` is not a valid name of a table"),
        ("ssh_nftables_table", json!({ "rules": "}\ntable inet x {" }), "the braces in rules do not match"),
        ("ssh_apt_repository", json!({ "name": "a/b" }), "`a/b` is not a valid name of a repository"),
        ("ssh_apt_repository", json!({ "name": "a", "trusted": false }), "the repository has no key"),
        ("ssh_apt_repository", json!({ "uris": ["a b"] }), "`a b` is not a single word"),
        ("ssh_apt_repository", json!({ "suites": ["stable"] }), "a suite needs components"),
        (
            "ssh_apt_repository",
            json!({ "suites": ["./"], "components": ["main"] }),
            "a suite that ends with `/` has no components",
        ),
        ("ssh_apt_repository", json!({ "key": "mDME" }), "key is not a public key in text form"),
        ("ssh_apt_repository", json!({ "key": "", "key_source": "a" }), "`key` and `key_source` cannot be combined"),
        ("ssh_apt_repository", json!({ "options": { "A": "b\nc" } }), "`A` is not a valid option with a single line"),
        (
            "ssh_dnf_repository",
            json!({ "name": "a" }),
            "missing required attribute: `baseurl`, `metalink` or `mirrorlist`",
        ),
        (
            "ssh_dnf_repository",
            json!({ "baseurl": ["a"], "metalink": "b" }),
            "`baseurl`, `metalink` and `mirrorlist` cannot be combined",
        ),
        ("ssh_timezone", json!({ "name": "" }), "`` is not a valid name of a time zone"),
        ("ssh_timezone", json!({ "name": "Europe/../UTC" }), "`Europe/../UTC` is not a valid name of a time zone"),
        (
            "ssh_timezone",
            json!({ "name": "/usr/share/zoneinfo/UTC" }),
            "`/usr/share/zoneinfo/UTC` is not a valid name of a time zone",
        ),
        ("ssh_user", json!({ "name": "Bad Name" }), "`Bad Name` is not a valid account name"),
        ("ssh_exec", json!({}), "missing required attribute: `command` or `script`"),
        ("ssh_exec", json!({ "command": [] }), "command is an empty list"),
        (
            "ssh_exec",
            json!({ "script": "x", "environment": { "A-B": "" } }),
            "`A-B` is not a valid name of an environment variable",
        ),
        (
            "ssh_exec",
            json!({ "script": "#!bash\necho x" }),
            "`#!bash` does not name an interpreter by its absolute path",
        ),
        (
            "ssh_exec",
            json!({ "script": "#!/bin/bash\r\necho x\r\n" }),
            "the first line of the script ends with a carriage return",
        ),
        (
            "ssh_exec",
            json!({ "script": "x", "unless": "#!/bin/bash\n[[ -e x ]]" }),
            "sh runs unless: the `#!` line would have no effect",
        ),
        (
            "ssh_file",
            json!({ "path": "/m", "content": "", "validate": "#!/bin/bash\n[[ -e x ]]" }),
            "sh runs validate: the `#!` line would have no effect",
        ),
        ("ssh_archive", json!({ "path": "/a", "source": "a.rar", "sha256": "0" }), "sha256 is not a SHA-256 checksum"),
    ];
    for (kind, json, message) in cases {
        let invalid = named(kind).validate(&attributes(json.clone()));
        assert!(invalid.iter().any(|i| i.message == message), "{kind} {json}: {invalid:?}");
    }
}

#[test]
fn a_broken_rule_shows_no_secret() {
    let cases = [("ssh_file", "path"), ("ssh_user", "name"), ("ssh_package", "names"), ("ssh_sysctl", "name")];
    for (kind, name) in cases {
        let value = match name {
            "names" => Value::from(vec!["s3cr3t: none"]),
            _ => Value::from("s3cr3t: none"),
        };
        let attributes = [(name.to_owned(), value.sensitive())].into();
        let invalid = named(kind).validate(&attributes);
        let about = invalid.iter().find(|i| i.attribute == Some(name)).unwrap();
        assert!(about.message.starts_with("`(sensitive)` "), "{kind}: {about:?}");
    }
}

#[test]
fn values_on_command_lines_must_not_be_sensitive() {
    let cases = [
        ("ssh_exec", "command", json!(["echo", "x"])),
        ("ssh_exec", "script", json!("echo x")),
        ("ssh_exec", "on_destroy", json!(["echo", "x"])),
        ("ssh_exec", "unless", json!(["test", "-e", "x"])),
        ("ssh_exec", "unless", json!("test -e x")),
        ("ssh_exec", "only_if", json!(["test", "-e", "x"])),
        ("ssh_file", "validate", json!(["test", "-e", "x"])),
        ("ssh_file", "validate", json!("test -e x")),
        ("ssh_timezone", "name", json!("UTC")),
        ("ssh_hostname", "name", json!("gpu01")),
        ("ssh_apt_repository", "uris", json!(["https://user:password@example.org"])),
        ("ssh_nftables_table", "rules", json!("chain a { }")),
        ("ssh_mount", "source", json!("//server/share")),
        ("ssh_mount", "options", json!(["password=x"])),
    ];
    for (kind, name, json) in cases {
        let mut items = vec![Value::from(json.clone()).sensitive()];
        if let Value::List(words) = Value::from(json) {
            // One sensitive word makes the list sensitive.
            items.push(Value::List(words.into_iter().map(Value::sensitive).collect()));
        }
        for value in items {
            let attributes = [(name.to_owned(), value)].into();
            let invalid = named(kind).validate(&attributes);
            let about = invalid.iter().find(|i| i.message == format!("{name} must not be sensitive"));
            assert!(about.is_some_and(|i| i.attribute == Some(name) && i.help.is_some()), "{kind} {name}: {invalid:?}");
        }
    }
}

#[test]
fn unknown_values_are_valid() {
    for resource in RESOURCES {
        let schema = resource.declaration().schema;
        let unknown = |a: &&moorfast_engine::model::Attribute| a.required;
        let attributes =
            schema.attributes.iter().filter(unknown).map(|a| (a.name.to_owned(), Value::Unknown)).collect();
        let about_values = |i: &Invalid| i.attribute.is_some();
        assert!(!resource.validate(&attributes).iter().any(about_values), "{}", resource.declaration().name);
    }
}
