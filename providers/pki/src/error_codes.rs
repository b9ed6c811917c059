//! The codes of the errors of the key store.

moorfast_engine::error_codes! {
    /// The key store does not have an entry that the state records.
    ENTRY_LOST = "M0601";
    /// No identity decrypts the key store.
    NO_IDENTITY = "M0602";
}
