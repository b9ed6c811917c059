//! Files of this machine that a task receives on descriptor 3.

use std::time::Duration;

use crate::script::quote;
use crate::sources::Source;

/// The field with the digest of an upload, which needs no second read.
pub(super) const RECEIVED: &str = "received";

/// Returns how long an upload may take: it is slow below 256 KiB a second.
pub(super) fn limit(source: &Source) -> Duration {
    Duration::from_secs(300 + source.size / (256 << 10))
}

/// Returns shell that writes an upload to the temporary file. All bytes arrive only if they have the digest of the source.
pub(super) fn receive(source: &Source) -> String {
    let incomplete = format!(
        "the upload of {} is incomplete: the file changed during the upload, or the connection was lost",
        source.path.display()
    );
    format!(
        "dd bs=64K iflag=fullblock,count_bytes count={size} status=none <&3 >&6
[ \"$(stat -L -c %s /proc/self/fd/6)\" = {size} ] || fail failed {incomplete}
watch
field {RECEIVED} {sha256}",
        size = source.size,
        sha256 = source.sha256,
        incomplete = quote(&incomplete),
    )
}
