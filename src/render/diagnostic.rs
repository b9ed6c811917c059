//! Errors with an excerpt of the manifest, in the style of rustc and cargo.

use std::ops::Range;

use annotate_snippets::{Annotation, AnnotationKind, Element, Group, Level, Snippet, Title};
use moorfast_engine::manifest::Manifest;
use moorfast_engine::model::{Address, Diagnostic, ErrorCode, Severity, SourceFile, Sources, Span};
use moorfast_engine::provider::ProviderError;

use super::invisible::Source;
use super::text::Text;
use super::value::printable;
use super::wording::counted;

/// Maximum number of addresses in the message of an error of several instances.
const NAMED: usize = 3;

/// Renders diagnostics with their places in the manifest.
pub fn diagnostics(sources: &Sources, diagnostics: &[Diagnostic]) -> Text {
    Text::separated(diagnostics.iter().map(|d| diagnostic(sources, d)))
}

/// Renders the diagnostics of an expression that is not in a file.
pub fn of_expression(sources: &Sources, expression: &str, found: &[Diagnostic]) -> Text {
    let mut sources = sources.clone();
    sources.files.push(SourceFile { path: "the expression".into(), text: expression.to_owned() });
    let file = sources.files.len() - 1;
    let here = |span: Span| if span.file == usize::MAX { Span { file, ..span } } else { span };
    let placed =
        found.iter().map(|d| Diagnostic { at: d.at.clone().map(|(span, label)| (here(span), label)), ..d.clone() });
    diagnostics(&sources, &placed.collect::<Vec<_>>())
}

/// Returns the number of errors and warnings, for example `3 errors, 1 warning`. Returns `None` if there are none.
pub fn count(diagnostics: &[Diagnostic]) -> Option<String> {
    let of = |severity| diagnostics.iter().filter(|d| d.severity == severity).count();

    match (of(Severity::Error), of(Severity::Warning)) {
        (0, 0) => None,
        (0, warnings) => Some(counted(warnings, "warning")),
        (errors, 0) => Some(counted(errors, "error")),
        (errors, warnings) => Some(format!("{}, {}", counted(errors, "error"), counted(warnings, "warning"))),
    }
}

fn diagnostic(sources: &Sources, diagnostic: &Diagnostic) -> Text {
    let level = match diagnostic.severity {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
    };
    let mut group = title(level, diagnostic.code, &diagnostic.summary).elements(snippets(sources, diagnostic));
    for note in diagnostic.at.iter().flat_map(|(span, _)| calls(sources, *span)) {
        group = group.element(Level::NOTE.message(printable(&note)));
    }
    if let Some(help) = &diagnostic.help {
        group = group.element(Level::HELP.message(printable(help)));
    }
    group.into()
}

/// Returns the calls of the module in whose file this place is, the innermost first: `in module.web, called at main.toml:12`.
pub fn calls(sources: &Sources, span: Span) -> Vec<String> {
    let note = |(name, span): &(String, Span)| {
        let (file, line, _) = sources.locate(*span)?;
        let path = file.path.strip_prefix(".").unwrap_or(&file.path);
        Some(format!("in {name}, called at {}:{line}", path.display()))
    };
    sources.calls_of(span.file).filter_map(note).collect()
}

/// Returns an excerpt of each file in the diagnostic, with the file of the primary place first.
fn snippets(sources: &Sources, diagnostic: &Diagnostic) -> Vec<Snippet<'static, Annotation<'static>>> {
    let primary = diagnostic.at.iter().map(|(span, label)| (AnnotationKind::Primary, span, label));
    let related = diagnostic.related.iter().map(|(span, label)| (AnnotationKind::Context, span, label));
    let mut by_file: Vec<(usize, Source, Vec<Annotation>)> = Vec::new();
    for (kind, span, label) in primary.chain(related) {
        let Some(file) = sources.files.get(span.file) else { continue };
        match by_file.iter_mut().find(|(known, ..)| *known == span.file) {
            Some((_, source, annotations)) => annotations.push(annotation(source, file, kind, *span, label)),
            None => {
                let source = Source::new(&file.text);
                let annotations = vec![annotation(&source, file, kind, *span, label)];
                by_file.push((span.file, source, annotations));
            }
        }
    }
    let snippet = |(file, source, annotations): (usize, Source, Vec<_>)| {
        snippet(&sources.files[file], source).annotations(annotations)
    };
    by_file.into_iter().map(snippet).collect()
}

fn annotation(
    source: &Source,
    file: &SourceFile,
    kind: AnnotationKind,
    span: Span,
    label: &str,
) -> Annotation<'static> {
    let range = range(&file.text, span);
    let label = (!label.is_empty()).then(|| printable(label));
    kind.span(source.place(range.start)..source.place(range.end)).label(label)
}

fn snippet(file: &SourceFile, source: Source) -> Snippet<'static, Annotation<'static>> {
    let path = file.path.strip_prefix(".").unwrap_or(&file.path);
    Snippet::source(source.text).path(printable(&path.display().to_string()))
}

/// Returns the span as a range, clamped to the text and to character boundaries.
fn range(text: &str, span: Span) -> Range<usize> {
    let fit = |mut at: usize| {
        at = at.min(text.len());
        while !text.is_char_boundary(at) {
            at -= 1;
        }
        at
    };
    let start = fit(span.start);
    start..fit(span.end).max(start)
}

/// Renders errors of providers. The same error of several instances is shown once.
pub fn provider_errors(manifest: Option<&Manifest>, errors: &[(Address, ProviderError)]) -> Text {
    let mut groups: Vec<(&ProviderError, Vec<&Address>)> = Vec::new();
    for (address, error) in errors {
        match groups.iter_mut().find(|(known, _)| *known == error) {
            Some((_, addresses)) => addresses.push(address),
            None => groups.push((error, vec![address])),
        }
    }
    Text::separated(groups.iter().map(|(error, addresses)| provider_error(manifest, error, addresses)))
}

