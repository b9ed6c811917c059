//! Functions on times and durations. There is no `timestamp()`, because a plan that depends on the clock is never empty.

use std::cmp::Ordering;

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp, Zoned};

use super::{Arguments, Body, CallError, Family, Function, quoting_error};
use crate::model::{DURATION_EXAMPLES, Value, parse_duration};

pub(super) fn functions() -> Vec<Function> {
    let function =
        |name, parameters, doc, body| Function { name, family: Family::Time, parameters, doc, body: Body::Plain(body) };
    vec![
        function(
            "formatdate",
            &["format", "time"],
            "The RFC 3339 time in a format with the verbs `YYYY`, `MM`, `DD`, `hh`, `mm`, `ss`, `EEE`, `MMM`, `ZZZ` and others.",
            |a| Ok(Value::from(format_date(&a.text(0)?, &time(a, 1)?)?)),
        ),
        function(
            "timeadd",
            &["time", "duration"],
            "The sum of the RFC 3339 time and a duration such as `1h30m` or `-24h`.",
            |a| {
                let (time, text) = (time(a, 0)?, a.text(1)?);
                let duration =
                    duration(&text).ok_or_else(|| quoting_error(format!("`{text}` is not {DURATION_EXAMPLES}")))?;
                let sum = time.checked_add(duration).map_err(|_| quoting_error("the time is out of range"))?;
                Ok(Value::from(rfc3339(&sum)))
            },
        ),
        function(
            "timein",
            &["zone", "time"],
            "The RFC 3339 time converted to the time zone: `timein(\"Europe/Berlin\", plan.timestamp)`.",
            |a| {
                let (name, time) = (a.text(0)?, time(a, 1)?);
                let zone = TimeZone::get(&name).map_err(|_| {
                    quoting_error(format!("unknown time zone `{name}`; a time zone is named as in Europe/Berlin"))
                })?;
                Ok(Value::from(rfc3339(&time.with_time_zone(zone))))
            },
        ),
        function(
            "timecmp",
            &["a", "b"],
            "The comparison of two times: -1 if `a` is before `b`, 0 if they are equal, 1 if `a` is after `b`.",
            |a| {
                Ok(Value::from(match time(a, 0)?.timestamp().cmp(&time(a, 1)?.timestamp()) {
                    Ordering::Less => -1_i64,
                    Ordering::Equal => 0,
                    Ordering::Greater => 1,
                }))
            },
        ),
    ]
}

/// Returns the time of an argument with its own UTC offset.
fn time(a: &Arguments, at: usize) -> Result<Zoned, CallError> {
    let text = a.text(at)?;
    let invalid = || quoting_error(format!("`{text}` is not an RFC 3339 time such as 2026-01-31T12:00:00Z"));
    let timestamp: Timestamp = text.parse().map_err(|_| invalid())?;
    let pieces = jiff::fmt::temporal::Pieces::parse(&text).map_err(|_| invalid())?;
    let offset = pieces.to_numeric_offset().unwrap_or(jiff::tz::Offset::UTC);
    Ok(timestamp.to_zoned(TimeZone::fixed(offset)))
}

fn rfc3339(time: &Zoned) -> String {
    let seconds = time.strftime("%Y-%m-%dT%H:%M:%S").to_string();
    if time.offset().is_zero() { format!("{seconds}Z") } else { format!("{seconds}{}", time.strftime("%:z")) }
}

/// Parses a duration with an optional sign: `-1h30m`, `1.5h`.
fn duration(text: &str) -> Option<SignedDuration> {
    let (negative, amount) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let duration = SignedDuration::try_from(parse_duration(amount)?).ok()?;
    Some(if negative { -duration } else { duration })
}

fn format_date(format: &str, time: &Zoned) -> Result<String, CallError> {
    let (mut out, mut rest) = (String::new(), format);
    while let Some(c) = rest.chars().next() {
        if c == '\'' {
            let inner = &rest[1..];
            let end = inner.find('\'').ok_or_else(|| quoting_error("a `'` in the format is not closed"))?;
            out.push_str(if end == 0 { "'" } else { &inner[..end] });
            rest = &inner[end + 1..];
            continue;
        }
        let length = rest.len() - rest.trim_start_matches(c).len();
        let run = &rest[..length];
        rest = &rest[length..];
        match (directive(run), run) {
            (Some(directive), _) => out.push_str(&time.strftime(directive).to_string()),
            (None, "Z" | "ZZZ") => out.push_str(&zone(run, time)),
            (None, _) if c.is_ascii_alphabetic() => {
                return Err(quoting_error(format!("`formatdate` has no verb `{run}`; quote literal text: '{run}'")));
            }
            (None, _) => out.push_str(run),
        }
    }
    Ok(out)
}

fn zone(run: &str, time: &Zoned) -> String {
    match (time.offset().is_zero(), run) {
        (true, "Z") => "Z".to_owned(),
        (true, _) => "UTC".to_owned(),
        (false, "Z") => time.strftime("%:z").to_string(),
        (false, _) => time.strftime("%z").to_string(),
    }
}

/// Returns the strftime directive for a verb.
fn directive(run: &str) -> Option<&'static str> {
    Some(match run {
        "YYYY" => "%Y",
        "YY" => "%y",
        "MMMM" => "%B",
        "MMM" => "%b",
        "MM" => "%m",
        "M" => "%-m",
        "DD" => "%d",
        "D" => "%-d",
        "EEEE" => "%A",
        "EEE" => "%a",
        "hh" => "%H",
        "h" => "%-H",
        "HH" => "%I",
        "H" => "%-I",
        "AA" => "%p",
        "aa" => "%P",
        "mm" => "%M",
        "m" => "%-M",
        "ss" => "%S",
        "s" => "%-S",
        "ZZZZ" => "%z",
        "ZZZZZ" => "%:z",
        _ => return None,
    })
}
