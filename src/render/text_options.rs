//! The options of rendered text.

use super::derived_attributes::DerivedAttributes;

/// The options of rendered text: its width, its level of detail, and the attributes that are shown only without their source.
#[derive(Clone, Copy, Debug)]
pub struct TextOptions<'a> {
    /// The width in columns.
    pub width: usize,
    /// Whether to show long texts in full.
    pub full: bool,
    /// The derived attributes of all resource types.
    pub derived: &'a DerivedAttributes,
}
