//! What a user may have cleared.

use lockwatch_core::{clear, policy::Policy};

use crate::Config;

impl Config {
    /// What a user may have cleared who asks at the control socket: root everything, the agent's user what policies that
    /// act want, all others what members of the group may. That they are members is for the caller to have checked.
    pub fn rights_of(&self, uid: u32, agent: Option<u32>) -> clear::Policy {
        match agent {
            Some(agent) if uid == agent && uid != 0 => self.wanted_by(Policy::acts),
            _ => self.control.policy_of(uid),
        }
    }

    /// What an agent of this user may plan: the same, and what policies that only observe would want.
    pub fn plans_of(&self, uid: u32, agent: Option<u32>) -> clear::Policy {
        match agent {
            Some(agent) if uid == agent && uid != 0 => self.wanted_by(|_| true),
            _ => self.control.policy_of(uid),
        }
    }

    /// The ways and files of all these policies together. What else they say, control cannot judge for them.
    fn wanted_by(&self, counts: impl Fn(&Policy) -> bool) -> clear::Policy {
        let mut rights = clear::Policy {
            protection: self.control.protection(),
            may_override: false,
            methods: Vec::new(),
            paths: Some(Vec::new()),
            may_hold: false,
            ourselves: Vec::new(),
        };
        for policy in self.policies.iter().filter(|policy| policy.clears() && counts(policy)) {
            let more: Vec<_> = policy.methods.iter().filter(|method| !rights.methods.contains(method)).collect();
            rights.methods.extend(more);
            let paths = &policy.matches.paths;
            rights.paths = rights.paths.filter(|_| !paths.is_empty()).map(|all| [all, paths.clone()].concat());
        }
        rights
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use lockwatch_core::clear::Method::{self, Kill, Release, Terminate};

    use crate::layers::of_text;

    const AGENT: u32 = 990;

    /// What the agent's user may, and what it may plan: ways and files.
    fn check(policies: &[&str], may: (&[Method], Option<&[&str]>), plans: (&[Method], Option<&[&str]>)) {
        let one = |(n, policy): (usize, &&str)| format!("[[policy]]\nname = 'p{n}'\n{policy}\n");
        let text: String = policies.iter().enumerate().map(one).collect();
        let config = of_text(Path::new("/etc/x.toml"), &text).unwrap().config;
        for (rights, (methods, paths)) in
            [(config.rights_of(AGENT, Some(AGENT)), may), (config.plans_of(AGENT, Some(AGENT)), plans)]
        {
            assert_eq!(rights.methods, methods, "{text}");
            let expect = paths.map(|paths| paths.iter().map(|path| (*path).to_owned()).collect::<Vec<_>>());
            assert_eq!(rights.paths, expect, "{text}");
            assert!(!rights.may_override && !rights.may_hold && rights.protection == config.control.protection());
        }
        for (uid, agent) in [(0, Some(0)), (0, Some(AGENT)), (1000, Some(AGENT)), (AGENT, None)] {
            assert_eq!(config.rights_of(uid, agent), config.control.policy_of(uid), "{uid} {agent:?}");
            assert_eq!(config.plans_of(uid, agent), config.control.policy_of(uid), "{uid} {agent:?}");
        }
    }

    #[test]
    fn the_agent_may_what_policies_want_and_nothing_else() {
        const NOTHING: (&[Method], Option<&[&str]>) = (&[], Some(&[]));
        check(&[], NOTHING, NOTHING);
        check(&["match.paths = ['/a/*']"], NOTHING, NOTHING);
        let enforces = "action = 'clear'\nstage = 'enforce'\nmatch.paths = ['/a/*']";
        let a: (&[Method], Option<&[&str]>) = (&[Release], Some(&["/a/*"]));
        check(&[enforces], a, a);
        let observes = "action = 'clear'\nmethods = ['kill']\nmatch.paths = ['/b/*']";
        check(&[enforces, observes], a, (&[Release, Kill], Some(&["/a/*", "/b/*"])));
        // It may be about any file.
        let canary = "action = 'clear'\nstage = 'canary'\nmethods = ['release', 'terminate']\nmatch.unit = 'x*'";
        let all: (&[Method], Option<&[&str]>) = (&[Release, Terminate], None);
        check(&[canary, enforces], all, all);
    }
}
