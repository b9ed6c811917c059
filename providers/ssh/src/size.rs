//! Sizes in bytes as text.

/// Returns a number of bytes with a unit, for example `3.2 GiB`.
pub(crate) fn shown(bytes: u64) -> String {
    const UNITS: [(&str, u32); 3] = [("GiB", 30), ("MiB", 20), ("KiB", 10)];
    match UNITS.into_iter().find(|(_, power)| bytes >> power > 0) {
        Some((unit, power)) => format!("{:.1} {unit}", bytes as f64 / f64::from(1u32 << power)),
        None => format!("{bytes} B"),
    }
}
