//! Canonical hashing: one encoding for everything whose hash names a result.
//!
//! A value is hashed through its `serde::Serialize` form. Every element is tagged and every length is written,
//! so no two different values share an encoding. Field names are part of it and skipped fields are not, so a
//! new field that is left out at its default keeps every older key. Maps must be sorted (`BTreeMap`).

use std::fmt;
use std::str::FromStr;

use serde::ser;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Version of the encoding and of what goes into keys; part of every [`Key`].
pub const KEY_VERSION: u32 = 1;

/// A 256-bit BLAKE3 name for internal use: step keys, content IDs, selections. Never seen in an image.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key([u8; 32]);

impl Key {
    /// Hashes `value` in the canonical encoding, in the given `domain` ("op", "step", "tree", ...).
    ///
    /// Two domains never share a key, whatever the values.
    #[must_use]
    pub fn of<T: Serialize + ?Sized>(domain: &str, value: &T) -> Self {
        let mut encoder = Encoder::default();
        encoder.bytes(b'D', domain.as_bytes());
        encoder.int(b'V', u128::from(KEY_VERSION));
        // The encoder has no error of its own and our types serialise without one; a failing
        // `Serialize` still yields a key that no successful one can have.
        if value.serialize(&mut encoder).is_err() {
            encoder.tag(b'!');
        }
        Self(*encoder.hasher.finalize().as_bytes())
    }

    /// The raw 32 bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Takes bytes that a BLAKE3 hasher produced elsewhere (a content ID of a layer, a file's digest).
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// 64 lower-case hexadecimal digits.
    #[must_use]
    pub fn to_hex(&self) -> String {
        self.to_string()
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({self})")
    }
}

/// The text is not 64 hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a key of 64 hexadecimal digits: {0:?}")]
pub struct NotAKey(String);

impl FromStr for Key {
    type Err = NotAKey;

    fn from_str(text: &str) -> Result<Self, NotAKey> {
        let refuse = || NotAKey(text.chars().take(80).collect());
        if text.len() != 64 || !text.is_ascii() {
            return Err(refuse());
        }
        let mut bytes = [0; 32];
        for (byte, digits) in bytes.iter_mut().zip(text.as_bytes().chunks(2)) {
            let digits = std::str::from_utf8(digits).map_err(|_| refuse())?;
            *byte = u8::from_str_radix(digits, 16).map_err(|_| refuse())?;
        }
        Ok(Self(bytes))
    }
}

impl Serialize for Key {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// The canonical encoding, streamed into BLAKE3.
#[derive(Default)]
struct Encoder {
    hasher: blake3::Hasher,
}

impl Encoder {
    fn tag(&mut self, tag: u8) {
        self.hasher.update(&[tag]);
    }

    fn int(&mut self, tag: u8, value: u128) {
        self.tag(tag);
        self.hasher.update(&value.to_le_bytes());
    }

    fn bytes(&mut self, tag: u8, bytes: &[u8]) {
        self.int(tag, bytes.len() as u128);
        self.hasher.update(bytes);
    }
}

/// `Serialize` implementations that report an error of their own.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct EncodeFailure(String);

impl ser::Error for EncodeFailure {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self(message.to_string())
    }
}

/// Closes a compound value, so that `[[a], b]` and `[[a, b]]` differ.
struct Compound<'a>(&'a mut Encoder);

impl Compound<'_> {
    fn named<T: Serialize + ?Sized>(&mut self, name: &str, value: &T) -> Result<(), EncodeFailure> {
        self.0.bytes(b'n', name.as_bytes());
        value.serialize(&mut *self.0)
    }

    fn close(self) {
        self.0.tag(b'.');
    }
}

macro_rules! scalar {
    ($($method:ident: $type:ty, $tag:literal;)*) => {$(
        fn $method(self, value: $type) -> Result<(), EncodeFailure> {
            self.int($tag, value as u128);
            Ok(())
        }
    )*};
}

impl<'a> Serializer for &'a mut Encoder {
    type Ok = ();
    type Error = EncodeFailure;
    type SerializeSeq = Compound<'a>;
    type SerializeTuple = Compound<'a>;
    type SerializeTupleStruct = Compound<'a>;
    type SerializeTupleVariant = Compound<'a>;
    type SerializeMap = Compound<'a>;
    type SerializeStruct = Compound<'a>;
    type SerializeStructVariant = Compound<'a>;

    scalar! {
        serialize_bool: bool, b'b';
        serialize_i8: i8, b'i'; serialize_i16: i16, b'i'; serialize_i32: i32, b'i'; serialize_i64: i64, b'i';
        serialize_u8: u8, b'u'; serialize_u16: u16, b'u'; serialize_u32: u32, b'u'; serialize_u64: u64, b'u';
        serialize_char: char, b'c';
    }

    fn serialize_f32(self, value: f32) -> Result<(), EncodeFailure> {
        self.serialize_f64(f64::from(value))
    }

    fn serialize_f64(self, value: f64) -> Result<(), EncodeFailure> {
        self.int(b'f', u128::from(value.to_bits()));
        Ok(())
    }

