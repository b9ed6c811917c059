//! No private key and no token is visible: not in the state, the plan, the log, a command line or an environment.

use std::fs;

use super::site::Site;
use crate::support::folder::Run;
use crate::support::processes::Seen;

impl Site {
    pub fn no_secret_is_visible(&self, runs: &[&Run], seen: &Seen) {
        let mut places: Vec<(String, Vec<u8>)> = Vec::new();
        for run in runs {
            places.push((format!("the output of `{}`", run.command), run.stdout.clone().into_bytes()));
            places.push((format!("the log of `{}`", run.command), run.stderr.clone().into_bytes()));
        }
        places.push(("a command line".to_owned(), joined(seen.command_lines.iter())));
        places
            .push(("an environment".to_owned(), joined(seen.environments.iter().map(|(_, environment)| environment))));
        // The administrator's key belongs in its file.
        for file in self.moorfast.files().into_iter().filter(|file| !file.ends_with("admin-key.pem")) {
            places.push((file.display().to_string(), fs::read(&file).unwrap()));
        }
        for (name, secret) in &self.secrets() {
            for (place, bytes) in &places {
                let shows = bytes.windows(secret.len()).any(|window| window == secret.as_bytes());
                assert!(!shows, "{place} contains {name}");
            }
        }
        let searched = |part: &str| places.iter().any(|(place, bytes)| place.contains(part) && !bytes.is_empty());
        assert!(searched("state.db") && searched("first.plan") && searched("keys.age"));
        assert!(seen.command_lines.iter().any(|line| line.contains("/opt/k8s/bin/etcd")), "the nodes were watched");
    }

    /// Returns the name and the secret part of each private key on this machine and on the nodes, and of what else is secret there.
    fn secrets(&self) -> Vec<(String, String)> {
        let mut secrets = vec![
            // The start of every token of a ServiceAccount.
            ("a token of a ServiceAccount".to_owned(), "eyJhbGciOi".to_owned()),
            (
                "the key of the administrator".to_owned(),
                secret_part(&self.moorfast.read("cluster/admin/admin-key.pem")),
            ),
        ];
        for node in self.testbed.node_names() {
            let keys = self
                .testbed
                .on(&node, "ls /etc/kubernetes/cert/*-key.pem /etc/etcd/cert/*-key.pem 2>/dev/null || true");
            for path in keys.split_whitespace() {
                let pem = self.testbed.on(&node, &format!("cat {path}"));
                secrets.push((format!("{path} of {node}"), secret_part(&pem)));
            }
        }
        let encryption =
            self.testbed.on(&self.control_planes()[0].name, "grep secret: /etc/kubernetes/encryption-config.yaml");
        secrets.push((
            "the encryption key".to_owned(),
            encryption.rsplit(' ').next().unwrap().trim().trim_matches('"').to_owned(),
        ));
        let template = "{{range .items}}{{if eq .type \"bootstrap.kubernetes.io/token\"}}\
            {{index .data \"token-secret\" | base64decode}} {{index .data \"token-secret\"}}\n{{end}}{{end}}";
        let tokens = self.kubectl(&["get", "secrets", "-n", "kube-system", "-o", &format!("go-template={template}")]);
        secrets.extend(tokens.split_whitespace().map(|s| ("the secret of a bootstrap token".to_owned(), s.to_owned())));
        // Of each control plane: etcd, kubernetes, etcd-client, proxy-client, controller-manager, scheduler, the authority, ServiceAccounts.
        // Of each node: kube-proxy, and the two forms of a token.
        let expected = super::site::CONTROL_PLANES * 8 + self.testbed.facts.nodes.len() * 3 + 3;
        assert_eq!(secrets.len(), expected, "{:?}", secrets.iter().map(|(name, _)| name).collect::<Vec<_>>());
        secrets
    }
}

/// Returns the part of a private key in PEM that differs from other keys.
fn secret_part(pem: &str) -> String {
    let lines: Vec<_> = pem.lines().filter(|line| !line.starts_with('-')).collect();
    lines.concat()[48..88].to_owned()
}

fn joined<'a>(lines: impl Iterator<Item = &'a String>) -> Vec<u8> {
    lines.fold(String::new(), |text, line| text + line + "\n").into_bytes()
}
