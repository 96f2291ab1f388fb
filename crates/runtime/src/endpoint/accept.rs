//! Which form of the metrics a client wants: `Accept` of RFC 9110, section 12.5.1.

use http::{HeaderMap, HeaderValue, header};

/// A form of the metrics as text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// <https://github.com/prometheus/OpenMetrics/blob/v1.0.0/specification/OpenMetrics.md>
    OpenMetrics,
    /// <https://prometheus.io/docs/instrumenting/exposition_formats/#text-based-format>
    Prometheus,
}

impl Form {
    /// In the order of our own preference.
    const ALL: [Self; 2] = [Self::OpenMetrics, Self::Prometheus];

    pub(super) const fn content_type(self) -> HeaderValue {
        HeaderValue::from_static(match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
        })
    }

    /// The form that the client likes best, ours among equals; none when it wants neither. A client that says
    /// nothing takes everything.
    pub(super) fn wanted(headers: &HeaderMap) -> Option<Self> {
        let ranges: Vec<Range> = headers
            .get_all(header::ACCEPT)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .filter_map(Range::parse)
            .collect();
        if ranges.is_empty() {
            return Some(Self::OpenMetrics);
        }
        let mut best = (0, None);
        for form in Self::ALL {
            let quality = form.quality(&ranges);
            if quality > best.0 {
                best = (quality, Some(form));
            }
        }
        best.1
    }

    /// How much it is wanted, by the range that says most about it.
    fn quality(self, ranges: &[Range<'_>]) -> u16 {
        let matching = ranges.iter().filter_map(|range| {
            let precision = range.matches(self)?;
            Some((precision, range.quality))
        });
        matching.max().map_or(0, |(_, quality)| quality)
    }

    const fn kind(self) -> (&'static str, &'static str) {
        match self {
            Self::OpenMetrics => ("application", "openmetrics-text"),
            Self::Prometheus => ("text", "plain"),
        }
    }

    const fn version(self) -> &'static str {
        match self {
            Self::OpenMetrics => "1.0.0",
            Self::Prometheus => "0.0.4",
        }
    }
}

/// One of the types that a client takes.
#[derive(Debug)]
struct Range<'a> {
    kind: (&'a str, &'a str),
    version: Option<&'a str>,
    /// In thousandths.
    quality: u16,
}

impl<'a> Range<'a> {
    /// None for what is malformed, which says nothing.
    fn parse(text: &'a str) -> Option<Self> {
        let mut parts = text.split(';').map(str::trim);
        let kind = parts.next()?.split_once('/')?;
        let (mut version, mut quality) = (None, 1000);
        for parameter in parts {
            let (name, value) = parameter.split_once('=')?;
            let value = value.trim().trim_matches('"');
            match name.trim().to_ascii_lowercase().as_str() {
                "version" => version = Some(value),
                "q" => quality = thousandths(value)?,
                // `charset` and `escaping`: all of it is UTF-8, and no name needs to be escaped.
                _ => {}
            }
        }
        Some(Self {
            kind,
            version,
            quality,
        })
    }

    /// How precisely it names the form; none when it names others.
    fn matches(&self, form: Form) -> Option<u8> {
        let same = |a: &str, b: &str| a.eq_ignore_ascii_case(b);
        let (kind, of_form) = (self.kind, form.kind());
        match self.version {
            _ if kind == ("*", "*") => Some(0),
            _ if !same(kind.0, of_form.0) => None,
            _ if kind.1 == "*" => Some(1),
            _ if !same(kind.1, of_form.1) => None,
            None => Some(2),
            Some(version) if version == form.version() => Some(3),
            Some(_) => None,
        }
    }
}

/// `0`, `0.5`, `1.000`: at most three decimals, at most 1.
fn thousandths(text: &str) -> Option<u16> {
    let (whole, decimals) = text.split_once('.').unwrap_or((text, ""));
    let digits = decimals.bytes().all(|byte| byte.is_ascii_digit());
    if !matches!(whole, "0" | "1") || decimals.len() > 3 || !digits {
        return None;
    }
    let thousandths: u16 = format!("{whole}{decimals:0<3}").parse().ok()?;
    (thousandths <= 1000).then_some(thousandths)
}

