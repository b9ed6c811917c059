//! Plans made by hand, for the tests of rendering and of plan files.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use moorfast_engine::manifest::PolicySeverity;
use moorfast_engine::model::{CheckResult, CheckStatus, DrainOptions, Machine, NodeChange, NodeChangeKind, NodeName};
use moorfast_engine::plan::{
    Change, Drift, NodeDrain, OutputChange, PLAN_FORMAT, Plan, PlanMode, PlanOptions, PlannedRollout, PolicyResult,
    Reason, RolledNode,
};
use moorfast_engine::provider::{Action, Consequence, ObjectChange};
use moorfast_engine::state::Digest;
use serde_json::{Map, Value as Json, json};

use super::{DerivedAttributes, TextOptions};

/// The derived attributes of the types in the plans.
pub static DERIVED: LazyLock<DerivedAttributes> =
    LazyLock::new(|| DerivedAttributes::of(&[Arc::new(moorfast_ssh::SshProvider)]));

/// Returns the options of text with this width, in which long texts are cut.
pub fn width(width: usize) -> TextOptions<'static> {
    TextOptions { width, full: false, derived: &DERIVED }
}

/// Returns a plan without changes.
pub fn nothing() -> Plan {
    Plan {
        format_version: PLAN_FORMAT,
        moorfast_version: "0.1.0".to_owned(),
        site: "sites/berlin".to_owned(),
        environment: None,
        created_at: "2026-01-02T03:04:05Z".parse().unwrap(),
        options: PlanOptions::default(),
        lineage: serde_json::from_value(json!("6f1e8c6e-0000-4000-8000-000000000000")).unwrap(),
        serial: serde_json::from_value(json!(7)).unwrap(),
        manifest: Digest::of(b"manifest"),
        inputs: BTreeMap::new(),
        variables: Map::new(),
        changes: vec![change(
            "ssh_file.motd[\"gpu01\"]",
            Action::NoOp,
            json!({"mode": "0644"}),
            json!({"mode": "0644"}),
        )],
        drift: vec![],
        outputs: BTreeMap::new(),
        checks: vec![],
        policies: vec![],
        rollouts: vec![],
        nodes: vec![],
        leaving: vec![],
        warnings: vec![],
        maintains: false,
    }
}

/// Returns a plan with these changes.
pub fn plan(changes: Vec<Change>) -> Plan {
    Plan { changes, ..nothing() }
}

/// Returns a change. Its target and its node are the key of its address, or the target is `kubernetes`.
pub fn change(address: &str, action: Action, before: Json, after: Json) -> Change {
    let address: moorfast_engine::model::Address = address.parse().unwrap();
    let resource_type = address.resource.resource_type.clone();
    let provider = resource_type.split('_').next().unwrap().to_owned();
    let node = if provider == "ssh" { address.key.clone().map(NodeName) } else { None };
    let target = node.as_ref().map_or(provider.clone(), |node| node.0.clone());
    let object = |value: Json| value.as_object().cloned();
    let (before, after) = (object(before), object(after));
    let text = |name: &str| after.as_ref().or(before.as_ref())?.get(name)?.as_str().map(str::to_owned);
    Change {
        identity: text("path").or_else(|| text("unit")).or_else(|| text("name")),
        moved_from: None,
        resource_type,
        provider,
        target,
        node,
        action,
        reasons: vec![],
        dependencies: vec![],
        observed: None,
        objects: Vec::new(),
        consequences: Vec::new(),
        notes: vec![],
        address,
        before,
        after,
    }
}

fn because(reason: Reason, change: Change) -> Change {
    Change { reasons: vec![reason], ..change }
}

fn config(max_pods: u32, address: &str) -> String {
    format!(
        "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\naddress: {address}\nport: 10250\n\
         readOnlyPort: 0\nauthentication:\n  anonymous:\n    enabled: false\nclusterDomain: cluster.local\n\
         clusterDNS:\n- 10.254.0.2\nmaxPods: {max_pods}\nserializeImagePulls: false\nhairpinMode: promiscuous-bridge\n\
         cgroupDriver: cgroupfs\n"
    )
}

const NODES: [(&str, &str); 3] = [("gpu01", "10.0.0.11"), ("gpu02", "10.0.0.12"), ("gpu03", "10.0.0.13")];

