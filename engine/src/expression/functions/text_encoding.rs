//! The text encodings of `textencodebase64` and `textdecodebase64`.

/// A text encoding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Encoding {
    Utf8,
    Utf16Le,
    Utf16Be,
    Ascii,
    Latin1,
}

impl Encoding {
    /// All encodings with their IANA names.
    pub(super) const ALL: [(&'static str, Encoding); 5] = [
        ("UTF-8", Encoding::Utf8),
        ("UTF-16LE", Encoding::Utf16Le),
        ("UTF-16BE", Encoding::Utf16Be),
        ("US-ASCII", Encoding::Ascii),
        ("ISO-8859-1", Encoding::Latin1),
    ];

    /// Returns the encoding of this name, in upper or lower case.
    pub(super) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, encoding)| encoding)
    }

    /// Encodes the text. Returns `None` if a character does not exist in the encoding.
    pub(super) fn encode(self, text: &str) -> Option<Vec<u8>> {
        match self {
            Encoding::Utf8 => Some(text.as_bytes().to_vec()),
            Encoding::Utf16Le => Some(text.encode_utf16().flat_map(u16::to_le_bytes).collect()),
            Encoding::Utf16Be => Some(text.encode_utf16().flat_map(u16::to_be_bytes).collect()),
            Encoding::Ascii => text.is_ascii().then(|| text.as_bytes().to_vec()),
            Encoding::Latin1 => text.chars().map(|c| u8::try_from(u32::from(c)).ok()).collect(),
        }
    }

    /// Decodes the bytes. Returns `None` if they are not valid in the encoding.
    pub(super) fn decode(self, bytes: &[u8]) -> Option<String> {
        let units = |unit: fn([u8; 2]) -> u16| {
            let (pairs, []) = bytes.as_chunks::<2>() else { return None };
            String::from_utf16(&pairs.iter().map(|pair| unit(*pair)).collect::<Vec<_>>()).ok()
        };
        match self {
            Encoding::Utf8 => String::from_utf8(bytes.to_vec()).ok(),
            Encoding::Utf16Le => units(u16::from_le_bytes),
            Encoding::Utf16Be => units(u16::from_be_bytes),
            Encoding::Ascii => bytes.is_ascii().then(|| bytes.iter().copied().map(char::from).collect()),
            Encoding::Latin1 => Some(bytes.iter().copied().map(char::from).collect()),
        }
    }
}