/// The same metrics in the form of Prometheus, from the text of `OpenMetrics`. There a family has the name of its samples;
/// `# EOF` and units do not exist.
pub(super) fn to_prometheus(openmetrics: &str) -> String {
    let mut text = String::with_capacity(openmetrics.len() + 1024);
    // The help of a family stands before its type, on which the name depends.
    let mut help: Option<(&str, &str)> = None;
    for line in openmetrics.lines() {
        let Some(comment) = line.strip_prefix("# ") else {
            text.push_str(line);
            text.push('\n');
            continue;
        };
        let mut words = comment.splitn(3, ' ');
        match (words.next(), words.next(), words.next()) {
            (Some("HELP"), Some(name), about) => help = Some((name, about.unwrap_or_default())),
            (Some("TYPE"), Some(name), Some(kind)) => {
                let (ending, kind) = match kind {
                    "counter" => ("_total", "counter"),
                    "info" => ("_info", "gauge"),
                    "unknown" => ("", "untyped"),
                    other => ("", other),
                };
                if let Some((_, about)) = help.take().filter(|(of, _)| *of == name) {
                    text.extend(["# HELP ", name, ending, " ", about, "\n"]);
                }
                text.extend(["# TYPE ", name, ending, " ", kind, "\n"]);
            }
            _ => {}
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(values: &[&str]) -> Option<Form> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(header::ACCEPT, value.parse().unwrap());
        }
        Form::wanted(&headers)
    }

    #[test]
    fn the_client_chooses() {
        const OPEN: Option<Form> = Some(Form::OpenMetrics);
        const TEXT: Option<Form> = Some(Form::Prometheus);
        for (accept, form) in [
            ("", OPEN),
            ("*/*", OPEN),
            ("text/plain", TEXT),
            ("TEXT/Plain; charset=utf-8", TEXT),
            ("text/*", TEXT),
            ("text/plain;version=0.0.4", TEXT),
            ("text/plain;version=1.0.0", None),
            ("application/openmetrics-text", OPEN),
            ("application/openmetrics-text; version=0.0.1", None),
            ("application/openmetrics-text;q=0.3, text/plain;q=0.5", TEXT),
            ("text/plain, application/openmetrics-text", OPEN),
            // The range that says most about a form counts.
            ("*/*, application/openmetrics-text;q=0.1", TEXT),
            ("*/*;q=0.2, application/openmetrics-text;q=0", TEXT),
            ("text/*;q=0.9, text/plain;q=0.1, application/*;q=0.2", OPEN),
            ("application/json", None),
            ("*/*;q=0", None),
            // What is malformed says nothing.
            ("text/plain;q=2", OPEN),
            ("nonsense", OPEN),
            // Prometheus 2.42 and 3.
            (
                "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
                OPEN,
            ),
            (
                "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.4,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.6,text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
                TEXT,
            ),
        ] {
            assert_eq!(wanted(&[accept]), form, "{accept}");
        }
        assert_eq!(wanted(&[]), OPEN);
        assert_eq!(wanted(&["application/json", "text/plain;q=0.1"]), TEXT);
    }

    #[test]
    fn qualities() {
        for (text, expected) in [
            ("1", Some(1000)),
            ("1.0", Some(1000)),
            ("0.5", Some(500)),
            ("0.05", Some(50)),
            ("0.", Some(0)),
            ("1.001", None),
            ("0.1234", None),
            ("2", None),
            (".5", None),
            ("0.+5", None),
            ("", None),
        ] {
            assert_eq!(thousandths(text), expected, "{text}");
        }
    }

    #[test]
    fn families_have_the_name_of_their_samples() {
        let openmetrics = "\
# HELP a A counter.
# TYPE a counter
# UNIT a bytes
a_total{x=\"# y\"} 1
# HELP b A gauge.
# TYPE b gauge
b 2
# TYPE c info
c_info{version=\"1\"} 1
# TYPE d unknown
d 3
# EOF
";
        assert_eq!(
            to_prometheus(openmetrics),
            "\
# HELP a_total A counter.
# TYPE a_total counter
a_total{x=\"# y\"} 1
# HELP b A gauge.
# TYPE b gauge
b 2
# TYPE c_info gauge
c_info{version=\"1\"} 1
# TYPE d untyped
d 3
"
        );
    }
}