/// Returns a plan that creates everything: files that differ between nodes, a secret, objects of the cluster.
pub fn creates() -> Plan {
    let mut changes = Vec::new();
    for (node, _) in NODES {
        let after = json!({"path": "/etc/kubernetes", "mode": "0755", "owner": "root"});
        changes.push(change(&format!("ssh_directory.etc[\"{node}\"]"), Action::Create, Json::Null, after));
    }
    for (node, address) in NODES {
        let after = json!({
            "path": "/etc/kubernetes/kubelet-config.yaml",
            "mode": "0644",
            "content": config(220, address),
            "node_ip": address,
        });
        changes.push(change(&format!("ssh_file.kubelet_config[\"{node}\"]"), Action::Create, Json::Null, after));
    }
    for (node, _) in NODES {
        let after = json!({
            "path": "/etc/kubernetes/kubelet-bootstrap.kubeconfig",
            "mode": "0600",
            "content": {"$unknown": true, "$sensitive": true},
        });
        changes.push(change(&format!("ssh_file.bootstrap[\"{node}\"]"), Action::Create, Json::Null, after));
    }
    let binding = json!({
        "manifest": {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRoleBinding",
            "metadata": {"name": "kubelet-bootstrap", "labels": {"app.kubernetes.io/managed-by": "moorfast"}},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "system:node-bootstrapper"},
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": "system:bootstrappers"}],
        },
        "wait": {"condition": null, "fields": ["a", "b"]},
    });
    changes.push(change("kubernetes_object.bootstrap", Action::Create, Json::Null, binding));
    let outputs =
        [("token".to_owned(), OutputChange { before: None, after: Some(json!({"$sensitive": "blake3:00"})) })];
    let check = CheckResult { name: "check.api".to_owned(), status: CheckStatus::Unknown, messages: vec![] };
    Plan { outputs: outputs.into(), checks: vec![check], ..plan(changes) }
}

/// Returns a plan that updates a file from a template and restarts units.
pub fn updates() -> Plan {
    let mut changes = Vec::new();
    for (node, address) in NODES {
        let path = "/etc/kubernetes/kubelet-config.yaml";
        let before = json!({"path": path, "mode": "0644", "content": config(110, address)});
        let after = json!({"path": path, "mode": "0644", "content": config(220, address)});
        let file = change(&format!("ssh_file.kubelet_config[\"{node}\"]"), Action::Update, before, after);
        changes.push(because(Reason::Manifest, file));
    }
    for (node, _) in NODES {
        let trigger = format!("ssh_file.kubelet_config[\"{node}\"]");
        let unit = json!({"unit": "kubelet.service", "state": "started", "enabled": true});
        let restart = change(&format!("ssh_systemd_unit.kubelet[\"{node}\"]"), Action::Update, unit.clone(), unit);
        let restart = because(Reason::Trigger { address: trigger.parse().unwrap(), pending: false }, restart);
        let cause = format!("{trigger} changes");
        changes.push(Change { consequences: vec![Consequence::Restart { cause }], ..restart });
    }
    let before =
        json!({"path": "/etc/token", "mode": "0644", "content": {"$sensitive": "blake3:00"}, "groups": ["a", "b"]});
    let after = json!({"path": "/etc/token", "mode": "0600", "content": {"$sensitive": "blake3:11"}, "groups": ["x", "a", "b"]});
    changes.push(because(Reason::Manifest, change("ssh_file.token[\"gpu02\"]", Action::Update, before, after)));
    let outputs = [
        ("url".to_owned(), OutputChange { before: Some(json!("http://a")), after: Some(json!("https://a")) }),
        ("same".to_owned(), OutputChange { before: Some(json!(1)), after: Some(json!(1)) }),
        ("old".to_owned(), OutputChange { before: Some(json!([1, 2])), after: None }),
    ];
    Plan { outputs: outputs.into(), ..plan(changes) }
}

