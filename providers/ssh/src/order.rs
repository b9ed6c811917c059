//! The implied order on a node: a directory before its content, a user before the objects that it owns.

use std::collections::HashMap;

use moorfast_engine::model::{Address, Attributes};
use moorfast_engine::provider::Target;

use crate::attributes::{parent, text};

/// Returns pairs of indexes into `instances`: the first must be applied before the second.
pub(crate) fn implied(instances: &[(&Address, &Target, &Attributes)]) -> Vec<(usize, usize)> {
    let mut created_by: HashMap<(&str, &str, &str), usize> = HashMap::new();
    for (index, (address, target, attributes)) in instances.iter().enumerate() {
        let (kind, name) = match address.resource.resource_type.as_str() {
            "ssh_directory" => ("directory", text(attributes, "path")),
            "ssh_user" => ("user", text(attributes, "name")),
            "ssh_group" => ("group", text(attributes, "name")),
            _ => continue,
        };
        if let Some(name) = name {
            created_by.insert((target.name(), kind, name), index);
        }
    }
    let mut pairs = Vec::new();
    for (index, (_, target, attributes)) in instances.iter().enumerate() {
        let creator = |kind, name| created_by.get(&(target.name(), kind, name)).copied();
        let directory =
            text(attributes, "path").and_then(|path| parents_of(path).find_map(|dir| creator("directory", dir)));
        let owner = text(attributes, "owner").and_then(|owner| creator("user", owner));
        let group = text(attributes, "group").and_then(|group| creator("group", group));
        let before = [directory, owner, group].into_iter().flatten();
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
}
