//! Paths of modules: `module.web["a"].module.inner`.

use std::fmt;

/// The path of a module instance from the root. The path of the root is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ModulePath(Vec<ModuleStep>);

/// A step of a [`ModulePath`]: `module.web` or `module.web["a"]`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ModuleStep {
    /// The name of the call.
    pub name: String,
    /// The key of the call's `for_each`. In a pattern, a step without a key selects all instances.
    pub key: Option<String>,
}

impl ModulePath {
    /// Returns the path of the root.
    pub fn root() -> Self {
        Self::default()
    }

    /// Whether this is the path of the root.
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the steps from the root.
    pub fn steps(&self) -> &[ModuleStep] {
        &self.0
    }

    /// Returns the path of an instance of the call `name` in this module.
    pub fn child(&self, name: &str, key: Option<String>) -> Self {
        let step = ModuleStep { name: name.to_owned(), key };
        Self(self.0.iter().cloned().chain([step]).collect())
    }

    /// Returns `inner`, which starts at this module, as a path that starts at the root.
    pub fn join(&self, inner: &Self) -> Self {
        Self(self.0.iter().chain(&inner.0).cloned().collect())
    }

    /// Whether this module is selected by `pattern`, whose steps without a key select all instances of a call.
    pub fn is_instance_of(&self, pattern: &Self) -> bool {
        self.0.len() == pattern.0.len() && self.is_inside(pattern)
    }

    /// Whether this module is, or is inside of, a module that `pattern` selects.
    pub fn is_inside(&self, pattern: &Self) -> bool {
        let fits = |(step, wanted): (&ModuleStep, &ModuleStep)| {
            step.name == wanted.name && (wanted.key.is_none() || step.key == wanted.key)
        };
        self.0.len() >= pattern.0.len() && self.0.iter().zip(&pattern.0).all(fits)
    }

    /// Returns the path without any keys.
    pub fn without_keys(&self) -> Self {
        Self(self.0.iter().map(|step| ModuleStep { name: step.name.clone(), key: None }).collect())
    }

    /// Returns the path after a move of the module `from`, or `None` if it does not move.
    pub(super) fn moved(&self, from: &Self, to: &Self) -> Option<Self> {
        let ((old, around), (new, outer)) = (from.0.split_last()?, to.0.split_last()?);
        let (start, inner) = self.0.split_at_checked(from.0.len())?;
        let (step, outside) = start.split_last()?;
        if outside != around || step.name != old.name {
            return None;
        }
        let step = ModuleStep { name: new.name.clone(), key: moved_key(&step.key, &old.key, &new.key)? };
        Some(Self(outer.iter().chain([&step]).chain(inner).cloned().collect()))
    }

    /// Parses the steps at the start of `text`. Returns the path and the rest after it.
    pub(super) fn parse(text: &str) -> Option<(Self, &str)> {
        let (mut steps, mut rest) = (Vec::new(), text);
        while let Some(step) = rest.strip_prefix("module.") {
            let end = step.find(['.', '[']).unwrap_or(step.len());
            let (name, after) = step.split_at(end);
            let (key, after) = parse_key(after)?;
            steps.push(ModuleStep { name: is_identifier(name).then(|| name.to_owned())?, key });
            rest = match after.strip_prefix('.') {
                Some(next) if !next.is_empty() => next,
                None if after.is_empty() => after,
                _ => return None,
            };
        }
        Some((Self(steps), rest))
    }
}

impl From<Vec<ModuleStep>> for ModulePath {
    fn from(steps: Vec<ModuleStep>) -> Self {
        Self(steps)
    }
}

impl fmt::Display for ModulePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, step) in self.0.iter().enumerate() {
            let dot = if i == 0 { "" } else { "." };
            write!(f, "{dot}module.{}{}", step.name, Key(step.key.as_deref()))?;
        }
        Ok(())
    }
}

/// Returns the key of an instance after a move: the same key if the move names none, otherwise that of `to` if the instance is the one of `from`.
pub(super) fn moved_key(key: &Option<String>, from: &Option<String>, to: &Option<String>) -> Option<Option<String>> {
    match (from, to) {
        (None, None) => Some(key.clone()),
        _ => (key == from).then(|| to.clone()),
    }
}

/// The key of an instance as an index: `["a"]`, or nothing.
pub(super) struct Key<'k>(pub Option<&'k str>);

impl fmt::Display for Key<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(key) => write!(f, "[{}]", serde_json::Value::from(key)),
            None => Ok(()),
        }
    }
}

/// Parses the optional key `["a"]` at the start of `text`. Returns the key and the rest after it.
pub(super) fn parse_key(text: &str) -> Option<(Option<String>, &str)> {
    let Some(quoted) = text.strip_prefix('[') else { return Some((None, text)) };
    let mut values = serde_json::Deserializer::from_str(quoted).into_iter::<String>();
    let key = values.next()?.ok()?;
    let rest = quoted.get(values.byte_offset()..)?.strip_prefix(']')?;
    Some((Some(key), rest))
}

/// Whether `text` is an HCL identifier: letters, digits, `_` and `-`, starting with a letter or `_`.
pub fn is_identifier(text: &str) -> bool {
    let mut chars = text.chars();
    chars.next().is_some_and(|c| c.is_alphabetic() || c == '_')
        && chars.all(|c| c.is_alphanumeric() || c == '_' || c == '-')
}