/// Returns the plan of `updates` with a rollout and with policies.
pub fn rolled() -> Plan {
    let node = |name: &str| NodeName(name.to_owned());
    let of = |name: &str| RolledNode {
        name: node(name),
        changes: ["ssh_file.kubelet_config", "ssh_systemd_unit.kubelet"]
            .map(|resource| format!("{resource}[\"{name}\"]").parse().unwrap())
            .into(),
        drain: NodeDrain::NotNeeded,
        was_drained: false,
    };
    let workers = PlannedRollout {
        name: "workers".to_owned(),
        max_unavailable: 1,
        gates: vec!["kubernetes_node.worker".to_owned(), "check.kubelet".to_owned()],
        timeout: Duration::from_secs(300),
        pause: Duration::from_secs(10),
        after: Vec::new(),
        drain: None,
        nodes: ["gpu01", "gpu02", "gpu03"].map(of).into(),
        settled: vec![node("gpu04")],
    };
    let policy = |name: &str, severity, violation: Option<&str>| PolicyResult {
        name: format!("policy.{name}"),
        severity,
        violation: violation.map(str::to_owned),
        place: "policies.toml:3".to_owned(),
    };
    let policies = vec![
        policy("friday", PolicySeverity::Warn, Some("it is Friday")),
        policy("no_token", PolicySeverity::Deny, None),
        policy("window", PolicySeverity::Deny, Some("restarts are for the night: <gpu01>, gpu02")),
    ];
    Plan { rollouts: vec![workers], policies, ..updates() }
}

/// Returns the plan of `rolled` whose rollout drains its nodes: one node is not in the cluster, and an earlier run left another one drained.
pub fn drained() -> Plan {
    let mut plan = Plan { policies: Vec::new(), ..rolled() };
    let rollout = &mut plan.rollouts[0];
    rollout.after = vec!["control_plane".to_owned()];
    rollout.drain = Some(DrainOptions {
        timeout: Duration::from_secs(600),
        grace_period: None,
        force: false,
        delete_emptydir_data: true,
    });
    rollout.settled = Vec::new();
    for (node, drain) in rollout.nodes.iter_mut().zip([NodeDrain::Planned, NodeDrain::Planned, NodeDrain::Absent]) {
        node.drain = drain;
    }
    let name = NodeName("gpu04".to_owned());
    rollout.nodes.insert(0, RolledNode { name, changes: Vec::new(), drain: NodeDrain::NotNeeded, was_drained: true });
    plan
}

/// Returns a plan with two instances of several objects: one instance is created; of the other, objects are replaced, destroyed, created and moved to
/// another resource.
pub fn objects() -> Plan {
    let claim = |class: &str| json!({"kind": "PersistentVolumeClaim", "spec": {"storageClassName": class}});
    let config = |value: &str| json!({"kind": "ConfigMap", "data": {"level": value}});
    let before = json!({"objects": {
        "PersistentVolumeClaim/web/data": claim("fast"), "ConfigMap/web/a": config("info"), "ConfigMap/web/old": config("info"),
        "ConfigMap/web/moved": config("info"),
    }});
    let after = json!({"objects": {
        "PersistentVolumeClaim/web/data": claim("slow"), "ConfigMap/web/a": config("debug"), "ConfigMap/web/new": config("info"),
    }});
    let object = |name: &str, action| ObjectChange {
        identity: name.to_owned(),
        name: name.to_owned(),
        action,
        replace_paths: match action {
            Action::Replace => vec![format!("objects[\"{name}\"].spec")],
            _ => Vec::new(),
        },
    };
    let mut updated = because(Reason::Manifest, change("kubernetes_object.web", Action::Update, before, after.clone()));
    updated.objects = vec![
        object("PersistentVolumeClaim/web/data", Action::Replace),
        object("ConfigMap/web/a", Action::Update),
        object("ConfigMap/web/new", Action::Create),
        object("ConfigMap/web/old", Action::Delete),
        object("ConfigMap/web/moved", Action::Forget),
    ];
    let lost = "the data of the volume of PersistentVolumeClaim/web/data, unless the volume's reclaim policy is Retain";
    updated.consequences = vec![Consequence::Removal { object: lost.to_owned() }];
    let mut created = change("kubernetes_object.more", Action::Create, Json::Null, after);
    created.objects = ["PersistentVolumeClaim/web/data", "ConfigMap/web/a", "ConfigMap/web/new"]
        .map(|name| object(name, Action::Create))
        .into();
    plan(vec![created, updated])
}