    fn serialize_str(self, value: &str) -> Result<(), EncodeFailure> {
        self.bytes(b's', value.as_bytes());
        Ok(())
    }

    fn serialize_bytes(self, value: &[u8]) -> Result<(), EncodeFailure> {
        self.bytes(b'y', value);
        Ok(())
    }

    fn serialize_none(self) -> Result<(), EncodeFailure> {
        self.tag(b'0');
        Ok(())
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), EncodeFailure> {
        self.tag(b'1');
        value.serialize(self)
    }

    fn serialize_unit(self) -> Result<(), EncodeFailure> {
        self.tag(b'_');
        Ok(())
    }

    fn serialize_unit_struct(self, _: &'static str) -> Result<(), EncodeFailure> {
        self.serialize_unit()
    }

    fn serialize_unit_variant(self, _: &'static str, _: u32, variant: &'static str) -> Result<(), EncodeFailure> {
        self.bytes(b'v', variant.as_bytes());
        Ok(())
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, _: &'static str, value: &T) -> Result<(), EncodeFailure> {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<(), EncodeFailure> {
        self.bytes(b'w', variant.as_bytes());
        value.serialize(self)
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<Compound<'a>, EncodeFailure> {
        self.tag(b'[');
        Ok(Compound(self))
    }

    fn serialize_tuple(self, _: usize) -> Result<Compound<'a>, EncodeFailure> {
        self.serialize_seq(None)
    }

    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<Compound<'a>, EncodeFailure> {
        self.serialize_seq(None)
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        _: usize,
    ) -> Result<Compound<'a>, EncodeFailure> {
        self.bytes(b'w', variant.as_bytes());
        self.serialize_seq(None)
    }

    fn serialize_map(self, _: Option<usize>) -> Result<Compound<'a>, EncodeFailure> {
        self.tag(b'{');
        Ok(Compound(self))
    }

    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Compound<'a>, EncodeFailure> {
        self.tag(b'(');
        Ok(Compound(self))
    }

    fn serialize_struct_variant(
        self,
        name: &'static str,
        _: u32,
        variant: &'static str,
        len: usize,
    ) -> Result<Compound<'a>, EncodeFailure> {
        self.bytes(b'w', variant.as_bytes());
        self.serialize_struct(name, len)
    }
}

macro_rules! sequence {
    ($($trait:ident::$method:ident),*) => {$(
        impl ser::$trait for Compound<'_> {
            type Ok = ();
            type Error = EncodeFailure;

            fn $method<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), EncodeFailure> {
                value.serialize(&mut *self.0)
            }

            fn end(self) -> Result<(), EncodeFailure> {
                self.close();
                Ok(())
            }
        }
    )*};
}

sequence!(
    SerializeSeq::serialize_element,
    SerializeTuple::serialize_element,
    SerializeTupleStruct::serialize_field,
    SerializeTupleVariant::serialize_field
);

macro_rules! fields {
    ($($trait:ident),*) => {$(
        impl ser::$trait for Compound<'_> {
            type Ok = ();
            type Error = EncodeFailure;

            fn serialize_field<T: Serialize + ?Sized>(&mut self, name: &'static str, value: &T) -> Result<(), EncodeFailure> {
                self.named(name, value)
            }

            fn end(self) -> Result<(), EncodeFailure> {
                self.close();
                Ok(())
            }
        }
    )*};
}

fields!(SerializeStruct, SerializeStructVariant);

impl ser::SerializeMap for Compound<'_> {
    type Ok = ();
    type Error = EncodeFailure;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), EncodeFailure> {
        key.serialize(&mut *self.0)
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), EncodeFailure> {
        value.serialize(&mut *self.0)
    }

    fn end(self) -> Result<(), EncodeFailure> {
        self.close();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Serialize)]
    struct Old {
        a: u32,
    }

    #[derive(Serialize)]
    struct New {
        a: u32,
        #[serde(skip_serializing_if = "Option::is_none")]
        b: Option<u32>,
    }

    #[test]
    fn equal_values_have_equal_keys_and_structure_counts() {
        assert_eq!(Key::of("t", &["a", "b"]), Key::of("t", &vec!["a".to_owned(), "b".to_owned()]));
        assert_ne!(Key::of("t", &["ab"]), Key::of("t", &["a", "b"]));
        assert_ne!(Key::of("t", &vec![vec!["a"], vec!["b"]]), Key::of("t", &vec![vec!["a", "b"]]));
        assert_ne!(Key::of("t", &Some(1u32)), Key::of("t", &1u32));
        assert_ne!(Key::of("t", "a"), Key::of("u", "a"));
    }

    #[test]
    fn a_field_left_out_at_its_default_keeps_old_keys() {
        assert_eq!(Key::of("t", &Old { a: 1 }), Key::of("t", &New { a: 1, b: None }));
        assert_ne!(Key::of("t", &Old { a: 1 }), Key::of("t", &New { a: 1, b: Some(0) }));
    }

    #[test]
    fn text_round_trips_and_is_checked() {
        let key = Key::of("t", "x");
        assert_eq!(key.to_hex().parse(), Ok(key));
        assert!("abc".parse::<Key>().is_err());
        assert!("zz".repeat(32).parse::<Key>().is_err());
    }
}
