//! The values of kernel parameters at boot: the files that systemd-sysctl reads, in its order.

/// The value that a file sets at boot.
#[derive(Debug, PartialEq)]
pub(crate) struct Assignment<'a> {
    pub(crate) file: &'a str,
    pub(crate) value: &'a str,
}

/// Returns the last assignment of the parameter `name` in the reported lines. A line with the full name overrides every pattern.
pub(crate) fn last<'a>(reported: &'a str, name: &str) -> Option<Assignment<'a>> {
    let assignment = |line: &'a str| {
        let (file, line) = line.split_once('\0')?;
        let line = line.trim();
        if line.starts_with(['#', ';']) {
            return None;
        }
        let (key, value) = line.strip_prefix('-').unwrap_or(line).split_once('=')?;
        (slashed(key.trim()) == name).then(|| Assignment { file, value: value.trim() })
    };
    reported.lines().rev().find_map(assignment)
}

/// Returns a parameter's name with slashes between its parts. The first separator in the name is the separator of its parts; the other character is a part of the name.
pub(crate) fn slashed(name: &str) -> String {
    match name.find(['.', '/']) {
        Some(first) if name[first..].starts_with('.') => {
            let swap = |c| match c {
                '.' => '/',
                '/' => '.',
                other => other,
            };
            name.chars().map(swap).collect()
        }
        _ => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_separator_decides() {
        let cases = [
            ("net.ipv4.ip_forward", "net/ipv4/ip_forward"),
            ("net/ipv4/conf/eth0.1/forwarding", "net/ipv4/conf/eth0.1/forwarding"),
            ("net.ipv4.conf.eth0/1.forwarding", "net/ipv4/conf/eth0.1/forwarding"),
            ("vm", "vm"),
        ];
        for (name, path) in cases {
            assert_eq!(slashed(name), path);
        }
    }

    #[test]
    fn the_last_line_with_the_full_name_counts() {
        let reported = "/usr/lib/sysctl.d/50-a.conf\0net.ipv4.ip_forward = 0\n\
            /etc/sysctl.d/90-b.conf\0net/ipv4/ip_forward=1\n\
            /etc/sysctl.d/99-sysctl.conf\0#net.ipv4.ip_forward=0\n\
            /etc/sysctl.d/99-sysctl.conf\0  -net.ipv4.ip_forward =  2 \n\
            /etc/sysctl.d/99-sysctl.conf\0net.ipv4.*=3\n\
            /etc/sysctl.d/99-sysctl.conf\0-net.ipv4.ip_forward\n\
            /etc/sysctl.d/99-sysctl.conf\0net.ipv4.ip_forward_use_pmtu = 4\n";
        let expected = Assignment { file: "/etc/sysctl.d/99-sysctl.conf", value: "2" };
        assert_eq!(last(reported, "net/ipv4/ip_forward"), Some(expected));
        assert_eq!(last(reported, "net/ipv4/tcp_syncookies"), None);
    }
}
