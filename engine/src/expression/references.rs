//! The references and function calls of an expression, without evaluation.

use hcl::edit::Decorated;
use hcl::edit::Span as _;
use hcl::edit::expr::{Expression, ForExpr, ForIntro, FuncCall, ObjectKey, TraversalOperator};
use hcl::edit::template::{Directive, Element, ForDirective, IfDirective, Template};

use super::evaluate::literal_number;
use super::traversal::reference;
use super::{Expr, ExprNode, Parsed, Place, Reference, functions};
use crate::model::{Diagnostic, Span, error_codes};

/// A use of a reference at one place of an expression.
#[derive(Clone, Debug)]
pub(crate) struct ReferenceUse {
    /// The reference.
    pub reference: Reference,
    /// The place.
    pub span: Span,
    /// The index of a [`Reference::Resource`] or [`Reference::Module`] with `any`. Inside `for` it evaluates to the list of the keys of all iterations.
    pub index: Option<Expr>,
}

impl Expr {
    /// Returns the references of the expression, each once with its first place.
    pub fn references(&self) -> Vec<(Reference, Span)> {
        let mut unique: Vec<(Reference, Span)> = Vec::new();
        for ReferenceUse { reference, span, .. } in self.reference_uses() {
            if !unique.iter().any(|(known, _)| *known == reference) {
                unique.push((reference, span));
            }
        }
        unique
    }

    /// Returns every use of a reference in the expression.
    pub(crate) fn reference_uses(&self) -> Vec<ReferenceUse> {
        let mut found = Vec::new();
        self.inspect(&mut found, &mut Vec::new());
        found
    }

    /// Returns the errors that do not depend on values: unknown functions, wrong numbers of arguments, invalid references.
    pub fn problems(&self) -> Vec<Diagnostic> {
        let mut problems = Vec::new();
        self.inspect(&mut Vec::new(), &mut problems);
        problems
    }

    fn inspect(&self, found: &mut Vec<ReferenceUse>, problems: &mut Vec<Diagnostic>) {
        match &self.node {
            ExprNode::Literal(_) => {}
            ExprNode::List(items) => items.iter().for_each(|item| item.inspect(found, problems)),
            ExprNode::Map(members) => members.iter().for_each(|(_, _, member)| member.inspect(found, problems)),
            ExprNode::Expression(parsed) => Walk::at(&parsed.place, found, problems).expression(&parsed.syntax),
            ExprNode::Template(parsed) => Walk::at(&parsed.place, found, problems).template(&parsed.syntax),
        }
    }
}

struct Walk<'a> {
    place: &'a Place,
    bound: Vec<String>,
    /// The enclosing `for` expressions without their bodies, outermost first.
    loops: Vec<ForExpr>,
    found: &'a mut Vec<ReferenceUse>,
    problems: &'a mut Vec<Diagnostic>,
}

impl<'a> Walk<'a> {
    fn at(place: &'a Place, found: &'a mut Vec<ReferenceUse>, problems: &'a mut Vec<Diagnostic>) -> Self {
        Self { place, bound: Vec::new(), loops: Vec::new(), found, problems }
    }

    fn expression(&mut self, expression: &Expression) {
        match expression {
            Expression::Null(_) | Expression::Bool(_) | Expression::String(_) => {}
            Expression::Number(number) => {
                if let Err(summary) = literal_number(number) {
                    self.problems.push(Diagnostic::error(summary).at(self.place.span(number.span()), ""));
                }
            }
            Expression::Array(items) => items.iter().for_each(|item| self.expression(item)),
            Expression::Object(members) => members.iter().for_each(|(key, value)| {
                if let ObjectKey::Expression(key) = key {
                    self.expression(key);
                }
                self.expression(value.expr());
            }),
            Expression::StringTemplate(template) => self.template(template),
            Expression::HeredocTemplate(heredoc) => self.template(&heredoc.template),
            Expression::Parenthesis(inner) => self.expression(inner.inner()),
            Expression::Variable(name) => self.head(name.as_str(), &[], expression.span()),
            Expression::Conditional(choice) => {
                for part in [&choice.cond_expr, &choice.true_expr, &choice.false_expr] {
                    self.expression(part);
                }
            }
            Expression::FuncCall(call) => self.call(call),
            Expression::Traversal(traversal) => match &traversal.expr {
                Expression::Variable(name) => {
                    self.head(name.as_str(), &traversal.operators, expression.span());
                    self.operators(&traversal.operators);
                }
                inner => {
                    self.expression(inner);
                    self.operators(&traversal.operators);
                }
            },
            Expression::UnaryOp(operation) => self.expression(&operation.expr),
            Expression::BinaryOp(operation) => {
                self.expression(&operation.lhs_expr);
                self.expression(&operation.rhs_expr);
            }
            Expression::ForExpr(comprehension) => self.comprehension(comprehension),
        }
    }

