//! The evaluator of HCL syntax trees. Its values can be unknown, retained or sensitive.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use hcl::edit::Span as _;
use hcl::edit::expr::{
    BinaryOp, BinaryOperator, Conditional, Expression, ForExpr, Object, ObjectKey, TraversalOperator,
};
use hcl::edit::{Decorated, Formatted};

use super::traversal::reference;
use super::{Expr, ExprNode, Place, Reference, Scope, Unresolved, arithmetic};
use crate::model::convert::{to_bool, to_text};
use crate::model::number::{integer, parse_number};
use crate::model::value::{RevealedValues, Secrecy};
use crate::model::{Diagnostic, Value, ValueMap, suggest};

/// The maximum length of a chain of attributes and indices, because the evaluator is recursive.
const MAX_OPERATORS: usize = 256;

/// A value, or all errors.
pub(super) type Evaluated<T = Value> = Result<T, Vec<Diagnostic>>;

/// Evaluates an expression of the manifest.
pub(super) fn expr(expr: &Expr, scope: &dyn Scope) -> Evaluated {
    match &expr.node {
        ExprNode::Literal(value) => Ok(value.clone()),
        ExprNode::List(items) => all(items.iter().map(|item| self::expr(item, scope))).map(Value::List),
        ExprNode::Map(members) => {
            let values = all(members.iter().map(|(_, _, member)| self::expr(member, scope)))?;
            Ok(Value::Map(members.iter().map(|(name, _, _)| name.clone()).zip(values).collect()))
        }
        ExprNode::Expression(parsed) => Evaluator::new(scope, &parsed.place).expression(&parsed.syntax),
        ExprNode::Template(parsed) => Evaluator::new(scope, &parsed.place).template(&parsed.syntax),
    }
}

/// Collects all values, or all errors.
pub(super) fn all<T>(results: impl Iterator<Item = Evaluated<T>>) -> Evaluated<Vec<T>> {
    let (mut values, mut errors) = (Vec::new(), Vec::new());
    for result in results {
        match result {
            Ok(value) => values.push(value),
            Err(more) => errors.extend(more),
        }
    }
    if errors.is_empty() { Ok(values) } else { Err(errors) }
}

/// Returns the result if any of `values` is unknown or retained, or `None` if all are known.
pub(super) fn pending<'v>(values: impl IntoIterator<Item = &'v Value> + Clone) -> Option<Value> {
    if values.clone().into_iter().any(Value::is_unknown) {
        return Some(Value::Unknown);
    }
    values.into_iter().any(Value::is_retained).then_some(Value::Retained)
}

/// Returns the value without the sensitive mark at its top, and the secrecy of what is taken out of it.
pub(super) fn open(value: Value) -> (Value, Secrecy) {
    match value {
        Value::Sensitive(_) => (value.reveal().clone(), value.secrecy()),
        plain => (plain, Secrecy::default()),
    }
}

/// Returns the keys and values over which `for` iterates.
pub(super) fn entries(collection: &Value) -> Option<Vec<(Value, Value)>> {
    match collection {
        Value::List(items) => {
            Some(items.iter().enumerate().map(|(i, item)| (Value::Number(i.into()), item.clone())).collect())
        }
        Value::Map(map) => Some(map.iter().map(|(key, value)| (Value::from(key.as_str()), value.clone())).collect()),
        _ => None,
    }
}

/// Parses a number literal exactly.
pub(crate) fn literal_number(number: &Formatted<hcl::Number>) -> Result<serde_json::Number, String> {
    let written = number.as_repr().map_or_else(|| number.value().to_string(), |written| written.to_string());
    let digits: String = written.split_whitespace().collect();
    parse_number(&digits).map_err(|unfit| format!("`{digits}` {unfit}"))
}

/// An evaluator of the expressions in one string.
pub(super) struct Evaluator<'a> {
    pub(super) scope: &'a dyn Scope,
    pub(super) place: &'a Place,
    /// The variables of a template. A template has no other references.
    pub(super) template_variables: Option<&'a ValueMap>,
    /// The variables of the enclosing `for` expressions, innermost last.
    pub(super) bound: Vec<(String, Arc<Value>)>,
}

impl<'a> Evaluator<'a> {
    pub(super) fn new(scope: &'a dyn Scope, place: &'a Place) -> Self {
        Self { scope, place, template_variables: None, bound: Vec::new() }
    }

