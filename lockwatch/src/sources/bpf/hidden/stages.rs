//! Which of the searches this kernel's structs allow.

/// Why each search cannot be done here; `None` if it can.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stages {
    /// Memory mappings.
    pub mappings: Option<String>,
    /// Messages in unix sockets.
    pub messages: Option<String>,
    /// io_uring.
    pub rings: Option<String>,
}

const MAPPINGS: [&str; 4] = ["vm_file", "vm_start", "vm_end", "vm_flags"];
const MESSAGES: [&str; 13] = [
    "s_magic",
    "f_private",
    "socket_sk",
    "sk_family",
    "sk_state",
    "sk_queue",
    "skb_next",
    "skb_prev",
    "skb_sk",
    "skb_cb",
    "unix_fp",
    "scm_count",
    "scm_fp",
];
const RINGS: [&str; 5] = ["s_magic", "f_private", "f_dentry", "d_name", "ring_slots"];
/// Since 6.13, and from 5.15 to 6.12.
const SLOTS: [[&str; 2]; 2] = [["ring_nodes", "node_file"], ["ring_files", "fixed_file"]];

/// For the paths of files without a descriptor.
const NAMES: [&str; 7] = ["f_mount", "d_parent", "d_pprev", "mount_root", "mount_mnt", "mount_parent", "mount_point"];

/// Whether lockwatch can do without this field of the layout: it serves only a search.
pub fn is_optional(field: &str) -> bool {
    let slots = SLOTS.as_flattened();
    field == "ring_size"
        || [&MAPPINGS[..], &MESSAGES, &RINGS, &NAMES, slots].iter().any(|fields| fields.contains(&field))
}

impl Stages {
    /// What is left when these fields are missing from the kernel's BTF.
    pub fn of(missing: &[&str]) -> Self {
        let lacks = |field: &&str| missing.contains(field);
        let why = |fields: &[&str]| {
            let lacking: Vec<&str> = fields.iter().copied().filter(|field| lacks(field)).collect();
            (!lacking.is_empty()).then(|| format!("this kernel's BTF lacks {}", lacking.join(", ")))
        };
        let slots = || match SLOTS.iter().any(|fields| !fields.iter().any(lacks)) {
            true => None,
            false => Some("this kernel keeps registered files in a way that lockwatch does not know".to_owned()),
        };
        // Without io_uring there is nothing to search.
        let has_rings = !lacks(&"ring_size");
        Self {
            mappings: why(&MAPPINGS),
            messages: why(&MESSAGES),
            rings: if has_rings { why(&RINGS).or_else(slots) } else { None },
        }
    }
}

#[cfg(test)]
mod tests {
    use lockwatch_common::Layout;

    use super::*;

    #[test]
    fn a_missing_field_costs_its_stage_alone() {
        let check = |missing: &[&str], expect: [bool; 3]| {
            let stages = Stages::of(missing);
            let works = [&stages.mappings, &stages.messages, &stages.rings].map(Option::is_none);
            assert_eq!(works, expect, "{missing:?}: {stages:?}");
        };
        check(&[], [true, true, true]);
        check(&["task_last_arrival"], [true, true, true]);
        check(&["vm_file"], [false, true, true]);
        check(&["unix_fp"], [true, false, true]);
        check(&["s_magic"], [true, false, false]);
        check(&["ring_files", "fixed_file"], [true, true, true]);
        check(&["ring_nodes", "node_file"], [true, true, true]);
        check(&["ring_nodes", "fixed_file"], [true, true, false]);
        check(&["ring_size", "ring_slots", "ring_nodes", "node_file", "ring_files", "fixed_file"], [true, true, true]);
    }

    #[test]
    fn every_field_of_a_stage_is_one_of_the_layout() {
        let known: Vec<_> = Layout::UNRESOLVED.missing().collect();
        let named = [&MAPPINGS[..], &MESSAGES, &RINGS, &NAMES, SLOTS.as_flattened(), &["ring_size"]].concat();
        assert!(named.iter().all(|field| known.contains(field) && is_optional(field)), "{named:?}");
        assert!(!is_optional("fl_link"));
    }
}
