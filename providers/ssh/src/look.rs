//! A look at objects of a node: the own shell of each type, and the questions of all of them together. A second exec is needed only for questions that the first answers raise.

use crate::asked::Asked;
use crate::findings::Findings;
use crate::limits::quick_limit;
use crate::node_shell::NodeShell;
use crate::object_answer::Answer;
use crate::question::Question;
use crate::resource::Resource;
use crate::script::{Script, Section};
use crate::sources::Sources;
use crate::subject::Subject;

/// An object that is looked at.
#[derive(Clone, Copy)]
pub(crate) struct Look<'a> {
    /// Its type.
    pub(crate) resource: &'static dyn Resource,
    /// Its desired and recorded attributes, known before the node is read.
    pub(crate) subject: &'a Subject,
    /// The fields that the type's own shell reported.
    pub(crate) own: &'a Section,
}

impl<'a> Look<'a> {
    /// Returns what was found with these answers to the questions about the node.
    pub(crate) fn answer(&self, node: &'a Findings, sources: &'a Sources) -> Answer<'a> {
        Answer { own: self.own, node, sources }
    }

    /// Returns the answer of the first question about the object that could not be answered.
    pub(crate) fn failure(&self, node: &'a Findings, sources: &'a Sources) -> Option<&'a Section> {
        node.failure(&self.resource.questions(self.subject, &self.answer(node, sources)))
    }
}

/// Returns the questions that are asked about an object first.
pub(crate) fn first_questions(resource: &dyn Resource, subject: &Subject, sources: &Sources) -> Vec<Question> {
    resource.questions(subject, &Answer { own: &Section::default(), node: &Findings::default(), sources })
}

/// Asks the questions that the answers so far raise, until there are none.
pub(crate) async fn ask_further(shell: &NodeShell, looks: &[Look<'_>], sources: &Sources, findings: &mut Findings) {
    loop {
        let raised =
            looks.iter().flat_map(|look| look.resource.questions(look.subject, &look.answer(findings, sources)));
        let open: Vec<Question> = raised.filter(|question| !findings.was_asked(question)).collect();
        if open.is_empty() {
            return;
        }
        let mut script = Script::new();
        let asked = Asked::add(&mut script, open);
        let answers = shell.read(&script, quick_limit(script.sections())).await;
        findings.extend(asked.findings(answers));
    }
}