/// Returns a plan with all dangerous changes and all changes of the state only.
pub fn dangers() -> Plan {
    let file = |path: &str| json!({"path": path, "mode": "0644", "content": "one\ntwo\nthree\n"});
    let unit = json!({"unit": "old.service", "enabled": true});
    let swap = |device: &str| json!({"name": "swap", "device": device, "on": false});
    let moved = change("ssh_file.renamed[\"gpu01\"]", Action::NoOp, file("/etc/moved"), file("/etc/moved"));
    let immutable = Reason::Immutable { attributes: vec!["device".to_owned()] };
    let object = |replicas: u32| {
        json!({"name": "Deployment/web", "manifest": {"spec": {
            "replicas": replicas,
            "template": {"labels": {"app.kubernetes.io/name": format!("web-{replicas}")}},
        }}})
    };
    let mut scaled = change("kubernetes_object.web", Action::Update, object(2), object(3));
    let superseded = Reason::Superseded { identity: "apps/v1/Deployment/default/web-2".to_owned() };
    scaled.reasons = vec![Reason::Drift, Reason::Incomplete, superseded];
    let gone = change("ssh_file.lost[\"gpu01\"]", Action::Create, Json::Null, file("/etc/lost"));
    let read = change("data.kubernetes_object.secret", Action::Read, Json::Null, json!({"data": {"$unknown": true}}));
    let drift = [("gpu01", Some(json!({"mode": "0777"}))), ("gpu02", Some(json!({"mode": "0777"}))), ("gpu03", None)]
        .map(|(node, after): (&str, Option<Json>)| Drift {
            address: format!("ssh_file.motd[\"{node}\"]").parse().unwrap(),
            target: node.to_owned(),
            before: json!({"mode": "0644"}).as_object().cloned().unwrap(),
            after: after.and_then(|v| v.as_object().cloned()),
        });
    let check = |name: &str, status, message: &str| CheckResult {
        name: name.to_owned(),
        status,
        messages: message.lines().map(str::to_owned).collect(),
    };
    Plan {
        nodes: vec![replaced("gpu02")],
        warnings: vec!["the variable \"region\" is set but never used".to_owned()],
        drift: drift.into(),
        checks: vec![
            check("check.api", CheckStatus::Pass, ""),
            check(
                "check.kubelet[\"gpu01\"]",
                CheckStatus::Fail,
                "expected status 401, got 200\nhttps://10.0.0.11:10250/",
            ),
        ],
        ..plan(vec![
            because(Reason::New, change("ssh_file.new[\"gpu01\"]", Action::Create, Json::Null, file("/etc/new"))),
            because(Reason::Gone, gone),
            because(
                Reason::Drift,
                change("ssh_file.motd[\"gpu02\"]", Action::Update, json!({"mode": "0777"}), json!({"mode": "0644"})),
            ),
            Change { moved_from: Some("ssh_file.before[\"gpu01\"]".parse().unwrap()), ..moved },
            change("ssh_file.there[\"gpu01\"]", Action::Adopt, file("/etc/there"), file("/etc/there")),
            because(
                Reason::Removed,
                change("ssh_file.released[\"gpu02\"]", Action::Forget, file("/etc/released"), Json::Null),
            ),
            scaled,
            read,
            because(
                immutable,
                change("ssh_swap.swap[\"gpu01\"]", Action::Replace, swap("/dev/sda1"), swap("/dev/sdb1")),
            ),
            because(
                Reason::Removed,
                change("ssh_systemd_unit.old[\"gpu01\"]", Action::Delete, unit.clone(), Json::Null),
            ),
            because(Reason::Removed, change("ssh_systemd_unit.old[\"gpu02\"]", Action::Delete, unit, Json::Null)),
        ])
    }
}

/// Returns a plan with a change that differs between nodes.
pub fn differing() -> Plan {
    let resource = |node: &str, before: &str, after: &str| {
        let object = |value: &str| json!({"path": "/etc/hosts", "line": value, "mode": "0644"});
        change(&format!("ssh_file.hosts[\"{node}\"]"), Action::Update, object(before), object(after))
    };
    plan(vec![
        resource("gpu01", "10.0.0.1", "10.0.0.11"),
        resource("gpu02", "10.0.0.1", "10.0.0.12"),
        resource("gpu03", "10.0.0.1", "10.0.0.12"),
    ])
}

/// Returns a refresh-only plan with drift.
pub fn refresh() -> Plan {
    let options = PlanOptions { mode: PlanMode::RefreshOnly, ..PlanOptions::default() };
    Plan { options, drift: dangers().drift, ..nothing() }
}

/// Returns a plan that restarts a unit because its own definition changed.
pub fn redefined() -> Plan {
    let unit = |content: &str| json!({"unit": "web.service", "content": content, "state": "running"});
    let update = change("ssh_systemd_unit.web[\"gpu01\"]", Action::Update, unit("old"), unit("new"));
    let restart = Consequence::Restart { cause: "its definition changes".to_owned() };
    plan(vec![because(Reason::Manifest, Change { consequences: vec![restart], ..update })])
}

