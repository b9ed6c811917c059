//! A script of the manifest and its interpreter.

use crate::script::{self, print_bytes, quote, quote_all};

/// A script of the manifest, by its interpreter: the one of its `#!` line, or sh.
pub(super) enum UserScript<'a> {
    Sh(&'a str),
    Interpreted { text: &'a str, interpreter: &'a str, argument: &'a str },
}

impl<'a> UserScript<'a> {
    /// Reads the first line of `text` as the kernel does: an interpreter and at most one argument.
    pub fn of(text: &'a str) -> Self {
        let Some(line) =
            text.strip_prefix("#!").map(|rest| rest.split('\n').next().unwrap_or_default().trim_matches([' ', '\t']))
        else {
            return UserScript::Sh(text);
        };
        let (interpreter, argument) = line.split_once([' ', '\t']).unwrap_or((line, ""));
        UserScript::Interpreted { text, interpreter, argument: argument.trim_start_matches([' ', '\t']) }
    }

    /// Returns why the `#!` line cannot work on any node, and what to write instead.
    pub fn problem(&self) -> Option<(String, &'static str)> {
        match self {
            UserScript::Interpreted { text, .. }
                if text.lines().count() > 0 && text.split('\n').next().is_some_and(|line| line.ends_with('\r')) =>
            {
                Some((
                    "the first line of the script ends with a carriage return".to_owned(),
                    "save the script with Unix line endings",
                ))
            }
            UserScript::Interpreted { interpreter, .. } if !interpreter.starts_with('/') => Some((
                format!("`#!{interpreter}` does not name an interpreter by its absolute path"),
                "write `#!/bin/bash` or `#!/usr/bin/env python3`; without a `#!` line, sh runs the script",
            )),
            _ => None,
        }
    }

    /// Returns shell that runs the script with its text in `$F`, so that no process has the text in its arguments.
    pub fn command(&self) -> String {
        match self {
            UserScript::Sh(text) => script::user_command(text),
            UserScript::Interpreted { text, interpreter, argument } => {
                let words = [*interpreter, *argument].into_iter().filter(|word| !word.is_empty());
                format!("{} > \"$F/script\"\n{} \"$F/script\"", print_bytes(text.as_bytes()), quote_all(words))
            }
        }
    }

    /// Returns shell that fails if the interpreter does not exist.
    pub fn check(&self) -> String {
        match self {
            UserScript::Sh(_) => String::new(),
            UserScript::Interpreted { interpreter, .. } => format!(
                "[ -x {0} ] || {{ printf %s 'install the interpreter first (ssh_package), or correct the first line of the script' | blob help; fail invalid {1}; }}\n",
                quote(interpreter),
                quote(&format!("the interpreter {interpreter} of the script does not exist"))
            ),
        }
    }
}
