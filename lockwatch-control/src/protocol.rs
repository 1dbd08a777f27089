//! What goes over the control socket: a line of JSON each way at a time.
//!
//! ```text
//! the one who asks                               lockwatch control
//! {"clear":{"id":"f3k9","interactive":true}}  ->
//!                                             <- {"plan":{"schema":"lockwatch.clear/1",…}}
//! {"confirm":"07xk-23mt"}                     ->
//!                                             <- {"done":{"schema":"lockwatch.clear/1",…}}
//! ```
//!
//! One request a connection. Nothing in it says who asks: the kernel does ([`crate::peer`]). What it wants is a wish, which
//! the configuration judges.

use std::{path::PathBuf, time::Duration};

use lockwatch_config::Control;
use lockwatch_core::clear::{Hold, Method, Wish};
use serde::{Deserialize, Serialize};

use crate::document::Document;

/// No line of the one who asks is longer, its end included.
pub const LONGEST_LINE: usize = 4096;

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Request {
    /// Plan, and if it is confirmed clear, a lock.
    Clear(Clear),
    /// Confirm what somebody else has planned and confirmed.
    Approve(Approve),
}

/// A lock to be cleared, and how.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Clear {
    /// The lock's ID, or the beginning of it.
    pub id: String,
    /// In this way only.
    #[serde(default)]
    pub method: Option<String>,
    /// Why, for the record.
    #[serde(default)]
    pub reason: Option<String>,
    /// Who is to be held still: a number, a control group's path, or a unit's name.
    #[serde(default)]
    pub hold: Vec<String>,
    /// For how long at most; the configuration says it if this does not.
    #[serde(default)]
    pub hold_max_ms: Option<u64>,
    /// How far apart the first two looks are, likewise.
    #[serde(default)]
    pub settle_ms: Option<u64>,
    /// How long a holder has after SIGTERM, likewise.
    #[serde(default)]
    pub grace_ms: Option<u64>,
    /// Plan only.
    #[serde(default)]
    pub dry_run: bool,
    /// The plan's code, from somebody who has seen it already.
    #[serde(default)]
    pub confirm: Option<String>,
    /// Whether somebody is there to be asked for the code.
    #[serde(default)]
    pub interactive: bool,
    /// Clear it although it is on the protect list.
    #[serde(default)]
    pub override_protection: bool,
    /// Record it there. Only root's own `clear` decides that; of others it is refused.
    #[serde(default)]
    pub audit_log: Option<PathBuf>,
}

/// The second person's word.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Approve {
    /// The lock's ID, or the beginning of it.
    pub id: String,
    /// The plan's code.
    pub code: String,
}

/// What the one who was asked for a code says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Confirmation {
    /// The code; `null` for no.
    pub confirm: Option<String>,
}

/// What control says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// This is the plan: is it confirmed?
    Plan(Document),
    /// This is the end.
    Done(Document),
    /// It failed, and why. Nothing more follows.
    Error(String),
}

/// What is wanted, judged and complete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// For the plan.
    pub wish: Wish,
    /// How far apart the first two looks are.
    pub settle: Duration,
}

impl Request {
    /// Reads a line, its end already taken away.
    ///
    /// # Errors
    ///
    /// It is no request: in words that name no part of it, since anybody may have chosen its bytes.
    pub fn read(line: &[u8]) -> Result<Self, String> {
        let request: Self = serde_json::from_slice(line).map_err(|error| plain(&error))?;
        match &request {
            Request::Clear(clear) => clear.check()?,
            Request::Approve(approve) => {
                check_id(&approve.id)?;
                check_length("the code", &approve.code, 64)?;
            }
        }
        Ok(request)
    }
}

impl Confirmation {
    /// Reads a line, its end already taken away.
    ///
    /// # Errors
    ///
    /// It is none.
    pub fn read(line: &[u8]) -> Result<Self, String> {
        let confirmation: Self = serde_json::from_slice(line).map_err(|error| plain(&error))?;
        check_length("the code", confirmation.confirm.as_deref().unwrap_or_default(), 64)?;
        Ok(confirmation)
    }
}