    /// Returns an error at these bytes of the string.
    pub(super) fn error(&self, range: Option<Range<usize>>, summary: impl Into<String>) -> Vec<Diagnostic> {
        vec![Diagnostic::error(summary).at(self.place.span(range), "")]
    }

    fn error_with(&self, range: Option<Range<usize>>, summary: String, help: Option<String>) -> Vec<Diagnostic> {
        vec![Diagnostic { help, ..Diagnostic::error(summary).at(self.place.span(range), "") }]
    }

    pub(super) fn expression(&mut self, expression: &Expression) -> Evaluated {
        match expression {
            Expression::Null(_) => Ok(Value::Null),
            Expression::Bool(truth) => Ok(Value::Bool(*truth.value())),
            Expression::Number(number) => self.number(number),
            Expression::String(text) => Ok(Value::from(text.as_str())),
            Expression::Array(items) => all(items.iter().map(|item| self.expression(item))).map(Value::List),
            Expression::Object(object) => self.object(object),
            Expression::StringTemplate(template) => self.template(template),
            Expression::HeredocTemplate(heredoc) => self.template(&heredoc.template),
            Expression::Parenthesis(inner) => self.expression(inner.inner()),
            Expression::Variable(name) => {
                let (value, _) = self.head(name.as_str(), &[], expression.span())?;
                Ok(Arc::unwrap_or_clone(value))
            }
            Expression::Conditional(choice) => self.conditional(choice),
            Expression::FuncCall(call) => self.call(call, expression.span()),
            Expression::Traversal(traversal) if traversal.operators.len() > MAX_OPERATORS => {
                Err(self
                    .error(expression.span(), format!("more than {MAX_OPERATORS} attributes and indices in a chain")))
            }
            Expression::Traversal(traversal) => {
                let (value, taken) = match &traversal.expr {
                    Expression::Variable(name) => self.head(name.as_str(), &traversal.operators, expression.span())?,
                    inner => (Arc::new(self.expression(inner)?), 0),
                };
                self.traverse(&value, &Secrecy::default(), &traversal.operators[taken..])
            }
            Expression::UnaryOp(operation) => {
                let (operand, secrecy) = open(self.expression(&operation.expr)?);
                let value = match pending([&operand]) {
                    Some(pending) => pending,
                    None => arithmetic::unary(*operation.operator.value(), &operand)
                        .map_err(|summary| self.error(expression.span(), summary))?,
                };
                Ok(value.with(&secrecy))
            }
            Expression::BinaryOp(operation) => self.binary(operation, expression.span()),
            Expression::ForExpr(comprehension) => self.comprehension(comprehension),
        }
    }

    fn number(&self, number: &Formatted<hcl::Number>) -> Evaluated {
        literal_number(number).map(Value::Number).map_err(|summary| self.error(number.span(), summary))
    }

    fn object(&mut self, object: &Object) -> Evaluated {
        let members = all(object.iter().map(|(key, value)| {
            let key = self.object_key(key);
            let value = self.expression(value.expr());
            match (key, value) {
                (Ok(key), Ok(value)) => Ok((key, value)),
                (key, value) => Err([key.err(), value.err()].into_iter().flatten().flatten().collect()),
            }
        }))?;
        let (mut map, mut secrecy) = (ValueMap::new(), Secrecy::default());
        for (key, value) in members {
            secrecy.add(&key.secrecy());
            if let Some(pending) = pending([&key]) {
                return Ok(pending.with(&secrecy));
            }
            map.insert(to_text(&key).unwrap_or_default(), value);
        }
        Ok(Value::Map(map).with(&secrecy))
    }

    /// Returns the key of an object: an identifier, or the string that an expression produces.
    fn object_key(&mut self, key: &ObjectKey) -> Evaluated {
        match key {
            ObjectKey::Ident(name) => Ok(Value::from(name.as_str())),
            ObjectKey::Expression(expression) => {
                let key = self.expression(expression)?;
                self.checked_key(key, expression.span())
            }
        }
    }

    fn checked_key(&self, key: Value, range: Option<Range<usize>>) -> Evaluated {
        match key.reveal() {
            Value::Unknown | Value::Retained => Ok(key),
            _ if to_text(&key).is_some() => Ok(key),
            other => Err(self.error(range, format!("a key must be a string, not a {}", other.type_name()))),
        }
    }

    fn conditional(&mut self, choice: &Conditional) -> Evaluated {
        let (condition, secrecy) = self.condition(&choice.cond_expr)?;
        let value = match condition {
            Ok(true) => self.expression(&choice.true_expr)?,
            Ok(false) => self.expression(&choice.false_expr)?,
            Err(pending) => pending,
        };
        Ok(value.with(&secrecy))
    }

