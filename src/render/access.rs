//! The findings of `moorfast node check`.

use moorfast_engine::provider::{Class, Finding, ProviderError, Target};
use moorfast_engine::workspace::Access;
use serde_json::{Value as Json, json};

use super::json::{FORMAT_VERSION, provider_error};
use super::text::{Line, Style, Text, styled};
use super::wording::counted;
use crate::exit::Exit;

/// Renders the findings: one line for each, with what to do where a need is not met.
pub fn text(targets: &[Access]) -> Text {
    let sections = targets.iter().map(|access| {
        let lines = access.findings.iter().flat_map(lines);
        Text::from(styled(Style::Bold, &access.target)) + lines.collect::<Text>()
    });
    Text::separated(sections.chain([closing(targets).into()]))
}

fn lines(finding: &Finding) -> Vec<Line> {
    let name = finding.need.name();
    match &finding.result {
        Ok(found) => vec![(styled(Style::Added, "ok  ") + format!(" {name:15} {found}")).indented(2)],
        Err(error) => {
            let first = styled(Style::Danger, "FAIL") + format!(" {name:15} {}", error.summary);
            let help = error.help.iter().map(|help| styled(Style::Bold, "help") + format!(": {help}"));
            std::iter::once(first.indented(2)).chain(help.map(|line| line.indented(23))).collect()
        }
    }
}

/// Returns the summary line.
fn closing(targets: &[Access]) -> Line {
    let nodes = targets.iter().filter(|access| matches!(access.target, Target::Node(_))).count();
    let clusters = targets.len() - nodes;
    let kinds = [(nodes, "node"), (clusters, "cluster")].into_iter().filter(|(count, _)| *count > 0);
    let checked = kinds.map(|(count, kind)| counted(count, kind)).collect::<Vec<_>>().join(" and ");
    match failures(targets).count() {
        _ if targets.is_empty() => "Nothing to check: the manifest has no nodes and no objects of a cluster.".into(),
        0 => styled(Style::Success, format!("All well: {checked}.")),
        count => styled(Style::Danger, format!("{}:", counted(count, "finding"))) + format!(" checked {checked}."),
    }
}

fn failures(targets: &[Access]) -> impl Iterator<Item = &ProviderError> {
    targets.iter().flat_map(|access| &access.findings).filter_map(|finding| finding.result.as_ref().err())
}

/// Returns the exit code: the worst of the findings, as for `drift`.
pub fn exit(targets: &[Access]) -> Exit {
    let of_error = |error: &ProviderError| match error.class {
        Class::Unreachable => Exit::Unreachable,
        Class::Identity => Exit::Identity,
        _ => Exit::Changes,
    };
    failures(targets).map(of_error).fold(Exit::Success, Exit::worse)
}

/// Returns the output of `node check --json`.
pub fn json(targets: &[Access]) -> Json {
    let check = |finding: &Finding| match &finding.result {
        Ok(found) => json!({ "check": finding.need.name(), "status": "pass", "found": found }),
        Err(error) => json!({ "check": finding.need.name(), "status": "fail", "error": provider_error(error) }),
    };
    let target = |Access { target, findings }: &Access| {
        let kind = if matches!(target, Target::Node(_)) { "node" } else { "cluster" };
        json!({ "target": target.name(), "kind": kind, "checks": findings.iter().map(check).collect::<Vec<_>>() })
    };
    json!({
        "format_version": FORMAT_VERSION,
        "failed": failures(targets).count(),
        "targets": targets.iter().map(target).collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use moorfast_engine::model::Node;
    use moorfast_engine::provider::Need;

    use super::super::terminal::plain;
    use super::*;

    fn node(name: &str, findings: Vec<Finding>) -> Access {
        let node = Node::new(name);
        Access { target: Target::Node(Arc::new(node)), findings }
    }

    fn error(class: Class, summary: &str, help: &str) -> ProviderError {
        ProviderError::new(class, summary).help(help)
    }

    fn samples() -> Vec<Access> {
        let refused = error(
            Class::Denied,
            "cannot become root on gpu01: sudo requires a password",
            "permit sudo without a password",
        );
        let gone = error(
            Class::Unreachable,
            "cannot connect to gpu02: connection refused",
            "check that sshd runs on the node",
        );
        let denied = error(
            Class::Denied,
            "the user may not create secrets in the namespace shop",
            "grant these verbs to the user",
        );
        vec![
            node(
                "gpu01",
                vec![
                    Finding::met(Need::Address, "10.0.0.11"),
                    Finding::unmet(Need::Root, refused),
                    Finding::met(Need::PackageManager, "apt"),
                ],
            ),
            node("gpu02", vec![Finding::met(Need::Address, "gpu02"), Finding::unmet(Need::Connection, gone)]),
            Access {
                target: Target::Provider("kubernetes".to_owned()),
                findings: vec![Finding::met(Need::Version, "v1.34.4"), Finding::unmet(Need::Permissions, denied)],
            },
        ]
    }

    #[test]
    fn findings() {
        insta::assert_snapshot!("findings", plain(text(&samples())));
        insta::assert_snapshot!("findings_json", format!("{:#}", json(&samples())));
        let well = [node("gpu01", vec![Finding::met(Need::Login, "accepted")])];
        insta::assert_snapshot!("findings_none", plain(text(&well)));
        assert!(plain(text(&[])).starts_with("Nothing to check"));
    }

    #[test]
    fn the_worst_finding_is_the_exit_code() {
        let of = |classes: &[Class]| {
            let findings = classes.iter().map(|class| Finding::unmet(Need::Login, error(*class, "", "")));
            exit(&[node("gpu01", findings.collect())])
        };
        assert_eq!(of(&[]), Exit::Success);
        assert_eq!(of(&[Class::Denied, Class::Failed]), Exit::Changes);
        assert_eq!(of(&[Class::Denied, Class::Unreachable]), Exit::Unreachable);
        assert_eq!(of(&[Class::Identity, Class::Unreachable]), Exit::Identity);
    }
}
