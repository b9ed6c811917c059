//! The implied order on a node: a directory and a mount before their content, a user before the objects that it owns.

use std::collections::HashMap;

use moorfast_engine::model::{Address, Attributes, ReadAttributes};
use moorfast_engine::provider::Target;

use crate::path::parent;

/// Returns pairs of indexes into `instances`: the first must be applied before the second.
pub(crate) fn implied(instances: &[(&Address, &Target, &Attributes)]) -> Vec<(usize, usize)> {
    let mut created_by: HashMap<(&str, &str, &str), usize> = HashMap::new();
    for (index, (address, target, attributes)) in instances.iter().enumerate() {
        let (kind, name) = match address.resource.resource_type.as_str() {
            "ssh_directory" => ("directory", attributes.text("path")),
            "ssh_mount" => ("mount", attributes.text("path")),
            "ssh_user" => ("user", attributes.text("name")),
            "ssh_group" => ("group", attributes.text("name")),
            _ => continue,
        };
        if let Some(name) = name {
            created_by.insert((target.name(), kind, name), index);
        }
    }
    let mut pairs = Vec::new();
    for (index, (address, target, attributes)) in instances.iter().enumerate() {
        let creator = |kind, name| created_by.get(&(target.name(), kind, name)).copied();
        let at = |name, kind| attributes.text(name).and_then(|path| creator(kind, path));
        let above =
            |name, kind| attributes.text(name).and_then(|path| parents_of(path).find_map(|dir| creator(kind, dir)));
        let (directory, mount) = (above("path", "directory"), above("path", "mount"));
        // A mount needs its mount point, and a bind mount the directory that is its source.
        let (point, source) = match address.resource.resource_type.as_str() {
            "ssh_mount" => (at("path", "directory"), at("source", "directory").or_else(|| above("source", "mount"))),
            _ => (None, None),
        };
        let (owner, group) = (at("owner", "user"), at("group", "group"));
        let before = [directory, mount, point, source, owner, group].into_iter().flatten();
        pairs.extend(before.filter(|before| *before != index).map(|before| (before, index)));
    }
    pairs
}

/// Returns the directories above `path`, the nearest first.
fn parents_of(path: &str) -> impl Iterator<Item = &str> {
    std::iter::successors(Some(parent(path)).filter(|p| *p != path), |dir| Some(parent(dir)).filter(|up| up != dir))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_precedes_its_content_at_any_depth() {
        let target = Target::Provider("stands for a node".to_owned());
        let of = |kind: &str, path: &str| -> (Address, Attributes) {
            (format!("{kind}.x").parse().unwrap(), [("path".to_owned(), path.into())].into())
        };
        let all =
            [of("ssh_file", "/a/b/c/f"), of("ssh_directory", "/a/b"), of("ssh_directory", "/a"), of("ssh_file", "/x")];
        let instances: Vec<_> = all.iter().map(|(address, attributes)| (address, &target, attributes)).collect();
        assert_eq!(implied(&instances), [(1, 0), (2, 1)]);
    }

    #[test]
    fn a_mount_is_between_its_mount_point_and_its_content() {
        let target = Target::Provider("stands for a node".to_owned());
        let of = |kind: &str, path: &str, source: &str| -> (Address, Attributes) {
            let attributes = [("path".to_owned(), path.into()), ("source".to_owned(), source.into())];
            (format!("{kind}.x").parse().unwrap(), attributes.into())
        };
        let all = [
            of("ssh_file", "/data/a/f", ""),
            of("ssh_directory", "/data", ""),
            of("ssh_mount", "/data", "/srv/data"),
            of("ssh_mount", "/srv", "/dev/sdb1"),
            of("ssh_link", "/x", "/srv/data"),
        ];
        let instances: Vec<_> = all.iter().map(|(address, attributes)| (address, &target, attributes)).collect();
        assert_eq!(implied(&instances), [(1, 0), (2, 0), (1, 2), (3, 2)]);
    }
}
