//! Function calls: the preparation of the arguments, and the marks of the result.

use std::ops::Range;

use hcl::edit::Span as _;
use hcl::edit::expr::FuncCall;

use super::{Arguments, Body, CallError, Lazy, filesystem, find};
use crate::expression::evaluate::{Evaluated, Evaluator, all, pending};
use crate::expression::parse::parse_template;
use crate::expression::{Place, Unresolved};
use crate::model::value::{RevealedValues, Secrecy};
use crate::model::{Diagnostic, SourceFile, Sources, Span, Value, ValueMap};

impl Evaluator<'_> {
    /// Evaluates a call at `range`.
    pub(in crate::expression) fn call(&mut self, call: &FuncCall, range: Option<Range<usize>>) -> Evaluated {
        let name = call.name.name.span();
        let unresolved = |this: &Self, error: Unresolved| vec![error.at(this.place.span(name.clone()))];
        let function = find(&call.name).map_err(|error| unresolved(self, error))?;
        if let Body::Lazy(lazy @ (Lazy::Can | Lazy::Try)) = function.body {
            return self.attempt(lazy, call, range);
        }
        let mut arguments = match self.arguments(call)? {
            Ok(arguments) => arguments,
            Err(pending) => return Ok(pending),
        };
        function.accepts(arguments.len()).map_err(|error| unresolved(self, error))?;
        if let Body::Lazy(lazy) = function.body {
            return self.render(lazy, &arguments, range);
        }
        let mut secrecy = Secrecy::default();
        let values = match function.body {
            Body::Raw(_) => std::mem::take(&mut arguments),
            Body::Outer(_) => {
                arguments.iter().for_each(|argument| secrecy.add(&argument.secrecy()));
                let opened: Vec<Value> = arguments.iter().map(|argument| argument.reveal().clone()).collect();
                if let Some(unknown) = opened.iter().find(|argument| matches!(argument, Value::Unknown)) {
                    return Ok(unknown.clone().with(&secrecy));
                }
                if opened.iter().any(|argument| matches!(argument, Value::Retained)) {
                    return Ok(Value::Retained.with(&secrecy));
                }
                opened
            }
            _ => {
                secrecy = Secrecy::of(&arguments);
                if let Some(pending) = pending(&arguments) {
                    return Ok(pending.with(&secrecy));
                }
                arguments.iter().map(Value::reveal_deep).collect()
            }
        };
        let values = RevealedValues(values);
        let revealed = Arguments { function, values: &values.0, files: self.scope.files() };
        let result = match function.body {
            Body::Plain(body) | Body::Outer(body) | Body::Raw(body) => body(&revealed),
            Body::Lazy(_) => Ok(Value::Null),
        };
        let hidden = secrecy.is_sensitive() || values.0.iter().any(Value::is_sensitive);
        match result {
            // Functions on the outside of a collection build no texts from what is in it.
            Ok(value) if secrecy.is_sensitive() && matches!(function.body, Body::Plain(_)) => {
                Ok(value.sensitive_from(&arguments))
            }
            Ok(value) => Ok(value.with(&secrecy)),
            Err(error) => Err(self.error(range, error.message(function.name, hidden))),
        }
    }

    /// Returns the evaluated arguments, with the last one expanded if `...` follows it, or the unknown result.
    fn arguments(&mut self, call: &FuncCall) -> Evaluated<Result<Vec<Value>, Value>> {
        let mut arguments = all(call.args.iter().map(|argument| self.expression(argument)))?;
        if !call.args.expand_final() {
            return Ok(Ok(arguments));
        }
        let last = arguments.pop().unwrap_or_default();
        let secrecy = last.secrecy();
        match last.reveal() {
            Value::Unknown | Value::Retained => Ok(Err(last)),
            Value::List(items) => {
                arguments.extend(items.iter().cloned().map(|item| item.with(&secrecy)));
                Ok(Ok(arguments))
            }
            other => {
                let range = call.args.iter().last().and_then(|argument| argument.span());
                Err(self.error(range, format!("`...` expands a list, not a {}", other.type_name())))
            }
        }
    }

    /// Evaluates `try` and `can`.
    fn attempt(&mut self, lazy: Lazy, call: &FuncCall, range: Option<Range<usize>>) -> Evaluated {
        let mut last = Vec::new();
        for argument in call.args.iter() {
            match (lazy, self.expression(argument)) {
                (Lazy::Can, Ok(value)) => {
                    return Ok(pending([&value]).unwrap_or(Value::Bool(true)));
                }
                (_, Ok(value)) => return Ok(value),
                (_, Err(errors)) => last = errors,
            }
        }
        match lazy {
            Lazy::Can if call.args.len() == 1 => Ok(Value::Bool(false)),
            Lazy::Can => Err(self.error(range, "`can` takes one argument")),
            _ if last.is_empty() => Err(self.error(range, "`try` takes at least one argument")),
            _ => {
                let mut error = self.error(range, "every argument of `try` failed");
                for diagnostic in &mut error {
                    diagnostic.help = last.first().map(|last| format!("the last error is: {}", last.summary));
                }
                Err(error)
            }
        }
    }

    /// Evaluates `templatefile` and `templatestring`.
    fn render(&mut self, lazy: Lazy, arguments: &[Value], range: Option<Range<usize>>) -> Evaluated {
        if self.template_variables.is_some() {
            return Err(self.error(range, "a template cannot render another template"));
        }
        let [source, variables] = arguments else { return Ok(Value::Null) };
        let mut secrecy = source.secrecy();
        secrecy.add(&variables.secrecy());
        let (source, variables) = (source.reveal(), variables.reveal());
        // An unknown variable matters only if the template uses it, so the members of the map are not checked.
        if let Some(unknown) =
            [source, variables].into_iter().find(|value| matches!(value, Value::Unknown | Value::Retained))
        {
            return Ok(unknown.clone().with(&secrecy));
        }
        let (Value::String(source), Value::Map(variables)) = (source, variables) else {
            return Err(self.error(range, "a template needs a string and a map of its variables"));
        };
        let (name, text) = match lazy {
            Lazy::Templatefile => {
                let text = filesystem::read_text(self.scope.files(), source).map_err(|error| {
                    self.error(range.clone(), error.message("templatefile", secrecy.is_sensitive()))
                })?;
                (source.as_str(), text)
            }
            _ => ("the template", source.clone()),
        };
        let variables = variables.iter().map(|(key, value)| (key.clone(), value.clone().with(&secrecy))).collect();
        match self.render_text(&text, &variables) {
            Ok(rendered) => Ok(rendered.with(&secrecy)),
            Err(_) if secrecy.is_sensitive() => Err(self.error(
                range,
                "the template cannot be rendered; the reason is not shown because the template or its variables are sensitive",
            )),
            Err(errors) => {
                Err(errors.into_iter().map(|error| self.in_template(name, &text, error, range.clone())).collect())
            }
        }
    }

    fn render_text(&self, text: &str, variables: &ValueMap) -> Evaluated {
        let place = Place::verbatim(Span { file: 0, start: 0, end: text.len() });
        let template = parse_template(text, &place).map_err(|error| vec![*error])?;
        let mut inner =
            Evaluator { scope: self.scope, place: &place, template_variables: Some(variables), bound: Vec::new() };
        inner.template(&template)
    }

    /// Returns an error inside a template as an error of the call. Its summary contains the place inside the template.
    fn in_template(&self, name: &str, text: &str, inner: Diagnostic, range: Option<Range<usize>>) -> Diagnostic {
        let sources =
            Sources { files: vec![SourceFile { path: name.into(), text: text.to_owned() }], ..Sources::default() };
        let located = inner.at.as_ref().and_then(|(span, _)| sources.locate(*span));
        let place = located.map_or(name.to_owned(), |(_, line, column)| format!("{name}:{line}:{column}"));
        let label = inner.at.as_ref().map(|(_, label)| label.as_str()).filter(|label| !label.is_empty());
        let summary = match label {
            Some(label) => format!("{place}: {}: {label}", inner.summary),
            None => format!("{place}: {}", inner.summary),
        };
        let line = located.and_then(|(_, line, _)| text.lines().nth(line - 1)).unwrap_or_default().trim();
        let at = if line.is_empty() { String::new() } else { format!("in the template: {line}") };
        Diagnostic { help: inner.help, ..Diagnostic::error(summary).at(self.place.span(range), at) }
    }
}

impl CallError {
    /// Returns the message, without any value if `hidden`.
    pub(super) fn message(self, function: &str, hidden: bool) -> String {
        match self {
            CallError::Plain(message) => message,
            CallError::Quoting(message) if !hidden => message,
            CallError::Quoting(_) => {
                format!("`{function}` does not accept its arguments; they are not shown because one is sensitive")
            }
        }
    }
}
