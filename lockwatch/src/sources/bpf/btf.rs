//! Field offsets from BTF, the kernel's description of its own types.
//!
//! Only what a field's offset needs: structs, unions, and the names that lead to them. aya parses BTF too, but keeps
//! members to itself, and it takes long and much memory; the other reader on crates.io is LGPL.
//! Format: Documentation/bpf/btf.rst (6.18).

use std::collections::HashMap;

use anyhow::{Context, Result, bail};
use aya::Endianness;

/// What a blob in this machine's byte order begins with.
const MAGIC: u32 = 0xeb9f;
const HEADER_BYTES: u32 = 24;

const KIND_ARRAY: u32 = 3;
const KIND_STRUCT: u32 = 4;
const KIND_UNION: u32 = 5;
const KIND_ENUM: u32 = 6;
const KIND_FORWARD: u32 = 7;
const KIND_TYPEDEF: u32 = 8;
const KIND_CONST: u32 = 10;
const KIND_RESTRICT: u32 = 11;
const KIND_FUNCTION: u32 = 12;
const KIND_TYPE_TAG: u32 = 18;

/// The types of one kernel.
pub struct Btf<'a> {
    types: Vec<Type>,
    structs: HashMap<&'a [u8], u32>,
    data: &'a [u8],
    strings: usize,
}

/// One type: where its record begins, and the record's `info` and `size` words.
#[derive(Clone, Copy)]
struct Type {
    at: usize,
    info: u32,
    size: u32,
}

impl Type {
    fn kind(self) -> u32 {
        self.info >> 24 & 0x1f
    }

    fn members(self) -> usize {
        (self.info & 0xffff) as usize
    }

    /// Bytes behind the record's first twelve.
    fn extra(self) -> Result<usize> {
        let n = self.members();
        Ok(match self.kind() {
            1 | 14 | 17 => 4,
            KIND_ARRAY => 12,
            KIND_STRUCT | KIND_UNION | 15 | 19 => n * 12,
            KIND_ENUM | 13 => n * 8,
            2 | KIND_FORWARD..=KIND_FUNCTION | 16 | KIND_TYPE_TAG => 0,
            kind => bail!("btf type of unknown kind {kind}"),
        })
    }
}

/// The bytes of the running kernel's: `/sys/kernel/btf/vmlinux`.
pub fn of_kernel() -> Result<Vec<u8>> {
    let path = "/sys/kernel/btf/vmlinux";
    std::fs::read(path).with_context(|| format!("read {path}"))
}