impl Clear {
    fn check(&self) -> Result<(), String> {
        check_id(&self.id)?;
        check_length("the reason", self.reason.as_deref().unwrap_or_default(), 1024)?;
        check_length("the code", self.confirm.as_deref().unwrap_or_default(), 64)?;
        if self.method.is_some() && self.method().is_none() {
            return Err("no such method".into());
        }
        let holds = self.hold.len() <= 16 && self.hold.iter().all(|hold| Hold::parse(hold.as_bytes()).is_some());
        if holds { Ok(()) } else { Err("nobody can be held still like this".into()) }
    }

    fn method(&self) -> Option<Method> {
        Method::ALL.into_iter().find(|method| Some(method.name()) == self.method.as_deref())
    }

    /// What is wanted, with the configuration's times where none are given. `root` says whether the one who asks is.
    ///
    /// # Errors
    ///
    /// Somebody who is not root wants a guard to be weaker than the configuration has it: in words.
    pub fn wanted(&self, config: &Control, root: bool) -> Result<Wanted, String> {
        let time = |wanted: Option<u64>, usual| wanted.map_or(usual, Duration::from_millis);
        let hold_max = time(self.hold_max_ms, config.hold_max).min(LONGEST);
        let settle = time(self.settle_ms, config.settle).min(LONGEST);
        let grace = time(self.grace_ms, config.grace).min(LONGEST);
        let no = |what: &str, limit: Duration| Err(format!("the configuration lets only root {what} {limit:?}"));
        match () {
            () if root => {}
            () if settle < config.settle => return no("settle for less than", config.settle),
            () if hold_max > config.hold_max => return no("hold others still for more than", config.hold_max),
            () if grace < config.grace => return no("give less grace than", config.grace),
            () => {}
        }
        let wish = Wish {
            method: self.method(),
            hold: self.hold.iter().filter_map(|hold| Hold::parse(hold.as_bytes())).collect(),
            hold_max,
            grace,
            override_protection: self.override_protection,
        };
        Ok(Wanted { wish, settle })
    }
}

/// Longer than anybody waits; a control process lives as long as one request.
const LONGEST: Duration = Duration::from_secs(3600);

/// An ID goes to the eyes as it is.
fn check_id(id: &str) -> Result<(), String> {
    let fits = (1..=64).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    if fits { Ok(()) } else { Err("the ID is none".into()) }
}

fn check_length(what: &str, text: &str, most: usize) -> Result<(), String> {
    if text.len() <= most { Ok(()) } else { Err(format!("{what} is longer than {most} bytes")) }
}

