//! What a provider is tested with.

/// Returns the state of the real objects as text, without the provider.
type Snapshot = Box<dyn Fn() -> String + Send + Sync>;

/// Changes the real objects, without the provider.
type Disturbance = Box<dyn Fn() + Send + Sync>;

/// A manifest for a provider, with what the tests need to know about it.
pub struct Case {
    pub(crate) manifest: String,
    pub(crate) updates: Vec<String>,
    pub(crate) rejected: Vec<(String, String)>,
    pub(crate) secrets: Vec<String>,
    pub(crate) snapshot: Option<Snapshot>,
    pub(crate) disturbance: Option<Disturbance>,
    pub(crate) can_be_imported: bool,
}

impl Case {
    /// Returns a case for this manifest. None of its objects may exist yet.
    pub fn new(manifest: impl Into<String>) -> Self {
        Self {
            manifest: manifest.into(),
            updates: Vec::new(),
            rejected: Vec::new(),
            secrets: Vec::new(),
            snapshot: None,
            disturbance: None,
            can_be_imported: true,
        }
    }

    /// Applies this version of the manifest after the ones before. It must differ, so that there is something to change.
    pub fn update(mut self, manifest: impl Into<String>) -> Self {
        self.updates.push(manifest.into());
        self
    }

    /// Expects that this manifest is rejected, with a message about the attribute `attribute`.
    pub fn reject(mut self, manifest: impl Into<String>, attribute: impl Into<String>) -> Self {
        self.rejected.push((manifest.into(), attribute.into()));
        self
    }

    /// Expects that this value, which a manifest of the case contains, is never shown or stored. Use a text that cannot occur by chance.
    pub fn secret(mut self, value: impl Into<String>) -> Self {
        self.secrets.push(value.into());
        self
    }

    /// Compares the real objects before and after each plan: `snapshot` returns their state without the provider. Without it, only what the
    /// provider itself reads is compared.
    pub fn snapshot(mut self, snapshot: impl Fn() -> String + Send + Sync + 'static) -> Self {
        self.snapshot = Some(Box::new(snapshot));
        self
    }

    /// Expects that a change made by `disturbance` shows as drift, and that the next apply corrects it.
    pub fn disturb(mut self, disturbance: impl Fn() + Send + Sync + 'static) -> Self {
        self.disturbance = Some(Box::new(disturbance));
        self
    }

    /// Leaves out the import, for types whose objects cannot be read without a record.
    pub fn without_import(mut self) -> Self {
        self.can_be_imported = false;
        self
    }
}
