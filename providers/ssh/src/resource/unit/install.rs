//! The `[Install]` section of a unit file, which defines how the unit is enabled.

/// Returns the assignments of the `[Install]` sections of `text`, without comments and empty lines.
pub(crate) fn of(text: &str) -> Vec<&str> {
    let mut inside = false;
    let mut assignments = Vec::new();
    for line in text.lines().map(str::trim) {
        match line {
            "" => {}
            _ if line.starts_with(['#', ';']) => {}
            _ if line.starts_with('[') => inside = line == "[Install]",
            _ if inside => assignments.push(line),
            _ => {}
        }
    }
    assignments
}

/// Whether one of `assignments` sets `key` to a value that is not empty.
pub(crate) fn sets(assignments: &[&str], key: &str) -> bool {
    let value =
        |line: &&str| line.split_once('=').filter(|(name, _)| name.trim() == key).map(|(_, value)| value.to_owned());
    assignments.iter().filter_map(value).any(|value| !value.trim().is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_assignments_of_the_install_section_count() {
        let text = "[Unit]\nWants=x.target\n# [Install]\n[Install]\n; old\nWantedBy = multi-user.target\n\n[Service]\nExecStart=/bin/true\n[Install]\nAlias=y.service\n";
        assert_eq!(of(text), ["WantedBy = multi-user.target", "Alias=y.service"]);
        assert!(sets(&of(text), "WantedBy") && sets(&of(text), "Alias"));
        assert!(!sets(&of(text), "Wants") && !sets(&of("[Install]\nAlso=\n"), "Also"));
    }
}
