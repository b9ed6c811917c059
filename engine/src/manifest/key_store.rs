//! `[keystore]`: where keys are stored that must outlive every node.

use std::sync::LazyLock;

use super::Block;
use super::loader::Loader;
use super::reader::{Entry, Reader};
use crate::model::{Attribute, Kind, Schema};

/// The schema of `[keystore]`.
pub static KEY_STORE: LazyLock<Schema> = LazyLock::new(|| {
    Schema::new(
        "The key store: what must outlive every node, such as the private keys of certificate authorities.",
        [
            Attribute::required(
                "file",
                Kind::String,
                "Path of the file, relative to the folder of the manifest. Without `recipients` it is a folder that only its owner can read.",
            ),
            Attribute::optional(
                "recipients",
                Kind::list(Kind::String),
                "Who can decrypt the file: age recipients (`age1…`) and OpenSSH public keys (`ssh-ed25519 …`). `MOORFAST_AGE_IDENTITY` names the file with \
                 the identity of the person who runs moorfast.",
            ),
        ],
    )
});

pub(super) fn read<'a>(loader: &mut Loader, reader: &mut Reader<'a>, entry: &Entry<'a>) {
    if !loader.define(reader, "block", "keystore", entry.span) {
        return;
    }
    let span = reader.span(entry.value.span());
    let entries = reader.table(entry.value, "`keystore`").unwrap_or_default();
    loader.manifest.key_store = Some(Block { span, attributes: reader.attributes(entries) });
}
