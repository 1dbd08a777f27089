//! Text of HTML that cannot be anything but text, and a fingerprint of it that does not change while time goes by.

use std::{
    fmt::Display,
    hash::{DefaultHasher, Hasher},
};

use lockwatch_core::{text::is_harmless, time::Timestamp};

use crate::output::{document::rfc3339, words};

/// A piece of a page that is being written.
#[derive(Debug, Default)]
pub struct Html {
    text: String,
    print: DefaultHasher,
}

impl Html {
    /// Markup of our own.
    pub fn raw(&mut self, markup: &'static str) -> &mut Self {
        self.push(markup)
    }

    /// Words, names from the system among them, escaped; also good between quotes.
    pub fn text(&mut self, words: impl Display) -> &mut Self {
        let escaped = escaped(&words.to_string());
        self.push(&escaped)
    }

    /// A picture that has escaped its names itself.
    pub fn picture(&mut self, svg: &str) -> &mut Self {
        self.push(svg)
    }

    /// A moment, and how long ago that is.
    pub fn when(&mut self, at: Timestamp, now: Timestamp) -> &mut Self {
        self.raw("<time datetime=\"").text(rfc3339(at, 3)).raw("\">").text(at).raw("</time> (");
        self.age(at, now).raw(" ago)")
    }

    /// How long it is since then; the reader's clock goes on from there, so it is no news when this changes.
    pub fn age(&mut self, since: Timestamp, now: Timestamp) -> &mut Self {
        self.raw("<span class=\"age\" data-ms=\"").text(since.0 / 1_000_000).raw("\">");
        self.text += &words::duration(now.since(since));
        self.raw("</span>")
    }

    /// All of it, and its fingerprint.
    pub fn finish(self) -> (String, u64) {
        (self.text, self.print.finish())
    }

    fn push(&mut self, markup: &str) -> &mut Self {
        self.text += markup;
        self.print.write(markup.as_bytes());
        self
    }
}

/// Text of HTML. Names come escaped for a terminal; should one have slipped through, it is escaped here.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c if is_harmless(c) => out.push(c),
            c => out.extend(c.escape_default()),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{NOW, ago};

    #[test]
    fn words_stay_words() {
        let check = |words: &str, expect: &str| assert_eq!(escaped(words), expect);
        check("/run/größe", "/run/größe");
        check("<script>alert('&\"')</script>", "&lt;script&gt;alert(&#39;&amp;&quot;&#39;)&lt;/script&gt;");
        check("a\r\n\u{202e}", "a\\r\\n\\u{202e}");
    }

    #[test]
    fn time_that_goes_by_is_no_news() {
        let print = |since, now| {
            let mut html = Html::default();
            html.when(since, now);
            html.finish()
        };
        let (text, first) = print(ago(42), NOW);
        assert!(text.contains(">42 s</span> ago)"), "{text}");
        let (later, second) = print(ago(42), Timestamp(NOW.0 + 1_000_000_000));
        assert!(later.contains(">43 s<") && first == second, "{later}");
        assert_ne!(print(ago(41), NOW).1, first);
    }
}
