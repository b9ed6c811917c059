//! The blocks of moorfast in a text: lines between two marker lines with the name of the block.

/// A block in a text.
#[derive(Debug, PartialEq)]
pub(crate) struct Block {
    /// The beginning of its marker lines, which makes them comments.
    pub(crate) comment: String,
    /// Its lines, each with a line break.
    pub(crate) text: String,
}

/// The reason why a block cannot be read or replaced.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Damage {
    /// Two blocks have the name.
    Twice,
    /// The line that ends the block is missing.
    NoEnd,
    /// The line that begins the block is missing.
    NoBegin,
}

impl Damage {
    /// Returns the words that complete "the block is damaged: ".
    pub(crate) fn description(self) -> &'static str {
        match self {
            Self::Twice => "its marker lines are there twice",
            Self::NoEnd => "it has no END line",
            Self::NoBegin => "it has no BEGIN line",
        }
    }
}

/// Returns the line that begins or ends a block: `# BEGIN moorfast NAME`.
pub(crate) fn marker(comment: &str, side: &str, name: &str) -> String {
    format!("{comment} {side} moorfast {name}")
}

/// Whether `line` begins or ends a block.
pub(crate) fn is_marker(line: &str) -> bool {
    ["BEGIN", "END"].iter().any(|side| marked(line, side).is_some_and(|(_, name)| is_name(name)))
}

/// Whether `name` can be the name of a block.
pub(crate) fn is_name(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c))
}

/// Returns the block `name` of `text`, if there is one.
pub(crate) fn find(text: &str, name: &str) -> Result<Option<Block>, Damage> {
    let mut found = None;
    let mut open: Option<Block> = None;
    for line in text.split_inclusive('\n') {
        let bare = line.trim_end_matches(['\r', '\n']);
        let begins = marked(bare, "BEGIN").filter(|(_, of)| is_name(of));
        let ends = marked(bare, "END").filter(|(_, of)| is_name(of));
        match (begins, ends, open.take()) {
            (Some((_, of)), _, Some(_)) => return Err(if of == name { Damage::Twice } else { Damage::NoEnd }),
            (Some((comment, of)), _, None) if of == name => {
                if found.is_some() {
                    return Err(Damage::Twice);
                }
                open = Some(Block { comment: comment.to_owned(), text: String::new() });
            }
            (_, Some((_, of)), Some(block)) if of == name => found = Some(block),
            (_, Some(_), Some(_)) => return Err(Damage::NoEnd),
            (_, Some((_, of)), None) if of == name => {
                return Err(if found.is_some() { Damage::Twice } else { Damage::NoBegin });
            }
            (None, None, Some(mut block)) => {
                block.text.push_str(bare);
                block.text.push('\n');
                open = Some(block);
            }
            _ => {}
        }
    }
    if open.is_some() { Err(Damage::NoEnd) } else { Ok(found) }
}

/// Returns the comment and the name of a marker line.
fn marked<'a>(line: &'a str, side: &str) -> Option<(&'a str, &'a str)> {
    let (start, name) = line.rsplit_once(" moorfast ")?;
    let start = start.strip_suffix(side)?;
    Some((start.strip_suffix(' ').or(start.is_empty().then_some(start))?, name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(comment: &str, text: &str) -> Result<Option<Block>, Damage> {
        Ok(Some(Block { comment: comment.to_owned(), text: text.to_owned() }))
    }

    #[test]
    fn a_block_is_found_by_its_name() {
        let text = "# BEGIN moorfast a\n1\n# END moorfast a\n// BEGIN moorfast a.b\r\n2\r\n\r\n// END moorfast a.b\r\n";
        assert_eq!(find(text, "a"), block("#", "1\n"));
        assert_eq!(find(text, "a.b"), block("//", "2\n\n"));
        assert_eq!(find(text, "b"), Ok(None));
        assert_eq!(find("BEGIN moorfast x\nEND moorfast x", "x"), block("", ""));
    }

    #[test]
    fn damaged_blocks() {
        let cases = [
            ("# BEGIN moorfast a\n1\n", Damage::NoEnd),
            ("# BEGIN moorfast a\n1\n# BEGIN moorfast b\n# END moorfast b\n", Damage::NoEnd),
            ("# BEGIN moorfast a\n# END moorfast b\n", Damage::NoEnd),
            ("# END moorfast a\n", Damage::NoBegin),
            ("# BEGIN moorfast a\n# BEGIN moorfast a\n# END moorfast a\n", Damage::Twice),
            ("# BEGIN moorfast a\n# END moorfast a\n# BEGIN moorfast a\n# END moorfast a\n", Damage::Twice),
            ("# BEGIN moorfast a\n# END moorfast a\n# END moorfast a\n", Damage::Twice),
        ];
        for (text, damage) in cases {
            assert_eq!(find(text, "a"), Err(damage), "{text}");
        }
        assert_eq!(find("# BEGIN moorfast b\n# BEGIN moorfast a\n# END moorfast a\n", "a"), block("#", ""));
    }

    #[test]
    fn only_whole_lines_are_markers() {
        for line in ["# BEGIN moorfast a", "END moorfast a.b-c_1", "<!-- END moorfast x"] {
            assert!(is_marker(line), "{line}");
        }
        for line in ["#BEGIN moorfast a", "# BEGIN moorfast a b", "# BEGIN moorfast ", "see # begin moorfast a", ""] {
            assert!(!is_marker(line), "{line}");
        }
    }
}
