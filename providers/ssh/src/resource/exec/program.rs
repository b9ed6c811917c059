//! The program that a command or a script starts first, which the node must have.

use moorfast_engine::model::{Attributes, ReadAttributes};

use super::user_script::UserScript;

/// The program that a command or a script starts first.
pub(crate) struct Program<'a> {
    pub(crate) name: &'a str,
    is_interpreter: bool,
}

impl Program<'_> {
    /// Returns the obstacle that the node does not have the program.
    pub(crate) fn missing(&self) -> String {
        let name = self.name;
        match self.is_interpreter {
            true => format!(
                "the interpreter {name} of the script does not exist or is not executable (install it with ssh_package, or correct the first line of the script)"
            ),
            false => format!(
                "the program {name} does not exist or is not executable (install it with ssh_package, or correct the command)"
            ),
        }
    }
}

/// Returns the program that an `ssh_exec` needs, if the node can look it up: not relative to `working_directory`, and not in a `PATH` of `environment`.
pub(crate) fn program(attributes: &Attributes) -> Option<Program<'_>> {
    let program = match attributes.text("script").map(UserScript::of) {
        Some(UserScript::Sh(_)) => return None,
        Some(UserScript::Interpreted { interpreter: "/usr/bin/env", argument, .. })
            if !argument.is_empty() && !argument.starts_with('-') && !argument.contains('=') =>
        {
            Program { name: argument, is_interpreter: true }
        }
        Some(UserScript::Interpreted { interpreter, .. }) => Program { name: interpreter, is_interpreter: true },
        None => {
            let name = attributes.get("command")?.as_list()?.first()?.as_str()?;
            Program { name, is_interpreter: false }
        }
    };
    let environment = attributes.get("environment").filter(|value| !value.is_null());
    let own_path = environment.is_some_and(|map| map.as_map().is_none_or(|map| map.contains_key("PATH")));
    match program.name.contains('/') {
        true => program.name.starts_with('/'),
        false => !program.name.is_empty() && !own_path,
    }
    .then_some(program)
}