    /// Returns the value of a condition, or its unknown result, and its secrecy.
    pub(super) fn condition(&mut self, condition: &Expression) -> Evaluated<(Result<bool, Value>, Secrecy)> {
        let (value, secrecy) = open(self.expression(condition)?);
        if let Some(pending) = pending([&value]) {
            return Ok((Err(pending), secrecy));
        }
        match to_bool(&value) {
            Some(truth) => Ok((Ok(truth), secrecy)),
            None => {
                let summary = format!("a condition must be true or false, not a {}", value.type_name());
                Err(self.error(condition.span(), summary))
            }
        }
    }

    fn binary(&mut self, operation: &BinaryOp, range: Option<Range<usize>>) -> Evaluated {
        let operator = *operation.operator.value();
        let left = self.expression(&operation.lhs_expr)?;
        let decisive = match operator {
            BinaryOperator::And => Some(false),
            BinaryOperator::Or => Some(true),
            _ => None,
        };
        if decisive.is_some() && pending([&left]).is_none() && to_bool(&left) == decisive {
            return Ok(Value::Bool(decisive == Some(true)).with(&Secrecy::of([&left])));
        }
        let right = self.expression(&operation.rhs_expr)?;
        let secrecy = Secrecy::of([&left, &right]);
        if decisive.is_some()
            && pending([&right]).is_none()
            && pending([&left]).is_some()
            && to_bool(&right) == decisive
        {
            return Ok(Value::Bool(decisive == Some(true)).with(&secrecy));
        }
        let value = match pending([&left, &right]) {
            Some(pending) => pending,
            None => {
                let opened = RevealedValues(vec![left.reveal_deep(), right.reveal_deep()]);
                let value = arithmetic::binary(operator, &opened.0[0], &opened.0[1]);
                value.map_err(|summary| self.error(range, summary))?
            }
        };
        Ok(value.with(&secrecy))
    }

    fn comprehension(&mut self, comprehension: &ForExpr) -> Evaluated {
        let intro = &comprehension.intro;
        let collection = self.expression(&intro.collection_expr)?;
        let names = (intro.key_var.as_ref().map(|name| name.as_str()), intro.value_var.as_str());
        let (entries, mut secrecy) = match self.collection(collection, intro.collection_expr.span())? {
            (Ok(entries), secrecy) => (entries, secrecy),
            (Err(pending), secrecy) => return Ok(pending.with(&secrecy)),
        };
        let (mut list, mut map): (Vec<Value>, BTreeMap<String, Value>) = Default::default();
        for (key, value) in entries {
            let produced = self.binding(names, key, value, |inner| inner.produce(comprehension))?;
            let (key, value) = match produced {
                Produced::Skipped(of_condition) => {
                    secrecy.add(&of_condition);
                    continue;
                }
                Produced::Pending(pending, of_pending) => {
                    secrecy.add(&of_pending);
                    return Ok(pending.with(&secrecy));
                }
                Produced::Item(key, value, of_item) => {
                    secrecy.add(&of_item);
                    (key, value)
                }
            };
            match key {
                None => list.push(value),
                Some(key) if comprehension.grouping => {
                    if let Value::List(group) = map.entry(key).or_insert_with(|| Value::List(Vec::new())) {
                        group.push(value);
                    }
                }
                Some(key) => {
                    let shown = if secrecy.is_sensitive() { "a key".to_owned() } else { format!("the key `{key}`") };
                    if map.insert(key, value).is_some() {
                        let help = "add `...` after the value to group the values of one key in a list";
                        let range = comprehension.key_expr.as_ref().and_then(|key| key.span());
                        return Err(self.error_with(
                            range,
                            format!("{shown} is produced twice"),
                            Some(help.to_owned()),
                        ));
                    }
                }
            }
        }
        let result = if comprehension.key_expr.is_some() { Value::Map(map.into()) } else { Value::List(list) };
        Ok(result.with(&secrecy))
    }

