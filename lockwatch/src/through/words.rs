//! What documents are made of, read back: moments, words of a closed set, text whose bytes were lost.

use anyhow::{Context, Result, anyhow};
use lockwatch_core::{text::Text, time::Timestamp};

use crate::output::document::from_base64;

/// RFC 3339.
pub fn time(text: &str) -> Result<Timestamp> {
    let time: jiff::Timestamp = text.parse().with_context(|| format!("{text:?} is no moment"))?;
    let since_1970 = u64::try_from(time.as_nanosecond()).with_context(|| format!("{text:?} is before 1970"))?;
    Ok(Timestamp(since_1970))
}

/// The same where it may be unknown.
pub fn time_if(text: Option<&str>) -> Result<Option<Timestamp>> {
    text.map(time).transpose()
}

/// One of these, by the contract's name. Another is of a newer version: whoever does not know it must look for himself.
pub fn word<T: Copy>(all: &[T], name: impl Fn(T) -> &'static str, word: &str) -> Result<T> {
    all.iter()
        .copied()
        .find(|one| name(*one) == word)
        .ok_or_else(|| anyhow!("it speaks of {word:?}, of which I know nothing"))
}

/// Text, or its very bytes where they stand beside it.
pub fn text(lossy: &str, base64: Option<&str>) -> Result<Text> {
    match base64 {
        None => Ok(Text::from(lossy)),
        Some(base64) => Ok(Text::new(from_base64(base64).with_context(|| format!("{base64:?} is not base64"))?)),
    }
}

/// The same where it may be unknown.
pub fn text_if(lossy: Option<&str>, base64: Option<&str>) -> Result<Option<Text>> {
    lossy.map(|lossy| text(lossy, base64)).transpose()
}
