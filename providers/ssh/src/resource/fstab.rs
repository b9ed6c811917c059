//! The lines of `/etc/fstab` and of `/proc/self/mountinfo`.

/// A line of `/etc/fstab`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Entry {
    /// The device, the directory or the server.
    pub(crate) source: String,
    /// The mount point.
    pub(crate) path: String,
    /// The type of the file system.
    pub(crate) fstype: String,
    /// The options.
    pub(crate) options: Vec<String>,
    /// The fields for `dump` and for the order of checks at boot.
    pub(crate) numbers: [i64; 2],
}

impl Entry {
    /// Returns the entry of a line that is no comment.
    pub(crate) fn of(line: &str) -> Option<Self> {
        let mut fields = line.split_whitespace();
        let (source, path) = (unescaped(fields.next()?), unescaped(fields.next()?));
        let fstype = fields.next().unwrap_or("auto").to_owned();
        let options = fields.next().unwrap_or("defaults").split(',').map(unescaped).collect();
        let mut number = || fields.next().and_then(|number| number.parse().ok()).unwrap_or_default();
        Some(Self { source, path, fstype, options, numbers: [number(), number()] })
    }

    /// Returns the line.
    pub(crate) fn line(&self) -> String {
        let [dump, pass] = self.numbers;
        let options = escaped(&self.options.join(","));
        format!("{} {} {} {options} {dump} {pass}", escaped(&self.source), escaped(&self.path), self.fstype)
    }
}

/// Whether `options` make the file system read-only. The last one of `ro` and `rw` counts.
pub(crate) fn is_read_only<'a>(options: impl IntoIterator<Item = &'a str>) -> bool {
    options.into_iter().filter(|option| ["ro", "rw"].contains(option)).last() == Some("ro")
}

/// A file system that is mounted now.
#[derive(Debug, PartialEq)]
pub(crate) struct Mounted {
    /// The device, the server, or for a directory that is mounted a second time, the device and the directory in brackets.
    pub(crate) source: String,
    /// Whether it is mounted read-only.
    pub(crate) read_only: bool,
}

impl Mounted {
    /// Returns what a line of `/proc/self/mountinfo` describes.
    pub(crate) fn of(line: &str) -> Option<Self> {
        let (mount, file_system) = line.split_once(" - ")?;
        let mut fields = mount.split(' ').skip(3);
        let (root, options) = (fields.next()?, fields.nth(1)?);
        let mut fields = file_system.split(' ').skip(1);
        let (source, of_all) = (unescaped(fields.next()?), fields.next().unwrap_or_default());
        let source = if root == "/" { source } else { format!("{source}[{}]", unescaped(root)) };
        let read_only = [options, of_all].iter().any(|options| is_read_only(options.split(',')));
        Some(Self { source, read_only })
    }
}

/// Returns `text` as a field of `/etc/fstab`.
pub(crate) fn escaped(text: &str) -> String {
    let mut field = String::new();
    for c in text.chars() {
        match c {
            ' ' | '\t' | '\n' | '\\' => field.push_str(&format!("\\{:03o}", u32::from(c))),
            c => field.push(c),
        }
    }
    field
}

/// Returns the text of a field.
fn unescaped(field: &str) -> String {
    let mut text = String::new();
    let mut rest = field;
    while let Some(at) = rest.find('\\') {
        text.push_str(&rest[..at]);
        let code = rest.get(at + 1..at + 4).and_then(|digits| u8::from_str_radix(digits, 8).ok()).filter(u8::is_ascii);
        text.push(code.map_or('\\', char::from));
        rest = &rest[at + if code.is_some() { 4 } else { 1 }..];
    }
    text.push_str(rest);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_read_and_written() {
        let entry = Entry::of("UUID=1-2\t/my\\040disk  ext4  ro,noatime 0 2").unwrap();
        assert_eq!((entry.source.as_str(), entry.path.as_str(), entry.numbers), ("UUID=1-2", "/my disk", [0, 2]));
        assert_eq!(entry.options, ["ro", "noatime"]);
        assert_eq!(entry.line(), "UUID=1-2 /my\\040disk ext4 ro,noatime 0 2");
        assert_eq!(Entry::of("a /b").unwrap().line(), "a /b auto defaults 0 0");
        assert_eq!(Entry::of("a"), None);
    }

    #[test]
    fn fields_keep_every_character() {
        for text in ["a b\tc\nd\\e", "ä\\", "\\040", "x\\9"] {
            assert_eq!(unescaped(&escaped(text)), text);
        }
        assert_eq!(unescaped("\\x\\999\\ä"), "\\x\\999\\ä");
    }

    #[test]
    fn what_is_mounted_now() {
        let line = "36 35 98:0 / /mnt rw,noatime shared:1 - ext3 /dev/sda1 rw,errors=continue";
        assert_eq!(Mounted::of(line), Some(Mounted { source: "/dev/sda1".to_owned(), read_only: false }));
        let line = "40 35 0:41 /srv/a\\040b /mnt ro - overlay overlay rw,lowerdir=x";
        assert_eq!(Mounted::of(line), Some(Mounted { source: "overlay[/srv/a b]".to_owned(), read_only: true }));
        assert_eq!(Mounted::of("36 35 98:0"), None);
    }
}
