//! A workload with a PodDisruptionBudget. One of its pods runs on the last worker.

use serde_json::{Value as Json, json};

use super::site::Site;

const NAME: &str = "shop";
/// The port of the workload on each machine.
pub const NODE_PORT: u16 = 30081;
/// The path of its PodDisruptionBudget.
pub const BUDGET: &str = "/apis/policy/v1/namespaces/default/poddisruptionbudgets/shop";

impl Site {
    pub fn a_workload_runs(&self) {
        let last = &self.testbed.facts.nodes.last().unwrap().name;
        let labels = json!({ "app": NAME });
        let selector = json!({ "matchLabels": labels });
        let near = json!({ "labelSelector": selector, "topologyKey": "kubernetes.io/hostname" });
        let on_last =
            json!({ "matchExpressions": [{ "key": "kubernetes.io/hostname", "operator": "In", "values": [last] }] });
        let container = json!({
            "name": NAME,
            "image": "docker.io/library/busybox:1.35",
            "command": ["/bin/sh", "-ec", "mkdir /tmp/web; hostname >/tmp/web/index.html; exec httpd -f -p 8080 -h /tmp/web"],
            "resources": { "requests": { "cpu": "50m", "memory": "16Mi" } },
            "readinessProbe": { "httpGet": { "path": "/", "port": 8080 }, "periodSeconds": 1 },
            // Answers until every kube-proxy knows that the pod is about to end.
            "lifecycle": { "preStop": { "exec": { "command": ["sleep", "5"] } } },
        });
        let deployment = json!({
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": { "name": NAME, "namespace": "default" },
            "spec": {
                "replicas": 3,
                "selector": selector,
                "template": {
                    "metadata": { "labels": labels },
                    "spec": {
                        "terminationGracePeriodSeconds": 6,
                        "affinity": {
                            "podAntiAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": [near] },
                            "nodeAffinity": {
                                "preferredDuringSchedulingIgnoredDuringExecution": [{ "weight": 100, "preference": on_last }],
                            },
                        },
                        "containers": [container],
                    },
                },
            },
        });
        let budget = json!({
            "apiVersion": "policy/v1",
            "kind": "PodDisruptionBudget",
            "metadata": { "name": NAME, "namespace": "default" },
            "spec": { "minAvailable": 2, "selector": selector },
        });
        let service = json!({
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": { "name": NAME, "namespace": "default" },
            "spec": { "type": "NodePort", "selector": labels, "ports": [{ "port": 80, "targetPort": 8080, "nodePort": NODE_PORT }] },
        });
        self.kubectl_apply(&[deployment, budget, service]);
        self.kubectl(&["wait", "--for=condition=Available", "--timeout=120s", &format!("deployment/{NAME}")]);
        self.kubectl(&["rollout", "status", &format!("deployment/{NAME}"), "--timeout=120s"]);
    }

    /// Returns the machines on which the pods of the workload run.
    pub fn machines_of_the_workload(&self) -> Vec<String> {
        let pods = self.kubectl(&["get", "pods", "-l", &format!("app={NAME}"), "-o", "json"]);
        let pods: Json = serde_json::from_str(&pods).unwrap();
        pods["items"]
            .as_array()
            .unwrap()
            .iter()
            .map(|pod| pod["spec"]["nodeName"].as_str().unwrap().to_owned())
            .collect()
    }
}
