//! The top-level tables of a manifest.

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::loader::Loader;
use super::reader::{Entry, Reader};
use super::{blocks, environment, key_store, module, policy, resource, rollout, terraform, variable};
use crate::model::{Diagnostic, suggest};

const TABLES: [&str; 17] = [
    "variables",
    "locals",
    "nodes",
    "providers",
    "backend",
    "keystore",
    "environments",
    "resource",
    "data",
    "check",
    "policy",
    "rollout",
    "outputs",
    "module",
    "moved",
    "import",
    "removed",
];

/// The tables that only the root can have, with the reason.
const ROOT_ONLY: [(&str, &str); 6] = [
    ("nodes", "a module uses the nodes of the root as `nodes` and `on`; take the roles or names as variables"),
    ("backend", "the state of a module is in the state of the root"),
    ("keystore", "the keys of a module are in the key store of the root"),
    ("environments", "environments set the variables of the root; pass them to the module in `inputs`"),
    ("providers", "configure providers in the root; `providers = { ssh = \"ssh.alias\" }` of the call selects one"),
    ("policy", "policies judge the whole plan; write them in the root"),
];

/// Returns why a module cannot have this table, if it cannot.
fn not_in_module(table: &str) -> Option<&'static str> {
    ROOT_ONLY.iter().find(|(name, _)| *name == table).map(|(_, reason)| *reason)
}

/// Returns the correct header if the unknown table looks like a resource: `[ssh_file.motd]` with the name of a type, such as `ssh_file`.
fn resource_header(table: &str, value: &DeValue<'_>) -> Option<String> {
    let (name, block) = value.as_table()?.iter().next()?;
    let is_resource = table.contains('_') && block.get_ref().is_table();
    is_resource.then(|| format!("write a resource as `[resource.{table}.{}]`", name.get_ref()))
}

impl Loader<'_> {
    /// Reads the tables of one file. Returns all errors in them.
    pub(super) fn file<'a>(&mut self, mut reader: Reader<'a>, tables: &'a DeTable<'a>) -> Vec<Diagnostic> {
        for entry in reader.entries(tables) {
            self.table(&mut reader, entry);
        }
        reader.diagnostics
    }

    fn table<'a>(&mut self, reader: &mut Reader<'a>, entry: Entry<'a>) {
        if self.is_module
            && let Some(help) = not_in_module(&entry.name)
        {
            let summary = format!("a module cannot have `{}`", entry.name);
            return reader.error_with(entry.span, summary, Some(help.to_owned()));
        }
        match entry.name.as_str() {
            "variables" => self.each(reader, &entry, "variable", variable::read),
            "locals" => self.locals(reader, &entry),
            "nodes" => self.each(reader, &entry, "node", blocks::node),
            "providers" => blocks::providers(self, reader, &entry),
            "backend" => blocks::backend(self, reader, &entry),
            "keystore" => key_store::read(self, reader, &entry),
            "environments" => self.each(reader, &entry, "environment", environment::read),
            "resource" | "data" => resource::read_all(self, reader, &entry),
            "check" => self.each(reader, &entry, "check", blocks::check),
            "policy" => self.each(reader, &entry, "policy", policy::read),
            "rollout" => self.each(reader, &entry, "rollout", rollout::read),
            "outputs" => self.each(reader, &entry, "output", blocks::output),
            "moved" => blocks::for_each_table(reader, &entry, |reader, value| blocks::moved(self, reader, value)),
            "import" => blocks::for_each_table(reader, &entry, |reader, value| blocks::import(self, reader, value)),
            "removed" => blocks::for_each_table(reader, &entry, |reader, value| blocks::removed(self, reader, value)),
            "module" => self.each(reader, &entry, "module", module::read),
            name => {
                let help = terraform::table(name)
                    .or_else(|| suggest(name, TABLES))
                    .or_else(|| resource_header(name, entry.value.get_ref()))
                    .unwrap_or_else(|| format!("the tables of a manifest are {}", TABLES.join(", ")));
                reader.error_with(entry.span, format!("unknown table `{name}`"), Some(help));
            }
        }
    }

    /// Reads each named table inside `entry`.
    fn each<'a>(
        &mut self,
        reader: &mut Reader<'a>,
        entry: &Entry<'a>,
        kind: &str,
        read: fn(&mut Self, &mut Reader<'a>, &str, &'a Spanned<DeValue<'a>>),
    ) {
        for inner in reader.table(entry.value, &format!("`{}`", entry.name)).unwrap_or_default() {
            if self.define(reader, kind, &inner.name, inner.span) {
                read(self, reader, &inner.name, inner.value);
            }
        }
    }

    fn locals<'a>(&mut self, reader: &mut Reader<'a>, entry: &Entry<'a>) {
        for local in reader.table(entry.value, "`locals`").unwrap_or_default() {
            if self.define(reader, "local", &local.name, local.span) {
                let expr = reader.expr(local.value);
                self.manifest.locals.insert(local.name, expr);
            }
        }
    }
}
