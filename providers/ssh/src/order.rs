//! The order on a node that nobody needs to write: a directory comes before what lies in it, a user before what it owns.

use std::collections::HashMap;

use moorfast_engine::model::{Address, Attributes};
use moorfast_engine::provider::Target;

use crate::resource::{parent, text};

/// Pairs of places in `instances`: the first comes before the second.
pub(crate) fn implied(instances: &[(&Address, &Target, &Attributes)]) -> Vec<(usize, usize)> {
    let mut makers: HashMap<(&str, &str, &str), usize> = HashMap::new();
    for (place, (address, target, attributes)) in instances.iter().enumerate() {
        let (kind, name) = match address.resource.resource_type.as_str() {
            "ssh_directory" => ("directory", text(attributes, "path")),
            "ssh_user" => ("user", text(attributes, "name")),
            "ssh_group" => ("group", text(attributes, "name")),
            _ => continue,
        };
        if let Some(name) = name {
            makers.insert((target.name(), kind, name), place);
        }
    }
    let mut pairs = Vec::new();
    for (place, (_, target, attributes)) in instances.iter().enumerate() {
        let maker = |kind, name| makers.get(&(target.name(), kind, name)).copied();
        let holder = text(attributes, "path").and_then(|path| holders(path).find_map(|dir| maker("directory", dir)));
        let owner = text(attributes, "owner").and_then(|owner| maker("user", owner));
        let group = text(attributes, "group").and_then(|group| maker("group", group));
        let before = [holder, owner, group].into_iter().flatten();
        pairs.extend(before.filter(|before| *before != place).map(|before| (before, place)));
    }
    pairs
}

/// The directories that `path` lies in, the nearest first.
fn holders(path: &str) -> impl Iterator<Item = &str> {
    std::iter::successors(Some(parent(path)).filter(|p| *p != path), |dir| Some(parent(dir)).filter(|up| up != dir))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_comes_before_what_lies_in_it_however_deep() {
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
