//! Who must never be held still.

use anyhow::{Context, ensure};

use super::process;

/// Processes that are never frozen: this one, its ancestors, its descendants, the host's first, and whom the caller
/// names.
#[derive(Clone, Debug)]
pub struct Spare {
    us: u32,
    named: Vec<(u32, String)>,
}

impl Spare {
    /// This process and its ancestors, as they are now.
    ///
    /// # Errors
    ///
    /// `/proc` cannot tell who they are.
    pub fn new() -> anyhow::Result<Self> {
        let us = std::process::id();
        let link = std::fs::read_link("/proc/self").context("read /proc/self")?;
        ensure!(link.as_os_str() == &*us.to_string(), "/proc numbers processes otherwise than this pid namespace");
        let mut named = vec![(1, "it is the host's first process".to_owned())];
        let ancestors = process::ancestors(us).context("look for the ancestors of this process")?;
        let below = "this lockwatch runs below it".to_owned();
        named.extend(ancestors.into_iter().filter(|pid| *pid != 1).map(|pid| (pid, below.clone())));
        named.push((us, "it is this lockwatch".to_owned()));
        Ok(Self { us, named })
    }

    /// Somebody more, and why: `it is to be signalled, and a frozen process cannot end`.
    #[must_use]
    pub fn and(mut self, pid: u32, why: impl Into<String>) -> Self {
        self.named.push((pid, why.into()));
        self
    }

    /// Somebody more with all its ancestors, and why: who confirms needs its terminal.
    ///
    /// # Errors
    ///
    /// `/proc` cannot tell who they are.
    pub fn and_ancestors(mut self, pid: u32, why: &str) -> anyhow::Result<Self> {
        let ancestors = process::ancestors(pid).with_context(|| format!("look for the ancestors of pid {pid}"))?;
        self.named.extend([pid].into_iter().chain(ancestors).map(|pid| (pid, why.to_owned())));
        Ok(self)
    }

    /// Why this process must not be held still, if so.
    pub(super) fn objection(&self, pid: u32) -> anyhow::Result<Option<String>> {
        if let Some((_, why)) = self.named.iter().find(|(spared, _)| *spared == pid) {
            return Ok(Some(why.clone()));
        }
        let ancestors = process::ancestors(pid).with_context(|| format!("look for the ancestors of pid {pid}"))?;
        Ok(ancestors.contains(&self.us).then(|| "it is part of this lockwatch".to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn we_our_ancestors_and_our_children_are_spared() {
        let parent = std::os::unix::process::parent_id();
        let spare = Spare::new().unwrap().and(4711, "it is to be signalled");
        let check = |pid, expect: Option<&str>| assert_eq!(spare.objection(pid).unwrap().as_deref(), expect, "{pid}");
        check(1, Some("it is the host's first process"));
        check(std::process::id(), Some("it is this lockwatch"));
        if parent != 1 {
            check(parent, Some("this lockwatch runs below it"));
        }
        check(4711, Some("it is to be signalled"));
        check(u32::MAX, None);
        let mut child = std::process::Command::new("cat").stdin(std::process::Stdio::piped()).spawn().unwrap();
        check(child.id(), Some("it is part of this lockwatch"));
        drop(child.stdin.take());
        child.wait().unwrap();
        let with = Spare::new().unwrap().and_ancestors(std::process::id(), "it asked").unwrap();
        assert_eq!(with.objection(1).unwrap().as_deref(), Some("it is the host's first process"));
    }
}