    fn operators(&mut self, operators: &[Decorated<TraversalOperator>]) {
        for operator in operators {
            if let TraversalOperator::Index(index) = operator.value() {
                self.expression(index);
            }
        }
    }

    fn head(&mut self, root: &str, operators: &[Decorated<TraversalOperator>], range: Option<std::ops::Range<usize>>) {
        if self.bound.iter().any(|name| name == root) {
            return;
        }
        let span = self.place.span(range);
        match reference(root, operators) {
            Ok((reference, taken)) => {
                let index = match operators.get(taken).map(Decorated::value) {
                    Some(TraversalOperator::Index(index))
                        if matches!(
                            reference,
                            Reference::Resource { any: true, .. } | Reference::Module { any: true, .. }
                        ) =>
                    {
                        Some(self.in_loops(index, span))
                    }
                    _ => None,
                };
                self.found.push(ReferenceUse { reference, span, index });
            }
            Err(error) => self.problems.push(error.at(span).code(error_codes::UNKNOWN_REFERENCE)),
        }
    }

    fn call(&mut self, call: &FuncCall) {
        let count = call.args.len();
        let checked = functions::find(&call.name).and_then(|function| match call.args.expand_final() {
            true => Ok(()),
            false => function.accepts(count),
        });
        if let Err(error) = checked {
            let code = functions::find(&call.name).is_err().then_some(error_codes::UNKNOWN_FUNCTION);
            self.problems.push(Diagnostic { code, ..error.at(self.place.span(call.name.name.span())) });
        }
        call.args.iter().for_each(|argument| self.expression(argument));
    }

    fn comprehension(&mut self, comprehension: &ForExpr) {
        let intro = &comprehension.intro;
        self.expression(&intro.collection_expr);
        let mut around = ForExpr::new(intro.clone(), Expression::from(true));
        around.cond = comprehension.cond.clone();
        self.binding(around, |walk| {
            let key = comprehension.key_expr.as_ref();
            let condition = comprehension.cond.as_ref().map(|condition| &condition.expr);
            [key, Some(&comprehension.value_expr), condition]
                .into_iter()
                .flatten()
                .for_each(|part| walk.expression(part));
        });
    }

    /// Calls `inner` with the variables of `around` bound.
    fn binding(&mut self, around: ForExpr, inner: impl FnOnce(&mut Self)) {
        let depth = self.bound.len();
        let names = [around.intro.key_var.as_ref(), Some(&around.intro.value_var)];
        self.bound.extend(names.into_iter().flatten().map(|name| name.as_str().to_owned()));
        self.loops.push(around);
        inner(self);
        self.loops.pop();
        self.bound.truncate(depth);
    }

    /// Wraps `index` in the enclosing loops, so that it evaluates to the list of all keys.
    fn in_loops(&self, index: &Expression, span: Span) -> Expr {
        let wrapped = |inner: Expression, around: &ForExpr| {
            let mut around = around.clone();
            around.value_expr = inner;
            Expression::from(around)
        };
        let syntax = self.loops.iter().rev().fold(index.clone(), wrapped);
        Expr { span, node: ExprNode::Expression(Box::new(Parsed { syntax, place: self.place.clone() })) }
    }

    fn template(&mut self, template: &Template) {
        for element in template {
            match element {
                Element::Literal(_) => {}
                Element::Interpolation(interpolation) => self.expression(&interpolation.expr),
                Element::Directive(directive) => match &**directive {
                    Directive::If(IfDirective { if_expr, else_expr, .. }) => {
                        self.expression(&if_expr.cond_expr);
                        self.template(&if_expr.template);
                        else_expr.iter().for_each(|other| self.template(&other.template));
                    }
                    Directive::For(ForDirective { for_expr, .. }) => {
                        self.expression(&for_expr.collection_expr);
                        let mut intro = ForIntro::new(for_expr.value_var.clone(), for_expr.collection_expr.clone());
                        intro.key_var = for_expr.key_var.clone();
                        let around = ForExpr::new(intro, Expression::from(true));
                        self.binding(around, |walk| walk.template(&for_expr.template));
                    }
                },
            }
        }
    }
}
