//! Two text forms of one page, and which of them a client wants.

/// A text form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Prometheus text 0.0.4, which everything reads.
    Prometheus,
    /// OpenMetrics 1.0.0.
    OpenMetrics,
}

impl Form {
    /// The one that an `Accept` header prefers (RFC 9110 section 12.5.1). OpenMetrics only if it is named.
    pub fn preferred(accept: Option<&str>) -> Self {
        let (mut open, mut text) = (0.0, 0.0_f32);
        for wanted in accept.unwrap_or_default().split(',') {
            let mut parts = wanted.split(';').map(str::trim);
            let media = parts.next().unwrap_or_default().to_ascii_lowercase();
            let parameters: Vec<_> =
                parts.filter_map(|p| p.split_once('=')).map(|(k, v)| (k, v.trim_matches('"'))).collect();
            let value = |name: &str| parameters.iter().find(|(k, _)| k.eq_ignore_ascii_case(name)).map(|(_, v)| *v);
            let weight: f32 = value("q").map_or(1.0, |q| q.parse().unwrap_or(0.0));
            match media.as_str() {
                "application/openmetrics-text" if matches!(value("version"), None | Some("1.0.0")) => open = weight,
                "text/plain" if matches!(value("version"), None | Some("0.0.4")) => text = weight.max(text),
                "text/*" | "*/*" => text = weight.max(text),
                _ => {}
            }
        }
        if open > 0.0 && open >= text { Form::OpenMetrics } else { Form::Prometheus }
    }

    /// The `Content-Type`.
    pub fn content_type(self) -> &'static str {
        match self {
            Form::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
            Form::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }

    /// A page of OpenMetrics in this form.
    ///
    /// In Prometheus' older one a counter's comments carry its whole name, and there is neither unit nor end. The values
    /// read the same.
    pub fn of_openmetrics(self, page: String) -> String {
        if self == Form::OpenMetrics {
            return page;
        }
        let mut text = String::with_capacity(page.len() + page.len() / 8);
        let mut lines = page.lines().peekable();
        while let Some(line) = lines.next() {
            match line.split_once(' ').and_then(|(hash, comment)| (hash == "#").then(|| comment.split_once(' '))) {
                // What it is of is said in the next line.
                Some(Some(("HELP", help))) => {
                    let is_counter =
                        lines.peek().is_some_and(|next| next.starts_with("# TYPE ") && next.ends_with(" counter"));
                    push_comment(&mut text, "HELP", help, is_counter);
                }
                Some(Some(("TYPE", of))) => push_comment(&mut text, "TYPE", of, of.ends_with(" counter")),
                Some(_) => {} // UNIT, EOF
                None => {
                    text.push_str(line);
                    text.push('\n');
                }
            }
        }
        text
    }
}

fn push_comment(text: &mut String, word: &str, of: &str, is_counter: bool) {
    let (name, rest) = of.split_once(' ').unwrap_or((of, ""));
    let total = if is_counter { "_total" } else { "" };
    *text += &format!("# {word} {name}{total} {rest}\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_gets_what_it_prefers() {
        let check = |accept: &str, expect| assert_eq!(Form::preferred(Some(accept)), expect, "{accept}");
        assert_eq!(Form::preferred(None), Form::Prometheus);
        check("", Form::Prometheus);
        check("*/*", Form::Prometheus);
        check("text/html,application/xhtml+xml,*/*;q=0.8", Form::Prometheus);
        check("text/plain;version=0.0.4", Form::Prometheus);
        check("application/openmetrics-text", Form::OpenMetrics);
        check("Application/OpenMetrics-Text; version=\"1.0.0\"; charset=utf-8", Form::OpenMetrics);
        check("application/openmetrics-text;version=2.0.0,*/*;q=0.1", Form::Prometheus);
        check("application/openmetrics-text;version=1.0.0;q=0.5,text/plain;q=0.9", Form::Prometheus);
        check("application/openmetrics-text;q=0", Form::Prometheus);
        check("application/openmetrics-text;q=x", Form::Prometheus);
        // Prometheus 2.42.
        check(
            "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,\
             text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
            Form::OpenMetrics,
        );
        // Prometheus 3.
        check(
            "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,\
             text/plain;version=0.0.4;q=0.2,*/*;q=0.1",
            Form::OpenMetrics,
        );
    }

    #[test]
    fn the_older_form_has_the_whole_names() {
        let page = "# HELP a_b Things. # TYPE of\n# TYPE a_b counter\na_b_total{x=\"# EOF\"} 1\n# HELP c Now.\n# TYPE c gauge\n\
                    c 2.0\n# HELP d_seconds Time.\n# TYPE d_seconds histogram\n# UNIT d_seconds seconds\nd_seconds_sum 0.5\n# EOF\n";
        assert_eq!(
            Form::Prometheus.of_openmetrics(page.to_owned()),
            "# HELP a_b_total Things. # TYPE of\n# TYPE a_b_total counter\na_b_total{x=\"# EOF\"} 1\n# HELP c Now.\n\
             # TYPE c gauge\nc 2.0\n# HELP d_seconds Time.\n# TYPE d_seconds histogram\nd_seconds_sum 0.5\n"
        );
        assert_eq!(Form::OpenMetrics.of_openmetrics(page.to_owned()), page);
    }
}