/// Returns a plan with one changed line in two files on each of fifty nodes, and restarts because of it.
pub fn fleet() -> Plan {
    let nodes: Vec<_> = (1..=50).map(|i| format!("gpu{i:02}")).collect();
    let site = |node: &str, key: &str, port: u32| {
        let content = format!("# {key} on {node}\nserver {{\n  listen {port} {key};\n  name {node};\n}}\n");
        json!({"path": format!("/etc/sites/{node}-{key}.conf"), "content": content, "sha256": Digest::of(content.as_bytes())})
    };
    let mut changes = Vec::new();
    for node in &nodes {
        for key in ["blog", "shop"] {
            let address = format!("ssh_file.site[\"{node}/{key}\"]");
            let file = change(&address, Action::Update, site(node, key, 8080), site(node, key, 9000));
            let node = NodeName(node.clone());
            changes.push(because(Reason::Manifest, Change { target: node.0.clone(), node: Some(node), ..file }));
        }
    }
    for node in &nodes {
        let unit = json!({"unit": "nginx.service"});
        let restart = change(&format!("ssh_systemd_unit.nginx[\"{node}\"]"), Action::Update, unit.clone(), unit);
        let trigger = |key: &str| format!("ssh_file.site[\"{node}/{key}\"]").parse().unwrap();
        let reasons = ["blog", "shop"].map(|key| Reason::Trigger { address: trigger(key), pending: false }).into();
        changes.push(Change { reasons, ..restart });
    }
    let reload = json!({"script": "reload", "exit_code": 0});
    let mut reload = change("ssh_exec.reload[\"lb\"]", Action::Update, reload.clone(), reload);
    let trigger = |node: &String| Reason::Trigger {
        address: format!("ssh_file.balancer[\"{node}\"]").parse().unwrap(),
        pending: false,
    };
    reload.reasons = nodes.iter().map(trigger).collect();
    changes.push(reload);
    plan(changes)
}

/// Returns a plan that moves the instances of [`fleet`] to other names.
pub fn moved_fleet() -> Plan {
    let moved = |change: &Change| Change {
        action: Action::NoOp,
        moved_from: Some(change.address.to_string().replace("site", "old").parse().unwrap()),
        after: change.before.clone(),
        reasons: vec![],
        ..change.clone()
    };
    plan(fleet().changes.iter().take(100).map(moved).collect())
}

/// Returns a plan that destroys the instances of [`fleet`].
pub fn destroyed_fleet() -> Plan {
    let gone = |change: &Change| Change {
        action: Action::Delete,
        after: None,
        reasons: vec![Reason::Removed],
        ..change.clone()
    };
    plan(fleet().changes.iter().take(100).map(gone).collect())
}

/// Returns a plan with drift of the instances of [`fleet`].
pub fn drifted_fleet() -> Plan {
    let drift = |change: &Change| Drift {
        address: change.address.clone(),
        target: change.target.clone(),
        before: change.before.clone().unwrap(),
        after: change.after.clone(),
    };
    let changes: Vec<_> = fleet().changes.into_iter().take(100).map(|change| because(Reason::Drift, change)).collect();
    Plan { drift: changes.iter().map(drift).collect(), ..plan(changes) }
}

/// Returns a plan that destroys everything.
pub fn destroy() -> Plan {
    let options = PlanOptions { mode: PlanMode::Destroy, ..PlanOptions::default() };
    let gone = |change: &Change| Change {
        action: Action::Delete,
        before: change.after.clone(),
        after: None,
        reasons: vec![Reason::Destroy],
        ..change.clone()
    };
    Plan { options, changes: creates().changes.iter().map(gone).collect(), ..nothing() }
}

/// Returns a replaced node.
pub fn replaced(node: &str) -> NodeChange {
    let machine = |key: &str, id: &str| Machine {
        host_keys: vec![format!("SHA256:{key}")],
        machine_id: Some(id.to_owned()),
        boot_id: None,
        address: "10.0.0.12".to_owned(),
    };
    NodeChange {
        node: NodeName(node.to_owned()),
        kind: NodeChangeKind::Replaced,
        before: machine("aaaa", "1111"),
        after: machine("bbbb", "2222"),
        approved: false,
        pinned: false,
    }
}
