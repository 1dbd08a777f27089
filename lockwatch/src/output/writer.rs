//! Compact JSON, written straight into memory.
//!
//! A listing of 100,000 locks is 80 MB of text, most of it member names and short words. serde_json looks at each byte
//! of those, twice; here names are copied, and a string is looked at once.
//!
//! Two things mean more here than elsewhere: bytes are JSON that was written before, and the members of an object
//! whose own name is empty stand among those around it (`#[serde(flatten)]` would look at their names again).

use std::io::{self, Write};

use serde::{
    Serialize, Serializer,
    ser::{
        SerializeMap, SerializeSeq, SerializeStruct, SerializeStructVariant, SerializeTuple, SerializeTupleStruct,
        SerializeTupleVariant,
    },
};
use serde_json::Error;

use super::escape::push_string;

/// Writes a value as JSON in one line, without a newline at its end.
pub(crate) fn to_json<T: Serialize>(value: &T, out: &mut impl Write) -> io::Result<()> {
    let mut text = Vec::new();
    push_json(value, &mut text)?;
    out.write_all(&text)
}

/// Like [`to_json`], at the end of a text.
pub(super) fn push_json<T: Serialize>(value: &T, text: &mut Vec<u8>) -> io::Result<()> {
    Ok(value.serialize(Writer(text))?)
}

/// Where the next value goes.
struct Writer<'a>(&'a mut Vec<u8>);

/// What is inside brackets.
struct Members<'a> {
    text: &'a mut Vec<u8>,
    /// What stands before the next one: the opening bracket or a comma.
    before: u8,
    /// The closing brackets.
    end: &'static [u8],
}

impl<'a> Writer<'a> {
    fn members(self, open: u8, end: &'static [u8]) -> Members<'a> {
        Members { text: self.0, before: open, end }
    }

    /// `{"Variant":`, to be closed with `}`.
    fn variant(self, name: &str) -> Self {
        self.0.push(b'{');
        push_string(self.0, name);
        self.0.push(b':');
        self
    }

    fn word(self, word: &str) -> Result<(), Error> {
        self.0.extend_from_slice(word.as_bytes());
        Ok(())
    }
}

impl Members<'_> {
    fn begin_next(&mut self) {
        self.text.push(self.before);
        self.before = b',';
    }

    fn element<T: ?Sized + Serialize>(&mut self, value: &T) -> Result<(), Error> {
        self.begin_next();
        value.serialize(Writer(self.text))
    }

    /// A member whose name is of our own making and needs no escapes.
    fn field<T: ?Sized + Serialize>(&mut self, name: &'static str, value: &T) -> Result<(), Error> {
        if name.is_empty() {
            return self.join(value);
        }
        self.text.reserve(name.len() + b",\"\":".len());
        self.begin_next();
        self.text.push(b'"');
        self.text.extend_from_slice(name.as_bytes());
        self.text.extend_from_slice(b"\":");
        value.serialize(Writer(self.text))
    }

    /// The members of an object, as ours: its brackets go.
    fn join<T: ?Sized + Serialize>(&mut self, object: &T) -> Result<(), Error> {
        let open = self.text.len();
        object.serialize(Writer(self.text))?;
        if self.text.ends_with(b"{}") {
            self.text.truncate(open);
        } else {
            self.text[open] = self.before;
            self.text.pop();
            self.before = b',';
        }
        Ok(())
    }

    fn finish(mut self) -> Result<(), Error> {
        if self.before != b',' {
            self.begin_next();
        }
        self.text.extend_from_slice(self.end);
        Ok(())
    }
}

macro_rules! numbers {
    ($($method:ident: $number:ty),*) => {$(
        fn $method(self, value: $number) -> Result<(), Error> {
            self.word(itoa::Buffer::new().format(value))
        }
    )*};
}

impl<'a> Serializer for Writer<'a> {
    type Ok = ();
    type Error = Error;
    type SerializeSeq = Members<'a>;
    type SerializeTuple = Members<'a>;
    type SerializeTupleStruct = Members<'a>;
    type SerializeTupleVariant = Members<'a>;
    type SerializeMap = Members<'a>;
    type SerializeStruct = Members<'a>;
    type SerializeStructVariant = Members<'a>;

    numbers!(serialize_i8: i8, serialize_i16: i16, serialize_i32: i32, serialize_i64: i64);
    numbers!(serialize_u8: u8, serialize_u16: u16, serialize_u32: u32, serialize_u64: u64);

    fn serialize_bool(self, value: bool) -> Result<(), Error> {
        self.word(if value { "true" } else { "false" })
    }

    fn serialize_f32(self, value: f32) -> Result<(), Error> {
        serde_json::to_writer(self.0, &value)
    }

    fn serialize_f64(self, value: f64) -> Result<(), Error> {
        serde_json::to_writer(self.0, &value)
    }

    fn serialize_char(self, value: char) -> Result<(), Error> {
        self.serialize_str(value.encode_utf8(&mut [0; 4]))
    }

    fn serialize_str(self, value: &str) -> Result<(), Error> {
        push_string(self.0, value);
        Ok(())
    }

    fn serialize_bytes(self, json: &[u8]) -> Result<(), Error> {
        self.0.extend_from_slice(json);
        Ok(())
    }

    fn serialize_none(self) -> Result<(), Error> {
        self.word("null")
    }

    fn serialize_some<T: ?Sized + Serialize>(self, value: &T) -> Result<(), Error> {
        value.serialize(self)
    }

    fn serialize_unit(self) -> Result<(), Error> {
        self.word("null")
    }

