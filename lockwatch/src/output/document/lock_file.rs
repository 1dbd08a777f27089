//! A lock file in documents.

use std::borrow::Cow;

use lockwatch_core::{
    lock::Device,
    lockfile::{LockFile, Writer},
    report::Host,
    text::Text,
};
use serde::Serialize;

use super::{
    parts::{At, Base64, Shown, lost},
    people::ProcessObject,
};

/// What `explain PATH` adds where the file carries no kernel lock.
#[derive(Serialize)]
pub(crate) struct LockFileObject<'a> {
    path: Cow<'a, str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    path_base64: Option<Base64<'a>>,
    dev: Shown<Device>,
    inode: u64,
    fs: Option<Cow<'a, str>>,
    kind: &'static str,
    size: u64,
    uid: u32,
    user: Option<Cow<'a, str>>,
    modified_at: Option<At>,
    is_lock_file: bool,
    names: Option<ClaimObject<'a>>,
    unread: Option<&'a str>,
    writer: Option<&'static str>,
    writer_reason: Option<String>,
    process: Option<ProcessObject<'a>>,
    open_by: Vec<Opener<'a>>,
    open_by_complete: bool,
    doubt: Option<&'a str>,
}

#[derive(Serialize)]
struct ClaimObject<'a> {
    pid: u32,
    host: Option<Cow<'a, str>>,
}

#[derive(Serialize)]
struct Opener<'a> {
    #[serde(flatten)]
    process: ProcessObject<'a>,
    fd: u32,
}

impl<'a> LockFileObject<'a> {
    pub(crate) fn new(file: &'a LockFile, host: &Host) -> Self {
        let writer = file.writer(host);
        Self {
            path: file.path.lossy(),
            path_base64: lost(&file.path),
            dev: Shown(file.file.device),
            inode: file.file.inode,
            fs: file.fs.as_ref().map(Text::lossy),
            kind: file.kind,
            size: file.size,
            uid: file.uid,
            user: file.user.as_ref().map(Text::lossy),
            modified_at: file.modified_at.map(At),
            is_lock_file: file.is_one(),
            names: file
                .claim
                .as_ref()
                .map(|claim| ClaimObject { pid: claim.pid, host: claim.host.as_ref().map(Text::lossy) }),
            unread: file.unread.as_deref(),
            writer: writer.as_ref().map(Writer::name),
            writer_reason: match writer {
                Some(Writer::Unknown(why)) => Some(why),
                _ => None,
            },
            process: file.process.as_deref().map(ProcessObject::new),
            open_by: file
                .open_by
                .iter()
                .map(|(process, fd)| Opener { process: ProcessObject::new(process), fd: *fd })
                .collect(),
            open_by_complete: file.open_by_complete,
            doubt: file.doubt.as_deref(),
        }
    }
}