    /// Evaluates one iteration of a `for` expression, with its variables bound.
    fn produce(&mut self, comprehension: &ForExpr) -> Evaluated<Produced> {
        let mut secrecy = Secrecy::default();
        if let Some(condition) = &comprehension.cond {
            let (truth, of_condition) = self.condition(&condition.expr)?;
            secrecy = of_condition;
            match truth {
                Ok(true) => {}
                Ok(false) => return Ok(Produced::Skipped(secrecy)),
                Err(pending) => return Ok(Produced::Pending(pending, secrecy)),
            }
        }
        let key = match &comprehension.key_expr {
            None => None,
            Some(expression) => {
                let key = self.expression(expression)?;
                let (key, of_key) = open(self.checked_key(key, expression.span())?);
                secrecy.add(&of_key);
                if let Some(pending) = pending([&key]) {
                    return Ok(Produced::Pending(pending, secrecy));
                }
                to_text(&key)
            }
        };
        Ok(Produced::Item(key, self.expression(&comprehension.value_expr)?, secrecy))
    }

    /// Returns the entries over which `for` iterates, or the unknown result, and the secrecy of the collection. Each entry has it too, so that no error in the
    /// loop shows one.
    #[expect(clippy::type_complexity, reason = "the key and the value that a for expression binds")]
    pub(super) fn collection(
        &self,
        collection: Value,
        range: Option<Range<usize>>,
    ) -> Evaluated<(Result<Vec<(Value, Value)>, Value>, Secrecy)> {
        let (collection, secrecy) = open(collection);
        if matches!(collection, Value::Unknown | Value::Retained) {
            return Ok((Err(collection), secrecy));
        }
        match entries(&collection) {
            Some(entries) => {
                let entries =
                    entries.into_iter().map(|(key, value)| (key.with(&secrecy), value.with(&secrecy))).collect();
                Ok((Ok(entries), secrecy))
            }
            None => {
                let summary = format!("`for` iterates over a list or a map, not a {}", collection.type_name());
                Err(self.error(range, summary))
            }
        }
    }

    /// Calls `inner` with the variables of a `for` bound.
    pub(super) fn binding<T>(
        &mut self,
        (key_name, value_name): (Option<&str>, &str),
        key: Value,
        value: Value,
        inner: impl FnOnce(&mut Self) -> T,
    ) -> T {
        let depth = self.bound.len();
        self.bound.extend(key_name.map(|name| (name.to_owned(), Arc::new(key))));
        self.bound.push((value_name.to_owned(), Arc::new(value)));
        let result = inner(self);
        self.bound.truncate(depth);
        result
    }

    /// Returns the value of the head of a traversal, and the number of `operators` that it uses.
    fn head(
        &self,
        root: &str,
        operators: &[Decorated<TraversalOperator>],
        range: Option<Range<usize>>,
    ) -> Evaluated<(Arc<Value>, usize)> {
        if let Some((_, value)) = self.bound.iter().rev().find(|(name, _)| name == root) {
            return Ok((value.clone(), 0));
        }
        let resolved = match self.template_variables {
            Some(variables) => variables.get(root).cloned().map(|value| (Arc::new(value), 0)).ok_or_else(|| {
                Unresolved::new(format!("the template has no variable `{root}`"))
                    .help(suggest(root, variables.keys().map(String::as_str)))
            }),
            None => reference(root, operators).and_then(|(reference, taken)| {
                let value = self.scope.resolve(&reference)?;
                let only = self.only_instance(&reference, &value, operators.get(taken))?;
                Ok((only.unwrap_or(value), taken))
            }),
        };
        resolved.map_err(|error| vec![error.at(self.place.span(range))])
    }

    /// Returns the only instance if the reference is to all instances, and the next attribute is not one of their keys.
    fn only_instance(
        &self,
        reference: &Reference,
        instances: &Value,
        next: Option<&Decorated<TraversalOperator>>,
    ) -> Result<Option<Arc<Value>>, Unresolved> {
        let Reference::Resource { resource, key: None, any: false } = reference else { return Ok(None) };
        match (next.map(Decorated::value), instances.as_map()) {
            (Some(TraversalOperator::GetAttr(name)), Some(map)) if !map.contains_key(name.as_str()) => {
                self.scope.only_instance(resource, name.as_str())
            }
            _ => Ok(None),
        }
    }