    fn serialize_unit_struct(self, _: &'static str) -> Result<(), Error> {
        self.word("null")
    }

    fn serialize_unit_variant(self, _: &'static str, _: u32, variant: &'static str) -> Result<(), Error> {
        self.serialize_str(variant)
    }

    fn serialize_newtype_struct<T: ?Sized + Serialize>(self, _: &'static str, value: &T) -> Result<(), Error> {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: ?Sized + Serialize>(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<(), Error> {
        let inner = self.variant(variant);
        value.serialize(Writer(inner.0))?;
        inner.word("}")
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<Members<'a>, Error> {
        Ok(self.members(b'[', b"]"))
    }

    fn serialize_tuple(self, _: usize) -> Result<Members<'a>, Error> {
        Ok(self.members(b'[', b"]"))
    }

    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<Members<'a>, Error> {
        Ok(self.members(b'[', b"]"))
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        _: usize,
    ) -> Result<Members<'a>, Error> {
        Ok(self.variant(variant).members(b'[', b"]}"))
    }

    fn serialize_map(self, _: Option<usize>) -> Result<Members<'a>, Error> {
        Ok(self.members(b'{', b"}"))
    }

    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Members<'a>, Error> {
        Ok(self.members(b'{', b"}"))
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        _: usize,
    ) -> Result<Members<'a>, Error> {
        Ok(self.variant(variant).members(b'{', b"}}"))
    }
}

macro_rules! elements {
    ($($sequence:ident::$method:ident),*) => {$(
        impl $sequence for Members<'_> {
            type Ok = ();
            type Error = Error;

            fn $method<T: ?Sized + Serialize>(&mut self, value: &T) -> Result<(), Error> {
                self.element(value)
            }

            fn end(self) -> Result<(), Error> {
                self.finish()
            }
        }
    )*};
}

elements!(
    SerializeSeq::serialize_element,
    SerializeTuple::serialize_element,
    SerializeTupleStruct::serialize_field,
    SerializeTupleVariant::serialize_field
);

macro_rules! fields {
    ($($structure:ident),*) => {$(
        impl $structure for Members<'_> {
            type Ok = ();
            type Error = Error;

            fn serialize_field<T: ?Sized + Serialize>(&mut self, name: &'static str, value: &T) -> Result<(), Error> {
                self.field(name, value)
            }

            fn end(self) -> Result<(), Error> {
                self.finish()
            }
        }
    )*};
}

fields!(SerializeStruct, SerializeStructVariant);

/// Keys must be strings, as all of ours are.
impl SerializeMap for Members<'_> {
    type Ok = ();
    type Error = Error;

    fn serialize_key<T: ?Sized + Serialize>(&mut self, key: &T) -> Result<(), Error> {
        self.element(key)
    }

    fn serialize_value<T: ?Sized + Serialize>(&mut self, value: &T) -> Result<(), Error> {
        self.text.push(b':');
        value.serialize(Writer(self.text))
    }

    fn end(self) -> Result<(), Error> {
        self.finish()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[derive(Serialize)]
    struct Unit;

    #[derive(Serialize)]
    struct Pair(i8, f64);

    #[derive(Serialize)]
    enum Shape {
        Unit,
        Newtype(Option<char>),
        Tuple(u8, i64),
        Struct { a: bool, b: &'static str },
    }

    #[derive(Serialize)]
    #[serde(tag = "type", rename_all = "snake_case")]
    enum Tagged {
        OfFields { x: u64 },
    }

    #[derive(Serialize)]
    struct Around<'a> {
        before: u8,
        #[serde(rename = "")]
        joined: Ready<'a>,
        after: u8,
    }

    struct Ready<'a>(&'a str);

    impl Serialize for Ready<'_> {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            serializer.serialize_bytes(self.0.as_bytes())
        }
    }

    #[derive(Serialize)]
    struct Flat {
        first: (),
        #[serde(flatten)]
        rest: BTreeMap<String, Vec<Shape>>,
        last: [Tagged; 1],
    }

    #[test]
    fn it_writes_what_serde_json_writes() {
        fn check(value: &impl Serialize) {
            let mut text = Vec::new();
            to_json(value, &mut text).unwrap();
            assert_eq!(String::from_utf8(text).unwrap(), serde_json::to_string(value).unwrap());
        }
        let shapes = || vec![Shape::Unit, Shape::Newtype(Some('"')), Shape::Newtype(None), Shape::Tuple(0, i64::MIN)];
        check(&());
        check(&(Unit, Pair(-1, 0.5), u64::MAX, f32::NAN, "a\\b"));
        check(&[0_u32; 0]);
        check(&BTreeMap::<String, u8>::new());
        check(&shapes());
        check(&Shape::Struct { a: true, b: "" });
        let rest = BTreeMap::from([("k\"1".to_owned(), shapes()), ("k2".to_owned(), Vec::new())]);
        check(&Flat { first: (), rest, last: [Tagged::OfFields { x: 7 }] });
    }

    #[test]
    fn what_was_written_before_is_copied() {
        let check = |ready: &str, expect: &str| {
            let mut text = Vec::new();
            to_json(&(Ready(ready), Around { before: 1, joined: Ready(ready), after: 2 }), &mut text).unwrap();
            assert_eq!(String::from_utf8(text).unwrap(), expect);
        };
        check("{\"a\":0}", "[{\"a\":0},{\"before\":1,\"a\":0,\"after\":2}]");
        check("{}", "[{},{\"before\":1,\"after\":2}]");
    }
}