/// Renders an error of a provider, with its place in the manifest if known.
pub fn provider_error(manifest: Option<&Manifest>, error: &ProviderError, addresses: &[&Address]) -> Text {
    let mut group = Group::with_title(title(Level::ERROR, error.code, &error.summary));
    let place = manifest.zip(addresses.first()).and_then(|(m, address)| place(m, address, error));
    let named = printable(&named(addresses));
    if let Some((file, span)) = place {
        let source = Source::new(&file.text);
        let annotation = annotation(&source, file, AnnotationKind::Primary, span, &named);
        group = group.element(snippet(file, source).annotation(annotation));
        for note in manifest.map(|manifest| calls(&manifest.sources, span)).unwrap_or_default() {
            group = group.element(Level::NOTE.message(printable(&note)));
        }
    } else if !named.is_empty() {
        group = group.element(Level::NOTE.with_name("in").message(named));
    }
    if !error.detail.is_empty() {
        let detail: Vec<_> = error.detail.iter().map(|line| printable(line)).collect();
        group = group.element(Level::NOTE.message(detail.join("\n")));
    }
    if let Some(help) = &error.help {
        group = group.element(Level::HELP.message(printable(help)));
    }
    group.into()
}

/// Returns the first line of an error or a warning: `error[M0104]: …`.
fn title(level: Level<'static>, code: Option<ErrorCode>, summary: &str) -> Title<'static> {
    let title = level.primary_title(printable(summary));
    match code {
        Some(code) => title.id(code.as_str()),
        None => title,
    }
}

/// Renders an error without a place in the manifest and without a code.
pub fn message(summary: &str, detail: &[String], help: Option<&str>) -> Text {
    coded_message(None, summary, detail, help)
}

/// Renders an error without a place in the manifest.
pub fn coded_message(code: Option<ErrorCode>, summary: &str, detail: &[String], help: Option<&str>) -> Text {
    let mut group = Group::with_title(title(Level::ERROR, code, summary));
    let mut elements: Vec<Element> = Vec::new();
    if !detail.is_empty() {
        let lines: Vec<_> = detail.iter().map(|line| printable(line)).collect();
        elements.push(Level::NOTE.message(lines.join("\n")).into());
    }
    elements.extend(help.map(|help| Level::HELP.message(printable(help)).into()));
    group = group.elements(elements);
    group.into()
}

/// Returns the place of the attribute that the error is about, or of the header of the resource.
fn place<'a>(manifest: &'a Manifest, address: &Address, error: &ProviderError) -> Option<(&'a SourceFile, Span)> {
    let resource = manifest.resource(&address.resource)?;
    let attribute = error.attribute.as_deref().and_then(|name| {
        let name = name.split(['.', '[']).next()?;
        resource.attributes.iter().find(|(known, ..)| known == name).map(|(_, span, _)| *span)
    });
    let span = attribute.unwrap_or(resource.span);
    Some((manifest.sources.files.get(span.file)?, span))
}

fn named(addresses: &[&Address]) -> String {
    let shown: Vec<_> = addresses.iter().take(NAMED).map(|a| a.to_string()).collect();
    match addresses.len().saturating_sub(NAMED) {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use moorfast_engine::provider::Class;

    use super::super::terminal::plain;
    use super::*;

    fn sources() -> Sources {
        let text = "[resource.ssh_file.motd]\non = \"all\"\npath = \"/etc/motd\"\ncontnet = \"hello\"\n".to_owned();
        let twin = "# more\n[resource.ssh_file.motd]\npath = \"/etc/issue\"\n".to_owned();
        let file = |path: &str, text| SourceFile { path: path.into(), text };
        Sources { files: vec![file("main.toml", text), file("more.toml", twin)], ..Sources::default() }
    }

    fn span(file: usize, start: usize, end: usize) -> Span {
        Span { file, start, end }
    }

    #[test]
    fn diagnostics_show_their_places() {
        let found = [
            Diagnostic::error("unknown attribute \"contnet\" of ssh_file")
                .at(span(0, 55, 62), "not an attribute")
                .help("did you mean \"content\"?"),
            Diagnostic::error("duplicate resource ssh_file.motd")
                .at(span(1, 7, 31), "defined again here")
                .related(span(0, 0, 24), "first defined here"),
            Diagnostic::warning("the variable \"region\" is never used"),
        ];
        insta::assert_snapshot!(plain(diagnostics(&sources(), &found)));
        assert_eq!(count(&found).unwrap(), "2 errors, 1 warning");
    }

    #[test]
    fn a_span_outside_the_text_does_not_panic() {
        let wild = Diagnostic::error("odd").at(span(0, 70, 4000), "").related(span(7, 0, 1), "no such file");
        assert!(plain(diagnostics(&sources(), &[wild])).contains("odd"));
    }

    #[test]
    fn the_same_error_of_many_instances_is_shown_once() {
        let error = ProviderError::new(Class::Unreachable, "cannot reach gpu02: connection refused")
            .detail(["ssh: connect to host 10.0.0.12 port 22: Connection refused"])
            .help("check that sshd is running; `ssh -v 10.0.0.12` shows details");
        let errors: Vec<_> = ["a", "b", "c", "d", "e"]
            .map(|name| (format!("ssh_file.{name}[\"gpu02\"]").parse().unwrap(), error.clone()))
            .into();
        insta::assert_snapshot!(plain(provider_errors(None, &errors)));
    }
}
