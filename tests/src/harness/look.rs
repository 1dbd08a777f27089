//! One look of lockwatch at some files, checked against the contract.

use std::{ffi::OsString, path::Path};

use serde_json::Value;

use super::program::lockwatch;

/// `lockwatch list --json --source SOURCE PATH…`: the document, every field of it checked.
///
/// # Panics
///
/// When it fails or breaks the contract.
pub fn document(source: &str, paths: &[&Path]) -> Value {
    let mut args: Vec<OsString> = ["list", "--json", "--source", source].map(OsString::from).into();
    args.extend(paths.iter().map(OsString::from));
    document_of(args)
}

/// The document of any command line that prints one.
///
/// # Panics
///
/// When it fails or breaks the contract.
pub fn document_of(args: impl IntoIterator<Item = impl Into<OsString>>) -> Value {
    lockwatch(args.into_iter().map(Into::into)).document()
}

/// The locks of one file, in the document's order.
///
/// # Panics
///
/// When lockwatch fails or breaks the contract.
pub fn list(source: &str, path: &Path) -> Vec<Value> {
    items(&document(source, &[path])["locks"]).to_vec()
}

/// The only lock of one file.
///
/// # Panics
///
/// When there are none or many.
pub fn only(source: &str, path: &Path) -> Value {
    let mut locks = list(source, path);
    assert_eq!(locks.len(), 1, "{source}: one lock, not {locks:#?}");
    locks.remove(0)
}

/// The elements of a list; none of anything else.
pub fn items(list: &Value) -> &[Value] {
    list.as_array().map_or(&[], Vec::as_slice)
}

/// A lock's verdict and its cause: `orphaned/leaked`, `held`.
pub fn verdict(lock: &Value) -> String {
    match (lock["verdict"].as_str(), lock["cause"].as_str()) {
        (Some(verdict), Some(cause)) => format!("{verdict}/{cause}"),
        (verdict, _) => verdict.unwrap_or("none").to_owned(),
    }
}

/// The numbers of the processes in a list of holders or waiters; 0 where there is none to name.
pub fn pids(people: &Value) -> Vec<u64> {
    let mut pids: Vec<_> = items(people).iter().map(|person| person["pid"].as_u64().unwrap_or(0)).collect();
    pids.sort_unstable();
    pids.dedup();
    pids
}
