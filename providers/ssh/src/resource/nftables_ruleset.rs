//! The text of an nftables table: what of it is compared, and which rules stay within their table.

/// Returns the listing of a table without the elements of sets that change while the table is used: those with a timeout, and those that rules fill.
pub(crate) fn comparable(listing: &str) -> String {
    let mut text = String::new();
    let (mut changes, mut skipping) = (false, false);
    for line in listing.lines() {
        let word = line.split_whitespace().next().unwrap_or_default();
        match word {
            "set" | "map" => changes = false,
            "flags" => changes = line.contains("dynamic") || line.contains("timeout"),
            "timeout" => changes = true,
            "elements" if changes => skipping = true,
            _ => {}
        }
        if !skipping {
            text.push_str(line);
            text.push('\n');
        }
        skipping &= !line.trim_end().ends_with('}');
    }
    text
}

/// Whether every brace in `rules` has its counterpart, so that nothing in them is outside of the table. Quoted texts and comments are skipped.
pub(crate) fn is_balanced(rules: &str) -> bool {
    let mut depth = 0_usize;
    for line in rules.lines() {
        let mut quoted = false;
        for c in line.chars() {
            match c {
                '"' => quoted = !quoted,
                _ if quoted => {}
                '#' => break,
                '{' => depth += 1,
                '}' if depth == 0 => return false,
                '}' => depth -= 1,
                _ => {}
            }
        }
    }
    depth == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_that_come_and_go_are_not_compared() {
        let listing = "table inet x {\n\tset kept {\n\t\ttype inet_service\n\t\telements = { 22, 80,\n\t\t\t     443 }\n\t}\n\n\tset seen {\n\t\ttype ipv4_addr\n\t\tflags dynamic,timeout\n\t\ttimeout 1m\n\t\telements = { 10.0.0.1 expires 59s,\n\t\t\t     10.0.0.2 expires 58s }\n\t}\n}\n";
        let expected = "table inet x {\n\tset kept {\n\t\ttype inet_service\n\t\telements = { 22, 80,\n\t\t\t     443 }\n\t}\n\n\tset seen {\n\t\ttype ipv4_addr\n\t\tflags dynamic,timeout\n\t\ttimeout 1m\n\t}\n}\n";
        assert_eq!(comparable(listing), expected);
    }

    #[test]
    fn rules_stay_in_their_table() {
        let chain =
            "chain input {\n type filter hook input priority 0; # }\n tcp dport { 22, 80 } accept comment \"}\"\n}";
        assert!(is_balanced(chain) && is_balanced(""));
        for rules in ["chain a {", "}\ntable inet other {", "chain a { } }"] {
            assert!(!is_balanced(rules), "{rules}");
        }
    }
}