    /// Returns the part of a value that `operators` select. `outer` is the secrecy of the values that it is part of.
    fn traverse(&mut self, value: &Value, outer: &Secrecy, operators: &[Decorated<TraversalOperator>]) -> Evaluated {
        let Some((first, rest)) = operators.split_first() else { return Ok(value.clone().with(outer)) };
        let mut secrecy = value.secrecy();
        secrecy.add(outer);
        let value = value.reveal();
        if matches!(value, Value::Unknown | Value::Retained) {
            return Ok(value.clone().with(&secrecy));
        }
        match first.value() {
            TraversalOperator::GetAttr(name) => {
                let member = self.member(value, name.as_str(), secrecy.is_sensitive(), name.span().or(first.span()))?;
                self.traverse(member, &secrecy, rest)
            }
            TraversalOperator::LegacyIndex(index) => {
                let item = self.item(value, *index.value() as i128, secrecy.is_sensitive(), first.span())?;
                self.traverse(item, &secrecy, rest)
            }
            TraversalOperator::Index(index) => {
                let (key, of_key) = open(self.expression(index)?);
                secrecy.add(&of_key);
                let pending = pending([&key]);
                let item = match &pending {
                    Some(pending) => pending,
                    None => self.index(value, &key, secrecy.is_sensitive(), index.span())?,
                };
                self.traverse(item, &secrecy, rest)
            }
            TraversalOperator::FullSplat(_) => Ok(self.splat(value, &secrecy, rest)?.with(&secrecy)),
            TraversalOperator::AttrSplat(_) => {
                // `.*` applies the attributes that follow to each item, and the operators after them to the list.
                let attribute = |operator: &&Decorated<TraversalOperator>| {
                    matches!(operator.value(), TraversalOperator::GetAttr(_))
                };
                let (each, after) = rest.split_at(rest.iter().take_while(attribute).count());
                let list = self.splat(value, &secrecy, each)?;
                self.traverse(&list, &secrecy, after)
            }
        }
    }

    fn splat(&mut self, value: &Value, secrecy: &Secrecy, each: &[Decorated<TraversalOperator>]) -> Evaluated {
        let items = match value {
            Value::Null => &[],
            Value::List(items) => items.as_slice(),
            single => std::slice::from_ref(single),
        };
        all(items.iter().map(|item| self.traverse(item, secrecy, each))).map(Value::List)
    }

    /// Returns the part of a value at a known key.
    fn index<'v>(
        &self,
        value: &'v Value,
        key: &Value,
        hidden: bool,
        range: Option<Range<usize>>,
    ) -> Evaluated<&'v Value> {
        match value {
            Value::List(_) => match crate::model::convert::to_number(key).as_ref().and_then(integer) {
                Some(position) => self.item(value, position, hidden, range),
                None => {
                    let summary = format!("the index of a list must be a whole number, not a {}", key.type_name());
                    Err(self.error(range, summary))
                }
            },
            _ => match to_text(key) {
                Some(name) => self.member(value, &name, hidden, range),
                None => Err(self.error(range, format!("the key of a map must be a string, not a {}", key.type_name()))),
            },
        }
    }

    fn item<'v>(&self, value: &'v Value, at: i128, hidden: bool, range: Option<Range<usize>>) -> Evaluated<&'v Value> {
        let Value::List(items) = value else {
            return Err(self.error(range, format!("a {} has no items", value.type_name())));
        };
        if let Some(item) = usize::try_from(at).ok().and_then(|at| items.get(at)) {
            return Ok(item);
        }
        let summary = match (hidden, items.len()) {
            (true, _) => "the index is out of range".to_owned(),
            (false, 0) => "the list is empty".to_owned(),
            (false, 1) => format!("the list has only the index 0, not {at}"),
            (false, len) => format!("the list has the indices 0 to {}, not {at}", len - 1),
        };
        Err(self.error(range, summary))
    }

    fn member<'v>(
        &self,
        value: &'v Value,
        name: &str,
        hidden: bool,
        range: Option<Range<usize>>,
    ) -> Evaluated<&'v Value> {
        match value {
            Value::Map(map) => match map.get(name) {
                Some(member) => Ok(member),
                None if hidden => Err(self.error(range, "this sensitive value has no such key")),
                None => {
                    let help = suggest(name, map.keys().map(String::as_str));
                    Err(self.error_with(range, format!("this value has no attribute `{name}`"), help))
                }
            },
            Value::List(_) if name.parse::<u64>().is_err() => {
                let help = "select one item by its index, or all items with `[*]`";
                Err(self.error_with(range, "this value is a list".to_owned(), Some(help.to_owned())))
            }
            Value::Null => Err(self.error(range, "this value is null and has no attributes")),
            other => Err(self.error(range, format!("a {} has no attributes", other.type_name()))),
        }
    }
}

/// The result of one iteration of a `for` expression, with the secrecy of its condition and its key.
enum Produced {
    Skipped(Secrecy),
    Pending(Value, Secrecy),
    Item(Option<String>, Value, Secrecy),
}
