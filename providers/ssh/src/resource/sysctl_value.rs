//! Spellings of the values of kernel parameters.

/// Returns `value` with single spaces. The kernel prints tabs.
pub(crate) fn plain(value: &str) -> String {
    value.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Whether both values are the same for the kernel: numbers in C notation, and lists of ranges.
pub(crate) fn is_same(a: &str, b: &str) -> bool {
    let (a, b): (Vec<_>, Vec<_>) = (a.split_whitespace().collect(), b.split_whitespace().collect());
    a.len() == b.len() && a.iter().zip(&b).all(|(a, b)| is_same_word(a, b))
}

fn is_same_word(a: &str, b: &str) -> bool {
    let both = |a: Option<i128>, b: Option<i128>| a.is_some() && a == b;
    a == b || both(number(a), number(b)) || ranges(a).is_some_and(|a| ranges(b) == Some(a))
}

/// Returns a number in the notation of `strtoul`: `0x10` is 16, and `010` is 8.
fn number(word: &str) -> Option<i128> {
    let (sign, digits) = match word.strip_prefix('-') {
        Some(digits) => (-1, digits),
        None => (1, word),
    };
    if !digits.starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    let lower = digits.to_ascii_lowercase();
    let parsed = match (lower.strip_prefix("0x"), lower.strip_prefix('0')) {
        (Some(hexadecimal), _) => i128::from_str_radix(hexadecimal, 16),
        (None, Some(octal)) if !octal.is_empty() => i128::from_str_radix(octal, 8),
        _ => lower.parse(),
    };
    parsed.ok().map(|number| sign * number)
}

/// Returns the ranges of a list such as `1-3,7`, sorted and merged.
fn ranges(word: &str) -> Option<Vec<(u64, u64)>> {
    let range = |part: &str| -> Option<(u64, u64)> {
        let (from, to) = part.split_once('-').unwrap_or((part, part));
        Some((from.parse().ok()?, to.parse().ok()?))
    };
    let mut all: Vec<(u64, u64)> = word.split(',').map(range).collect::<Option<_>>()?;
    all.sort_unstable();
    let mut joined: Vec<(u64, u64)> = Vec::new();
    for (from, to) in all {
        match joined.last_mut() {
            Some((_, end)) if from <= end.saturating_add(1) => *end = to.max(*end),
            _ => joined.push((from, to)),
        }
    }
    Some(joined)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings_of_the_same_value() {
        let same = [
            ("20000 60000", "20000\t60000\n"),
            ("0x10", "16"),
            ("0X1f -1", "31 -1"),
            ("010", "8"),
            ("00", "0"),
            ("30000,30001,30002,32000", "30000-30002,32000"),
            ("5,1-3,4", "1-5"),
            ("|/usr/bin/dump %p", "|/usr/bin/dump  %p"),
            ("18446744073692774399", "0xfffffffffeffffff"),
        ];
        for (a, b) in same {
            assert!(is_same(a, b), "{a} {b}");
        }
        for (a, b) in [("1", "2"), ("1 2", "1"), ("bbr", "cubic"), ("1-3", "1-4"), ("0x", "0"), ("-", "-1"), ("", "0")]
        {
            assert!(!is_same(a, b), "{a} {b}");
        }
    }
}
