//! What stands in many rows is put into words once.

use std::{cell::RefCell, marker::PhantomData, ptr, rc::Rc};

use foldhash::HashMap;
use lockwatch_core::{lock::FileId, observation::FileSeen, process::Process, report::Report};
use serde::{Serialize, Serializer, ser::Error};

use super::{
    FileObject,
    people::{Acquirer, ProcessObject},
};
use crate::output::writer::push_json;

/// The JSON of one report's people, as far as it was written already, and of the last file: most people take or hold
/// many locks, and the locks of a file stand side by side.
#[derive(Default)]
pub(crate) struct Memo<'a> {
    people: RefCell<HashMap<Role, Rc<[u8]>>>,
    file: RefCell<LastFile>,
    /// Addresses tell them apart, so they must stay where they are.
    of: PhantomData<&'a Report>,
}

/// The last file, by its identity and the address of what is known of it, and its JSON.
type LastFile = (Option<(FileId, usize)>, Vec<u8>);

/// A process, by its address.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Role {
    Taker(usize),
    Holder(Option<usize>),
}

/// A process that took a lock.
pub(super) struct Taker<'a>(pub(super) &'a Process, pub(super) Option<&'a Memo<'a>>);

impl Serialize for Taker<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.1 {
            Some(memo) => memo.write(Role::Taker(ptr::from_ref(self.0).addr()), || Acquirer::new(self.0), serializer),
            None => Acquirer::new(self.0).serialize(serializer),
        }
    }
}

/// A process that holds a lock or waits for one, or nobody.
pub(super) struct Someone<'a>(pub(super) Option<&'a Process>, pub(super) Option<&'a Memo<'a>>);

impl Serialize for Someone<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let address = self.0.map(|process| ptr::from_ref(process).addr());
        match self.1 {
            Some(memo) => memo.write(Role::Holder(address), || ProcessObject::or_nobody(self.0), serializer),
            None => ProcessObject::or_nobody(self.0).serialize(serializer),
        }
    }
}

/// A locked file.
pub(super) struct Locked<'a>(pub(super) FileId, pub(super) &'a FileSeen, pub(super) Option<&'a Memo<'a>>);

impl Serialize for Locked<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let object = FileObject::new(self.0, Some(self.1));
        let Some(memo) = self.2 else { return object.serialize(serializer) };
        let mut last = memo.file.borrow_mut();
        let (of, text) = &mut *last;
        let this = Some((self.0, ptr::from_ref(self.1).addr()));
        if *of != this {
            text.clear();
            push_json(&object, text).map_err(S::Error::custom)?;
            *of = this;
        }
        serializer.serialize_bytes(text)
    }
}

impl Memo<'_> {
    fn write<S: Serializer, T: Serialize>(
        &self,
        role: Role,
        value: impl Fn() -> T,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        if let Some(text) = self.people.borrow().get(&role) {
            return serializer.serialize_bytes(text);
        }
        let mut text = Vec::with_capacity(512);
        push_json(&value(), &mut text).map_err(S::Error::custom)?;
        let text: Rc<[u8]> = text.into();
        self.people.borrow_mut().insert(role, text.clone());
        serializer.serialize_bytes(&text)
    }
}
