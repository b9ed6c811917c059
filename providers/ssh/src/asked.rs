//! The questions that one script asks, and their findings.

use std::collections::BTreeSet;

use moorfast_engine::provider::ProviderError;

use crate::findings::Findings;
use crate::question::{Question, Topic};
use crate::script::{Script, Section, quote_all};

/// The most bytes of names in one section. They are the arguments of one command, and the system permits at least 128 KiB.
const SECTION: usize = 96 << 10;

/// The questions of one section of a script.
struct Batch {
    topic: Topic,
    names: Vec<String>,
    bytes: usize,
}

/// The questions that a script asks, in the order of its sections.
pub(crate) struct Asked(Vec<Batch>);

impl Asked {
    /// Adds sections to `script` that answer `questions`.
    pub(crate) fn add(script: &mut Script, questions: impl IntoIterator<Item = Question>) -> Self {
        let batches = batched(questions.into_iter().collect());
        for batch in &batches {
            let names = quote_all(batch.names.iter().map(String::as_str));
            script.section(&format!("set -- {names}\n{}", batch.topic.script()));
        }
        Self(batches)
    }

    /// Returns the findings from the answers of the sections, or from the failure of their exec.
    pub(crate) fn findings(self, answers: Result<Vec<Section>, ProviderError>) -> Findings {
        let mut findings = Findings::default();
        let (mut answers, failed) = match answers {
            Ok(answers) => (answers, Section::default()),
            Err(error) => (Vec::new(), Section::interrupted_by(error)),
        };
        answers.resize(self.0.len(), failed);
        for (batch, answer) in self.0.into_iter().zip(answers) {
            findings.add(batch.topic, batch.names, answer);
        }
        findings
    }
}

fn batched(questions: BTreeSet<Question>) -> Vec<Batch> {
    let mut batches: Vec<Batch> = Vec::new();
    for Question { topic, name } in questions {
        // A pointer and a zero byte belong to each argument.
        let bytes = name.len() + size_of::<usize>() + 1;
        match batches.last_mut() {
            Some(batch)
                if batch.topic == topic && batch.names.len() < topic.limit() && batch.bytes + bytes <= SECTION =>
            {
                batch.bytes += bytes;
                batch.names.push(name);
            }
            _ => batches.push(Batch { topic, names: vec![name], bytes }),
        }
    }
    batches
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_of_a_topic_share_a_section_as_long_as_their_names_fit() {
        let long = |i: usize| format!("/{i}{}", "x".repeat(40 << 10));
        let questions = [Topic::Digest.of("/a"), Topic::Path.of("/b"), Topic::Path.of("/a"), Topic::Path.of("/a")];
        let contents = ["/a", "/b"].map(|path| Topic::Content.of(path));
        let large = (0..3).map(|i| Topic::Directory.of(long(i)));
        let batches = batched(questions.into_iter().chain(contents).chain(large).collect());
        let shown: Vec<_> = batches.iter().map(|batch| (batch.topic, batch.names.len())).collect();
        let expected = [
            (Topic::Path, 2),
            (Topic::Digest, 1),
            (Topic::Content, 1),
            (Topic::Content, 1),
            (Topic::Directory, 2),
            (Topic::Directory, 1),
        ];
        assert_eq!(shown, expected);
    }
}
