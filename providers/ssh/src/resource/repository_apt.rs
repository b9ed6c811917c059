//! `ssh_apt_repository`: a package repository of apt.

use moorfast_engine::model::{Attribute, Attributes, Kind, ReadAttributes};
use moorfast_engine::provider::Invalid;

use super::repository::{Format, Key, Repository, options, words};

/// The resource type `ssh_apt_repository`.
pub(crate) static APT: Repository = Repository(&Format {
    name: "ssh_apt_repository",
    doc: "A package repository of apt: a file in `/etc/apt/sources.list.d` in the deb822 format, and its key in `/etc/apt/keyrings`. \
          Before either is written, apt reads the repository with this key, so that packages that depend on it are found; the lists of other repositories are not read again. \
          A destroy removes the file and the key, and no package.",
    attributes,
    settings: &["types", "uris", "suites", "components", "architectures", "trusted", "options"],
    manager: "apt-get",
    path: |name| format!("/etc/apt/sources.list.d/{name}.sources"),
    // apt decides by the extension how to read a key.
    key_paths: |name| ["asc", "gpg"].map(|extension| format!("/etc/apt/keyrings/moorfast-{name}.{extension}")),
    text,
    validate,
    read: include_str!("repository/apt.sh"),
});

fn attributes() -> Vec<Attribute> {
    vec![
        Attribute::required(
            "uris",
            Kind::list(Kind::String),
            "The addresses of the repository: `[\"https://pkgs.k8s.io/core:/stable:/v1.34/deb/\"]`.",
        ),
        Attribute::required(
            "suites",
            Kind::list(Kind::String),
            "The suites: `[\"bookworm\"]`, or a path that ends with `/` for a repository without suites: `[\"/\"]`.",
        ),
        Attribute::optional(
            "components",
            Kind::list(Kind::String),
            "The components: `[\"main\"]`. None for a repository without suites.",
        ),
        Attribute::optional(
            "types",
            Kind::list(Kind::OneOf(&["deb", "deb-src"])),
            "The types: `deb` for packages, `deb-src` for their sources.",
        )
        .or(vec!["deb"]),
        Attribute::optional(
            "architectures",
            Kind::list(Kind::String),
            "The architectures. If unset, those of the node.",
        ),
    ]
}

fn validate(attributes: &Attributes) -> Vec<Invalid> {
    let flat = attributes.texts("suites").iter().any(|suite| suite.ends_with('/'));
    let has_components = !attributes.texts("components").is_empty();
    let known = !attributes.texts("suites").is_empty();
    let unknown = attributes.get("components").is_some_and(moorfast_engine::model::Value::is_unknown);
    (known && !unknown && flat == has_components)
        .then(|| match flat {
            true => Invalid::new("components", "a suite that ends with `/` has no components".to_owned()),
            false => Invalid::new("components", "a suite needs components".to_owned())
                .help("write components = [\"main\"], or a suite that ends with `/`"),
        })
        .into_iter()
        .collect()
}

fn text(_: &str, attributes: &Attributes, key: Option<&Key>) -> String {
    let mut text = "# Written by moorfast.\n".to_owned();
    let fields = [
        ("Types", words(attributes, "types")),
        ("URIs", words(attributes, "uris")),
        ("Suites", words(attributes, "suites")),
        ("Components", words(attributes, "components")),
        ("Architectures", words(attributes, "architectures")),
        ("Signed-By", key.map(|key| key.path.clone()).unwrap_or_default()),
        ("Trusted", if attributes.flag("trusted") { "yes".to_owned() } else { String::new() }),
    ];
    for (name, value) in fields.into_iter().filter(|(_, value)| !value.is_empty()) {
        text.push_str(&format!("{name}: {value}\n"));
    }
    for (name, value) in options(attributes) {
        text.push_str(&format!("{name}: {value}\n"));
    }
    text
}
