//! `ssh_dnf_repository`: a package repository of dnf.

use moorfast_engine::model::{Attribute, Attributes, Kind, ReadAttributes};
use moorfast_engine::provider::Invalid;

use super::repository::{Format, Key, Repository, options, words};

/// The resource type `ssh_dnf_repository`.
pub(crate) static DNF: Repository = Repository(&Format {
    name: "ssh_dnf_repository",
    doc: "A package repository of dnf: a file in `/etc/yum.repos.d`, and its key in `/etc/pki/rpm-gpg`. \
          Before either is written, dnf reads the repository, so that packages that depend on it are found. dnf accepts the key when it installs the first package. \
          A destroy removes the file and the key, and no package.",
    attributes,
    settings: &["description", "baseurl", "metalink", "mirrorlist", "trusted", "options"],
    manager: "dnf",
    path: |name| format!("/etc/yum.repos.d/{name}.repo"),
    key_paths: |name| ["", ".bin"].map(|end| format!("/etc/pki/rpm-gpg/RPM-GPG-KEY-moorfast-{name}{end}")),
    text: content,
    validate,
    read: include_str!("repository/dnf.sh"),
});

fn attributes() -> Vec<Attribute> {
    vec![
        Attribute::optional(
            "baseurl",
            Kind::list(Kind::String),
            "The addresses of the repository. Exactly one of `baseurl`, `metalink` and `mirrorlist` is required.",
        ),
        Attribute::optional("metalink", Kind::String, "The address of a metalink file with the addresses."),
        Attribute::optional("mirrorlist", Kind::String, "The address of a list of mirrors."),
        Attribute::optional(
            "description",
            Kind::String,
            "The name of the repository for people. If unset, its `name`.",
        ),
    ]
}

fn validate(attributes: &Attributes) -> Vec<Invalid> {
    let given = ["baseurl", "metalink", "mirrorlist"].into_iter().filter(|name| attributes.is_set(name)).count();
    let message = match given {
        0 => "missing required attribute: `baseurl`, `metalink` or `mirrorlist`",
        1 => return Vec::new(),
        _ => "`baseurl`, `metalink` and `mirrorlist` cannot be combined",
    };
    let help = Some("write exactly one of `baseurl`, `metalink` and `mirrorlist`".to_owned());
    vec![Invalid { attribute: None, message: message.to_owned(), help }]
}

fn content(name: &str, attributes: &Attributes, key: Option<&Key>) -> String {
    let written = |name: &str| attributes.text(name).unwrap_or_default().to_owned();
    let description = if attributes.is_set("description") { written("description") } else { name.to_owned() };
    let fields = [
        ("name", description),
        ("baseurl", words(attributes, "baseurl")),
        ("metalink", written("metalink")),
        ("mirrorlist", written("mirrorlist")),
        ("enabled", "1".to_owned()),
        ("gpgcheck", if attributes.flag("trusted") { "0" } else { "1" }.to_owned()),
        ("gpgkey", key.map(|key| format!("file://{}", key.path)).unwrap_or_default()),
    ];
    let mut text = format!("# Written by moorfast.\n[{name}]\n");
    let more: Vec<_> = options(attributes);
    for (name, value) in fields.into_iter().filter(|(_, value)| !value.is_empty()) {
        // An option of the manifest comes instead of what it would repeat.
        if !more.iter().any(|(option, _)| option == name) {
            text.push_str(&format!("{name}={value}\n"));
        }
    }
    for (name, value) in more {
        text.push_str(&format!("{name}={value}\n"));
    }
    text
}