impl<'a> Btf<'a> {
    /// From the bytes of a BTF blob in this machine's byte order.
    pub fn parse(data: &'a [u8]) -> Result<Self> {
        let word = |at: usize| -> Result<u32> {
            let bytes = data.get(at..at + 4).context("btf ends early")?;
            Ok(u32::from_ne_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
        };
        if word(0)? & 0xffff != MAGIC {
            bail!("not btf of this byte order");
        }
        let header = word(4)? as usize;
        let (first, length) = (header + word(8)? as usize, word(12)? as usize);
        let strings = header + word(16)? as usize;
        let void = Type { at: 0, info: 0, size: 0 };
        let mut btf = Self { types: vec![void], structs: HashMap::new(), data, strings };
        let mut at = first;
        while at < first + length {
            let ty = Type { at, info: word(at + 4)?, size: word(at + 8)? };
            if ty.kind() == KIND_STRUCT {
                let name = name_at(data, strings + word(at)? as usize);
                if !name.is_empty() {
                    btf.structs.entry(name).or_insert(btf.types.len() as u32);
                }
            }
            at += 12 + ty.extra()?;
            btf.types.push(ty);
        }
        Ok(btf)
    }

    /// What aya needs of these types: those that a program hangs on, iterators (`bpf_iter_*`) and typed tracepoints
    /// (`btf_trace_*`). aya makes a value of each of the hundred thousand, so the others are left empty; a type's id is
    /// its place, so they cannot be left out.
    pub fn for_aya(&self) -> Result<aya::Btf> {
        aya::Btf::parse(&self.anchors(), Endianness::default()).context("parse the kernel's BTF")
    }

    /// A blob with the same ids.
    fn anchors(&self) -> Vec<u8> {
        let mut strings = vec![0];
        let mut types = Vec::with_capacity(self.types.len() * 3);
        for ty in &self.types[1..] {
            let prefix: &[u8] = match ty.kind() {
                KIND_FUNCTION => b"bpf_iter_",
                KIND_TYPEDEF => b"btf_trace_",
                _ => b"",
            };
            let name = self
                .word(ty.at)
                .map_or(&[][..], |name| self.data.get(self.strings + name as usize..).unwrap_or_default());
            if prefix.is_empty() || !name.starts_with(prefix) {
                types.extend([0, KIND_FORWARD << 24, 0]);
                continue;
            }
            types.extend([strings.len() as u32, ty.kind() << 24, 0]);
            strings.extend(name_at(name, 0));
            strings.push(0);
        }
        let (types_len, strings_len) = (types.len() as u32 * 4, strings.len() as u32);
        let header = [1 << 16 | MAGIC, HEADER_BYTES, 0, types_len, types_len, strings_len];
        let words = header.into_iter().chain(types);
        words.flat_map(u32::to_ne_bytes).chain(strings).collect()
    }

    /// The byte offset of `path` ("c.flc_link") in a struct, looking into anonymous members; with an empty path, the
    /// struct's size. `None` if there is no such field, or it is a bit field.
    pub fn offset(&self, name: &str, path: &str) -> Option<u32> {
        let ty = *self.types.get(*self.structs.get(name.as_bytes())? as usize)?;
        if path.is_empty() {
            return Some(ty.size);
        }
        let mut place = (ty, 0);
        for step in path.split('.') {
            let (ty, offset) = self.member(place.0, step.as_bytes())?;
            place = (self.resolve(ty)?, place.1 + offset);
        }
        Some(place.1)
    }

    /// A member's type id and byte offset.
    fn member(&self, ty: Type, name: &[u8]) -> Option<(u32, u32)> {
        if !matches!(ty.kind(), KIND_STRUCT | KIND_UNION) {
            return None;
        }
        let bitfields = ty.info >> 31 == 1;
        for i in 0..ty.members() {
            let at = ty.at + 12 + i * 12;
            let (member, member_type, raw) = (self.word(at)?, self.word(at + 4)?, self.word(at + 8)?);
            if bitfields && raw >> 24 != 0 {
                continue;
            }
            let offset = if bitfields { raw & 0xff_ffff } else { raw } / 8;
            let found = name_at(self.data, self.strings + member as usize);
            if found == name {
                return Some((member_type, offset));
            }
            if found.is_empty()
                && let Some((inner, more)) = self.member(self.resolve(member_type)?, name)
            {
                return Some((inner, offset + more));
            }
        }
        None
    }

    /// Through typedefs and qualifiers to the type itself.
    fn resolve(&self, mut id: u32) -> Option<Type> {
        for _ in 0..32 {
            let ty = *self.types.get(id as usize)?;
            match ty.kind() {
                KIND_TYPEDEF..=KIND_RESTRICT | KIND_TYPE_TAG => id = ty.size,
                _ => return Some(ty),
            }
        }
        None
    }

    fn word(&self, at: usize) -> Option<u32> {
        let bytes = self.data.get(at..at + 4)?;
        Some(u32::from_ne_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
    }
}

fn name_at(data: &[u8], at: usize) -> &[u8] {
    let rest = data.get(at..).unwrap_or_default();
    &rest[..rest.iter().position(|b| *b == 0).unwrap_or(0)]
}

// KIND_CONST lies between KIND_TYPEDEF and KIND_RESTRICT: volatile is 9.
const _: () = assert!(KIND_CONST == KIND_RESTRICT - 1);

#[cfg(test)]
mod tests {
    use super::*;

    /// A blob with `struct outer { int a; union { int b; struct { int pad; int c; }; }; struct inner d; }`.
    fn sample() -> Vec<u8> {
        let strings = b"\0int\0outer\0a\0b\0c\0d\0inner\0x\0pad\0";
        let s = |name: &str| {
            let needle = [b"\0", name.as_bytes(), b"\0"].concat();
            strings.windows(needle.len()).position(|w| w == needle).unwrap() as u32 + 1
        };
        let mut types: Vec<u32> = vec![s("int"), 1 << 24, 4, 32]; // 1
        let compound = |types: &mut Vec<u32>, name: u32, kind: u32, size: u32, members: &[(u32, u32, u32)]| {
            types.extend([name, kind << 24 | members.len() as u32, size]);
            members.iter().for_each(|m| types.extend([m.0, m.1, m.2 * 8]));
        };
        compound(&mut types, s("inner"), KIND_STRUCT, 8, &[(s("pad"), 1, 0), (s("x"), 1, 4)]); // 2
        compound(&mut types, 0, KIND_STRUCT, 8, &[(s("pad"), 1, 0), (s("c"), 1, 4)]); // 3
        compound(&mut types, 0, KIND_UNION, 8, &[(s("b"), 1, 0), (0, 3, 0)]); // 4
        types.extend([0, KIND_CONST << 24, 2]); // 5: const struct inner
        compound(&mut types, s("outer"), KIND_STRUCT, 20, &[(s("a"), 1, 0), (0, 4, 4), (s("d"), 5, 12)]); // 6
        let mut blob: Vec<u32> = vec![0x0001_eb9f, 24, 0, types.len() as u32 * 4];
        blob.extend([types.len() as u32 * 4, strings.len() as u32]);
        blob.extend(types);
        let mut bytes: Vec<u8> = blob.into_iter().flat_map(u32::to_ne_bytes).collect();
        bytes.extend(strings);
        bytes
    }

    #[test]
    fn finds_fields_by_path() {
        let bytes = sample();
        let btf = Btf::parse(&bytes).unwrap();
        let check = |path, expect| assert_eq!(btf.offset("outer", path), expect, "{path}");
        check("a", Some(0));
        check("b", Some(4));
        check("c", Some(8));
        check("d", Some(12));
        check("d.x", Some(16));
        check("d.y", None);
        check("", Some(20));
        assert_eq!(btf.offset("nobody", "a"), None);
    }

    #[test]
    fn anchors_keep_their_places() {
        // 1: typedef btf_trace_lock, 2: function bpf_iter_task, 3: function other.
        let strings = b"\0btf_trace_lock\0bpf_iter_task\0other\0";
        let (trace, iterator, other) = (1, 16, 30);
        let types =
            [[trace, KIND_TYPEDEF << 24, 9], [iterator, KIND_FUNCTION << 24 | 1, 9], [other, KIND_FUNCTION << 24, 9]];
        let header = [1 << 16 | MAGIC, HEADER_BYTES, 0, 36, 36, strings.len() as u32];
        let words = header.into_iter().chain(types.into_iter().flatten());
        let blob: Vec<u8> = words.flat_map(u32::to_ne_bytes).chain(strings.iter().copied()).collect();
        let btf = Btf::parse(&blob).unwrap();
        assert!(btf.for_aya().is_ok());
        let anchors = btf.anchors();
        let anchors = Btf::parse(&anchors).unwrap();
        let name = |ty: &Type| name_at(anchors.data, anchors.strings + anchors.word(ty.at).unwrap() as usize);
        let found: Vec<_> = anchors.types[1..].iter().map(|ty| (ty.kind(), name(ty))).collect();
        let expect: [(_, &[u8]); 3] =
            [(KIND_TYPEDEF, b"btf_trace_lock"), (KIND_FUNCTION, b"bpf_iter_task"), (KIND_FORWARD, b"")];
        assert_eq!(found, expect);
    }

    #[test]
    fn refuses_what_is_no_btf() {
        assert!(Btf::parse(b"junk").is_err());
        assert!(Btf::parse(&sample()[..60]).is_err());
    }
}