/// serde's message may repeat what was sent; where and of which kind the mistake is will do.
fn plain(error: &serde_json::Error) -> String {
    let what = match error.classify() {
        serde_json::error::Category::Eof => "incomplete JSON",
        serde_json::error::Category::Syntax => "no JSON",
        _ => "not what is asked for",
    };
    format!("{what}, at column {}", error.column())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn requests_are_read_and_nothing_else() {
        let check = |line: &str, expect: Result<Request, &str>| {
            assert_eq!(Request::read(line.as_bytes()), expect.map_err(str::to_owned), "{line}");
        };
        let id = || "f3k9".to_owned();
        check(r#"{"clear":{"id":"f3k9"}}"#, Ok(Request::Clear(Clear { id: id(), ..Clear::default() })));
        let full = Clear {
            id: id(),
            method: Some("kill".into()),
            reason: Some("because".into()),
            hold: vec!["cron.service".into(), "/a".into(), "7".into()],
            hold_max_ms: Some(1),
            settle_ms: Some(2),
            grace_ms: Some(3),
            dry_run: true,
            confirm: Some("c".into()),
            interactive: true,
            override_protection: true,
            audit_log: Some("/x".into()),
        };
        let line = serde_json::to_string(&Request::Clear(full.clone())).unwrap();
        check(&line, Ok(Request::Clear(full)));
        let approve = Approve { id: id(), code: "c".into() };
        check(r#"{"approve":{"id":"f3k9","code":"c"}}"#, Ok(Request::Approve(approve)));
        check("", Err("incomplete JSON, at column 0"));
        check(r#"{"clear":{"id":"f3k9""#, Err("incomplete JSON, at column 21"));
        check("GET / HTTP/1.1", Err("no JSON, at column 1"));
        check(r#"{"clear":{"id":"f3k9"}} {}"#, Err("no JSON, at column 25"));
        check(r#"{"clear":{}}"#, Err("not what is asked for, at column 11"));
        // Nobody says who it is.
        check(r#"{"clear":{"id":"f3k9","uid":0}}"#, Err("not what is asked for, at column 27"));
        check(r#"{"clear":{"id":"f3k9","pid":1}}"#, Err("not what is asked for, at column 27"));
        check(r#"{"clear":{"id":"f3k9","id":"a"}}"#, Err("not what is asked for, at column 26"));
        check(r#"{"clear":{"id":"f3k9"},"approve":{"id":"a","code":"c"}}"#, Err("no JSON, at column 22"));
        check(r#"{"release":{"id":"f3k9"}}"#, Err("not what is asked for, at column 10"));
        check(r#"{"clear":{"id":""}}"#, Err("the ID is none"));
        check(r#"{"clear":{"id":"a\nb"}}"#, Err("the ID is none"));
        check(r#"{"clear":{"id":"f3k9","method":"releese"}}"#, Err("no such method"));
        check(r#"{"clear":{"id":"f3k9","hold":["0"]}}"#, Err("nobody can be held still like this"));
        check(r#"{"clear":{"id":"f3k9","settle_ms":-1}}"#, Err("not what is asked for, at column 36"));
        check(
            &format!(r#"{{"approve":{{"id":"a","code":"{}"}}}}"#, "c".repeat(65)),
            Err("the code is longer than 64 bytes"),
        );
    }

    #[test]
    fn only_root_weakens_a_guard() {
        let config = Control::default();
        let check = |clear: Clear, root, expect: Result<(u64, u64, u64), &str>| {
            let wanted = clear.wanted(&config, root).map(|wanted| {
                let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap();
                (ms(wanted.settle), ms(wanted.wish.hold_max), ms(wanted.wish.grace))
            });
            assert_eq!(wanted, expect.map_err(str::to_owned), "{clear:?} {root}");
        };
        let usual = Clear::default;
        let hurried = || Clear { settle_ms: Some(0), ..usual() };
        let long = || Clear { hold_max_ms: Some(91_000), ..usual() };
        let harsh = || Clear { grace_ms: Some(1), ..usual() };
        check(usual(), false, Ok((1000, 90_000, 5000)));
        check(hurried(), true, Ok((0, 90_000, 5000)));
        check(hurried(), false, Err("the configuration lets only root settle for less than 1s"));
        check(long(), true, Ok((1000, 91_000, 5000)));
        check(long(), false, Err("the configuration lets only root hold others still for more than 90s"));
        check(harsh(), true, Ok((1000, 90_000, 1)));
        check(harsh(), false, Err("the configuration lets only root give less grace than 5s"));
        let patient = Clear { settle_ms: Some(2000), hold_max_ms: Some(1), grace_ms: Some(u64::MAX), ..usual() };
        check(patient, false, Ok((2000, 1, 3_600_000)));
    }

    proptest! {
        #[test]
        fn no_bytes_confuse_the_parser(line in proptest::collection::vec(any::<u8>(), 0..512)) {
            let _ = (Request::read(&line), Confirmation::read(&line));
        }

        /// A request with anything done to it is refused, or is one that is written as it was read.
        #[test]
        fn a_mangled_request_is_none_or_a_whole_one(
            at in 0..200_usize,
            cut in 0..8_usize,
            put in proptest::collection::vec(proptest::sample::select(b"{}[]\",:0-9eEnulltrue\\u \x00\xffclearid".to_vec()), 0..8),
        ) {
            let whole = br#"{"clear":{"id":"f3k9-27qd","method":"release","hold":["cron.service"],"settle_ms":5,"interactive":true}}"#;
            let mut line = whole.to_vec();
            let at = at.min(line.len());
            line.splice(at..(at + cut).min(whole.len()), put);
            if let Ok(request) = Request::read(&line) {
                let written = serde_json::to_vec(&request).unwrap();
                prop_assert_eq!(Request::read(&written), Ok(request));
            }
        }
    }
}
