//! One request, from the wire to its session: who may ask for what, and whose word is still missing.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use lockwatch_config::Config;
use lockwatch_core::clear::Policy;

use crate::{
    audit::{Actor, Log},
    document::{Approvals, Document, Outcome},
    eyes::Eyes,
    front::Front,
    peer::Peer,
    pending::{Found, Pending, Waiting},
    protocol::{Approve, Clear, Request},
    session::{Quorum, Session, Task},
};

/// What serves a request, whatever it is.
pub struct Service<'a> {
    /// What the host's owner allows.
    pub config: &'a Config,
    /// The agent's user, if there is one.
    pub agent: Option<u32>,
    /// Where plans wait for a second person, if there must be one.
    pub pending: Option<&'a Pending>,
    /// Who looks.
    pub eyes: &'a mut dyn Eyes,
}

impl Service<'_> {
    /// Carries out a request, as far as its peer may.
    ///
    /// # Errors
    ///
    /// It failed, and nothing was done, unless the error says otherwise.
    pub fn serve(&mut self, request: &Request, peer: &Peer, front: &mut dyn Front) -> Result<Document> {
        match request {
            Request::Clear(clear) => self.clear(clear, peer, front),
            Request::Approve(approve) => self.approve(approve, peer, front),
        }
    }

    fn clear(&mut self, clear: &Clear, peer: &Peer, front: &mut dyn Front) -> Result<Document> {
        ensure!(clear.audit_log.is_none() || peer.is_own_root(), "only root says where the record is kept");
        let policies = [self.policy_for(peer)];
        self.run(clear, &peer.actor(), &[], peer.uid == 0, &policies, front)
    }

    /// What the one who asks may do. That it is a member of the group, if it is not root, was checked by the kernel when it
    /// connected ([`Peer`]).
    fn policy_for(&self, peer: &Peer) -> Policy {
        Policy { ourselves: peer.ourselves.clone(), ..self.config.rights_of(peer.uid, self.agent) }
    }

    /// The second person's word. Whatever is done must be allowed to both.
    fn approve(&mut self, approve: &Approve, peer: &Peer, front: &mut dyn Front) -> Result<Document> {
        let pending = self.pending.context("one person is enough on this host: type `lockwatch clear`")?;
        let found = pending.take(approve, peer.uid)?;
        let waiting = match found {
            Found::Taken(waiting) => waiting,
            Found::Own(waiting) => {
                let needed = self.config.control.approvals;
                let mut document = Document::new(&waiting.id, Outcome::Planned);
                document.approvals = Some(Approvals { by: vec![waiting.first.uid], needed });
                document.notes = vec!["you have confirmed it yourself: somebody else must".to_owned()];
                return Ok(document);
            }
            Found::Nothing => {
                let mut document = Document::new(&approve.id, Outcome::Changed);
                document.notes =
                    vec!["no plan with this ID and code waits for a second person, or not any more".into()];
                return Ok(document);
            }
        };
        let first = self.config.rights_of(waiting.first.uid, self.agent);
        let policies = [self.policy_for(peer), first];
        self.run(&waiting.request, &peer.actor(), &[waiting.first], peer.uid == 0, &policies, front)
    }

    fn run(
        &mut self,
        clear: &Clear,
        actor: &Actor,
        approved_by: &[Actor],
        root: bool,
        policies: &[Policy],
        front: &mut dyn Front,
    ) -> Result<Document> {
        // The first one's wishes have been judged when they were uttered.
        let config = &self.config.control;
        let wanted = match clear.wanted(config, root || !approved_by.is_empty()) {
            Ok(wanted) => wanted,
            Err(why) => {
                let mut document = Document::new(&clear.id, Outcome::Refused);
                document.notes = vec![why];
                return Ok(document);
            }
        };
        let path = clear.audit_log.as_deref().unwrap_or(&config.audit_log);
        let mut log = Log::open(Path::new(path))?;
        let task = Task {
            id: clear.id.clone(),
            wish: wanted.wish,
            settle: wanted.settle,
            dry_run: clear.dry_run,
            reason: clear.reason.clone(),
            approved_by: approved_by.to_vec(),
        };
        let quorum = Quorum(config.approvals);
        let session = Session { task: &task, actor, policies, quorum, eyes: self.eyes, front, log: &mut log };
        let mut document = session.run()?;
        if let (Some(approvals), Some(plan)) = (&mut document.approvals, &document.plan) {
            let code = plan.code.as_deref().unwrap_or_default();
            let waiting = Waiting::new(&plan.hash, code, &document.id, clear.clone(), actor.clone());
            let pending = self.pending.context("there is nowhere to wait for a second person")?;
            approvals.by = vec![pending.put(waiting)?.first.uid];
        }
        Ok(document)
    }
}
