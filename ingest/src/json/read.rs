//! The reader: values, lists and messages out of a JSON stream, without ever stopping at a wrong type.
//!
//! A [`Message`] says which field a key is; the reader turns the value into the field's type. A value that
//! cannot be it sets [`Reader::problem`], is skipped, and reading goes on. [`Reader::records`] isolates: a list
//! element with a problem is left out of its list and counted.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use base64::Engine as _;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::shown;
use crate::decode::Budget;
use crate::error::Error;

/// A protobuf message as OTLP/JSON writes it: an object.
pub(super) trait Message: Default {
    /// What the message is called in a complaint.
    const NAME: &'static str;

    /// Reads the value of one key into its field, or skips it.
    fn field<'de, A: MapAccess<'de>>(
        &mut self,
        key: &str,
        reader: &mut Reader<'_, '_>,
        map: &mut A,
    ) -> Result<(), A::Error>;

    /// Telemetry records in it, counted where it is left out.
    fn n_records(&self) -> u64 {
        1
    }
}

/// State of one body's reading.
pub(super) struct Reader<'b, 'r> {
    budget: &'b mut Budget<'r>,
    /// What is wrong with the record being read.
    pub(super) problem: Option<String>,
    /// Records left out, and why the first of them was.
    pub(super) n_rejected: u64,
    pub(super) reason: Option<String>,
    /// Why reading was broken off.
    pub(super) refused: Option<Error>,
    /// Nested attribute values around this place.
    pub(super) depth: u32,
}

/// A JSON value that is neither object nor array, or that something was.
pub(super) enum Scalar<'de> {
    Null,
    Bool(bool),
    Unsigned(u64),
    Signed(i64),
    Float(f64),
    Text(Cow<'de, str>),
    Composite,
}

impl<'de> Scalar<'de> {
    /// Reads a value's text. serde_json's own doubles may be off by one in the last place and it fails the
    /// whole body for 1e400; the standard library's are exact.
    fn from_raw(raw: &'de RawValue) -> Self {
        let text = raw.get();
        match text.as_bytes().first() {
            Some(b'n') => Self::Null,
            Some(b't') => Self::Bool(true),
            Some(b'f') => Self::Bool(false),
            Some(b'[' | b'{') => Self::Composite,
            Some(b'"') if !text.contains('\\') => Self::Text(Cow::Borrowed(text.trim_matches('"'))),
            Some(b'"') => Self::Text(Cow::Owned(serde_json::from_str(text).unwrap_or_default())),
            _ => text
                .parse()
                .map(Self::Unsigned)
                .or_else(|_| text.parse().map(Self::Signed))
                .or_else(|_| text.parse().map(Self::Float))
                .unwrap_or(Self::Composite),
        }
    }

    fn shown(&self) -> String {
        match self {
            Self::Null => "null".to_owned(),
            Self::Bool(value) => value.to_string(),
            Self::Unsigned(value) => value.to_string(),
            Self::Signed(value) => value.to_string(),
            Self::Float(value) => value.to_string(),
            Self::Text(text) => format!("\"{}\"", shown(text)),
            Self::Composite => "an array or object".to_owned(),
        }
    }
}

impl<'b, 'r> Reader<'b, 'r> {
    pub(super) fn new(budget: &'b mut Budget<'r>) -> Self {
        Self {
            budget,
            problem: None,
            n_rejected: 0,
            reason: None,
            refused: None,
            depth: 0,
        }
    }

    /// Marks the record being read.
    pub(super) fn complain(&mut self, problem: impl FnOnce() -> String) {
        if self.problem.is_none() {
            self.problem = Some(problem());
        }
    }

    fn charge<E: serde::de::Error>(&mut self, bytes: usize) -> Result<(), E> {
        self.budget.charge(bytes).map_err(|error| {
            let message = error.to_string();
            self.refused = Some(error);
            E::custom(message)
        })
    }

    /// A message where one is read from a deserializer. `None` for null.
    pub(super) fn message<'de, M: Message, D: Deserializer<'de>>(&mut self, json: D) -> Result<Option<M>, D::Error> {
        MessageSeed(self, PhantomData).deserialize(json)
    }

    /// Skips a value.
    pub(super) fn skip<'de, A: MapAccess<'de>>(&mut self, map: &mut A) -> Result<(), A::Error> {
        map.next_value::<IgnoredAny>().map(|_| ())
    }

    /// The value of a key that holds a message.
    pub(super) fn object<'de, M: Message, A: MapAccess<'de>>(&mut self, map: &mut A) -> Result<Option<M>, A::Error> {
        map.next_value_seed(MessageSeed(self, PhantomData))
    }

    /// The value of a key that holds a list of messages.
    pub(super) fn list<'de, M: Message, A: MapAccess<'de>>(&mut self, map: &mut A) -> Result<Vec<M>, A::Error> {
        map.next_value_seed(MessagesSeed {
            reader: self,
            is_isolating: false,
            of: PhantomData,
        })
    }

    /// The value of a key that holds a list of messages, of which those with a problem are left out and counted.
    pub(super) fn records<'de, M: Message, A: MapAccess<'de>>(&mut self, map: &mut A) -> Result<Vec<M>, A::Error> {
        map.next_value_seed(MessagesSeed {
            reader: self,
            is_isolating: true,
            of: PhantomData,
        })
    }

    /// The value of a key that holds a list of scalars.
    pub(super) fn scalars<'de, T, A: MapAccess<'de>>(
        &mut self,
        key: &str,
        map: &mut A,
        convert: fn(&mut Self, &str, Scalar<'de>) -> T,
    ) -> Result<Vec<T>, A::Error> {
        map.next_value_seed(ScalarsSeed {
            reader: self,
            key,
            convert,
        })
    }

    /// The value of a key that holds a scalar.
    pub(super) fn scalar<'de, A: MapAccess<'de>>(&mut self, map: &mut A) -> Result<Scalar<'de>, A::Error> {
        map.next_value_seed(ScalarSeed)
    }

    /// The value of a key that holds a number, exactly as it is written.
    fn number<'de, A: MapAccess<'de>>(&mut self, map: &mut A) -> Result<Scalar<'de>, A::Error> {
        map.next_value::<&'de RawValue>().map(Scalar::from_raw)
    }

    /// A string. Numbers and booleans are taken as their text.
    pub(super) fn string<'de, A: MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> Result<String, A::Error> {
        let value = self.scalar(map)?;
        Ok(self.text(key, value))
    }

    pub(super) fn u64<'de, A: MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> Result<u64, A::Error> {
        let value = self.number(map)?;
        Ok(self.unsigned(key, value))
    }

    pub(super) fn u32<'de, A: MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> Result<u32, A::Error> {
        let value = self.number(map)?;
        Ok(self
            .integer(key, value, "a 32-bit unsigned integer", |value| {
                u32::try_from(value).ok()
            })
            .unwrap_or_default())
    }

    pub(super) fn i32<'de, A: MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> Result<i32, A::Error> {
        let value = self.number(map)?;
        Ok(self
            .integer(key, value, "a 32-bit integer", |value| i32::try_from(value).ok())
            .unwrap_or_default())
    }

    /// `None` for null.
    pub(super) fn i64<'de, A: MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> Result<Option<i64>, A::Error> {
        let value = self.number(map)?;
        Ok(self.integer(key, value, "a 64-bit integer", |value| i64::try_from(value).ok()))
    }

    /// `None` for null.
    pub(super) fn f64<'de, A: MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> Result<Option<f64>, A::Error> {
        let value = self.number(map)?;
        Ok(self.optional_double(key, value))
    }

    /// `None` for null.
    pub(super) fn bool<'de, A: MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> Result<Option<bool>, A::Error> {
        let value = self.scalar(map)?;
        Ok(match &value {
            Scalar::Null => None,
            Scalar::Bool(value) => Some(*value),
            Scalar::Text(text) if text == "true" => Some(true),
            Scalar::Text(text) if text == "false" => Some(false),
            _ => self.wrong(key, &value, "true or false"),
        })
    }

    /// An enum: an integer, or leniently its name. A name that is not known is the unspecified value.
    pub(super) fn enumeration<'de, A: MapAccess<'de>, E: Into<i32>>(
        &mut self,
        key: &str,
        map: &mut A,
        by_name: fn(&str) -> Option<E>,
    ) -> Result<i32, A::Error> {
        match self.number(map)? {
            Scalar::Text(text) => {
                Ok(by_name(&text).map_or_else(|| text.trim().parse().unwrap_or_default(), Into::into))
            }
            value => Ok(self
                .integer(key, value, "an enum's number", |value| {
                    Some(i32::try_from(value).unwrap_or_default())
                })
                .unwrap_or_default()),
        }
    }

    /// The id of a record: hex digits in either case. An empty one is absent.
    pub(super) fn id<'de, A: MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> Result<Vec<u8>, A::Error> {
        let value = self.scalar(map)?;
        Ok(match &value {
            Scalar::Null => Vec::new(),
            Scalar::Text(text) => match hex::decode(text.as_bytes()) {
                Ok(id) => id,
                Err(_) => self.wrong(key, &value, "hex digits").unwrap_or_default(),
            },
            _ => self.wrong(key, &value, "hex digits").unwrap_or_default(),
        })
    }

    /// The id of another record. The specification has receivers take an invalid one as absent.
    pub(super) fn reference<'de, A: MapAccess<'de>>(&mut self, map: &mut A) -> Result<Vec<u8>, A::Error> {
        Ok(match self.scalar(map)? {
            Scalar::Text(text) => hex::decode(text.as_bytes()).unwrap_or_default(),
            _ => Vec::new(),
        })
    }

    /// Base64, standard or URL-safe, padded or not. `None` for null.
    pub(super) fn bytes<'de, A: MapAccess<'de>>(
        &mut self,
        key: &str,
        map: &mut A,
    ) -> Result<Option<Vec<u8>>, A::Error> {
        use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
        const CONFIG: GeneralPurposeConfig =
            GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
        const STANDARD: GeneralPurpose = GeneralPurpose::new(&base64::alphabet::STANDARD, CONFIG);
        const URL_SAFE: GeneralPurpose = GeneralPurpose::new(&base64::alphabet::URL_SAFE, CONFIG);
        let value = self.scalar(map)?;
        Ok(match &value {
            Scalar::Null => None,
            Scalar::Text(text) => {
                let engine = if text.contains(['-', '_']) {
                    &URL_SAFE
                } else {
                    &STANDARD
                };
                match engine.decode(text.as_bytes()) {
                    Ok(bytes) => Some(bytes),
                    Err(_) => self.wrong(key, &value, "base64"),
                }
            }
            _ => self.wrong(key, &value, "base64"),
        })
    }

    pub(super) fn text(&mut self, key: &str, value: Scalar<'_>) -> String {
        match value {
            Scalar::Text(text) => text.into_owned(),
            Scalar::Null => String::new(),
            Scalar::Composite => self.wrong(key, &value, "a string").unwrap_or_default(),
            value => value.shown(),
        }
    }

    pub(super) fn unsigned(&mut self, key: &str, value: Scalar<'_>) -> u64 {
        self.integer(key, value, "a 64-bit unsigned integer", |value| {
            u64::try_from(value).ok()
        })
        .unwrap_or_default()
    }

    /// As `optional_double`, for lists.
    pub(super) fn double(&mut self, key: &str, value: Scalar<'_>) -> f64 {
        self.optional_double(key, value).unwrap_or_default()
    }

    fn optional_double(&mut self, key: &str, value: Scalar<'_>) -> Option<f64> {
        match &value {
            Scalar::Null => None,
            Scalar::Float(number) if number.is_infinite() => self.wrong(key, &value, "a number"),
            Scalar::Float(value) => Some(*value),
            #[allow(
                clippy::cast_precision_loss,
                reason = "an integer where a double belongs becomes the nearest double"
            )]
            Scalar::Unsigned(value) => Some(*value as f64),
            #[allow(
                clippy::cast_precision_loss,
                reason = "an integer where a double belongs becomes the nearest double"
            )]
            Scalar::Signed(value) => Some(*value as f64),
            Scalar::Text(text) => match text.trim() {
                "NaN" => Some(f64::NAN),
                "Infinity" => Some(f64::INFINITY),
                "-Infinity" => Some(f64::NEG_INFINITY),
                number => match number.parse::<f64>() {
                    // Rust also reads "inf" and "nan", which no sender writes.
                    Ok(parsed) if parsed.is_finite() => Some(parsed),
                    _ => self.wrong(key, &value, "a number"),
                },
            },
            Scalar::Bool(_) | Scalar::Composite => self.wrong(key, &value, "a number"),
        }
    }

    fn integer<T>(
        &mut self,
        key: &str,
        value: Scalar<'_>,
        wanted: &str,
        narrow: impl Fn(i128) -> Option<T>,
    ) -> Option<T> {
        let integer = match &value {
            Scalar::Null => return None,
            Scalar::Unsigned(value) => Some(i128::from(*value)),
            Scalar::Signed(value) => Some(i128::from(*value)),
            Scalar::Float(value) => whole(*value),
            Scalar::Text(text) => {
                let text = text.trim();
                text.parse::<i128>()
                    .ok()
                    .or_else(|| text.parse::<f64>().ok().and_then(whole))
            }
            Scalar::Bool(_) | Scalar::Composite => None,
        };
        match integer.and_then(narrow) {
            Some(integer) => Some(integer),
            None => self.wrong(key, &value, wanted),
        }
    }

    fn wrong<T>(&mut self, key: &str, value: &Scalar<'_>, wanted: &str) -> Option<T> {
        self.complain(|| format!("{key} is {} instead of {wanted}", value.shown()));
        None
    }
}

/// 1.0 and 1e3 are integers in protobuf's JSON; 1.5 is not.
#[allow(
    clippy::cast_possible_truncation,
    reason = "bounded to what an i128 and a double both hold exactly"
)]
fn whole(value: f64) -> Option<i128> {
    (value.fract() == 0.0 && value.abs() < 2f64.powi(100)).then_some(value as i128)
}

struct KeySeed;

impl<'de> DeserializeSeed<'de> for KeySeed {
    type Value = Cow<'de, str>;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Self::Value, D::Error> {
        json.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for KeySeed {
    type Value = Cow<'de, str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_borrowed_str<E>(self, key: &'de str) -> Result<Self::Value, E> {
        Ok(Cow::Borrowed(key))
    }

    fn visit_str<E>(self, key: &str) -> Result<Self::Value, E> {
        Ok(Cow::Owned(key.to_owned()))
    }
}

struct ScalarSeed;

impl<'de> DeserializeSeed<'de> for ScalarSeed {
    type Value = Scalar<'de>;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Self::Value, D::Error> {
        json.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for ScalarSeed {
    type Value = Scalar<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(Scalar::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Self::Value, E> {
        Ok(Scalar::Bool(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Self::Value, E> {
        Ok(Scalar::Unsigned(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Self::Value, E> {
        Ok(Scalar::Signed(value))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Self::Value, E> {
        Ok(Scalar::Float(value))
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(Scalar::Text(Cow::Borrowed(text)))
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Scalar::Text(Cow::Owned(text.to_owned())))
    }

    fn visit_string<E>(self, text: String) -> Result<Self::Value, E> {
        Ok(Scalar::Text(Cow::Owned(text)))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Scalar::Composite)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Scalar::Composite)
    }
}

/// Visits of values that are not what the seed is for: the record is marked and reading goes on.
macro_rules! wrong_scalars {
    ($wanted:expr, $default:expr) => {
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str($wanted)
        }

        fn visit_bool<E>(self, value: bool) -> Result<Self::Value, E> {
            self.wrong(&Scalar::Bool(value));
            Ok($default)
        }

        fn visit_u64<E>(self, value: u64) -> Result<Self::Value, E> {
            self.wrong(&Scalar::Unsigned(value));
            Ok($default)
        }

        fn visit_i64<E>(self, value: i64) -> Result<Self::Value, E> {
            self.wrong(&Scalar::Signed(value));
            Ok($default)
        }

        fn visit_f64<E>(self, value: f64) -> Result<Self::Value, E> {
            self.wrong(&Scalar::Float(value));
            Ok($default)
        }

        fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
            self.wrong(&Scalar::Text(Cow::Borrowed(text)));
            Ok($default)
        }
    };
}

struct MessageSeed<'s, 'b, 'r, M>(&'s mut Reader<'b, 'r>, PhantomData<M>);

impl<M: Message> MessageSeed<'_, '_, '_, M> {
    fn wrong(self, value: &Scalar<'_>) {
        self.0.wrong::<()>(M::NAME, value, "an object");
    }
}

impl<'de, M: Message> DeserializeSeed<'de> for MessageSeed<'_, '_, '_, M> {
    type Value = Option<M>;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Self::Value, D::Error> {
        json.deserialize_any(self)
    }
}

impl<'de, M: Message> Visitor<'de> for MessageSeed<'_, '_, '_, M> {
    type Value = Option<M>;

    wrong_scalars!("an object", Some(M::default()));

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        self.wrong(&Scalar::Composite);
        Ok(Some(M::default()))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut message = M::default();
        while let Some(key) = map.next_key_seed(KeySeed)? {
            message.field(&key, self.0, &mut map)?;
        }
        Ok(Some(message))
    }
}

struct MessagesSeed<'s, 'b, 'r, M> {
    reader: &'s mut Reader<'b, 'r>,
    is_isolating: bool,
    of: PhantomData<M>,
}

impl<M: Message> MessagesSeed<'_, '_, '_, M> {
    fn wrong(self, value: &Scalar<'_>) {
        self.reader.wrong::<()>(M::NAME, value, "a list");
    }
}

impl<'de, M: Message> DeserializeSeed<'de> for MessagesSeed<'_, '_, '_, M> {
    type Value = Vec<M>;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Self::Value, D::Error> {
        json.deserialize_any(self)
    }
}

impl<'de, M: Message> Visitor<'de> for MessagesSeed<'_, '_, '_, M> {
    type Value = Vec<M>;

    wrong_scalars!("a list", Vec::new());

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(Vec::new())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        self.wrong(&Scalar::Composite);
        Ok(Vec::new())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let reader = self.reader;
        let mut messages = Vec::new();
        loop {
            let outer = if self.is_isolating { reader.problem.take() } else { None };
            let Some(message) = seq.next_element_seed(MessageSeed::<M>(reader, PhantomData))? else {
                if self.is_isolating {
                    reader.problem = outer;
                }
                return Ok(messages);
            };
            let problem = if self.is_isolating {
                std::mem::replace(&mut reader.problem, outer)
            } else {
                None
            };
            match (message, problem) {
                (None, _) => {}
                (Some(message), None) => {
                    reader.charge(size_of::<M>())?;
                    messages.push(message);
                }
                (Some(message), Some(problem)) => {
                    reader.n_rejected += message.n_records().max(1);
                    reader.reason.get_or_insert(problem);
                }
            }
        }
    }
}

struct ScalarsSeed<'s, 'b, 'r, 'k, 'de, T> {
    reader: &'s mut Reader<'b, 'r>,
    key: &'k str,
    convert: fn(&mut Reader<'b, 'r>, &str, Scalar<'de>) -> T,
}

impl<T> ScalarsSeed<'_, '_, '_, '_, '_, T> {
    fn wrong(self, value: &Scalar<'_>) {
        self.reader.wrong::<()>(self.key, value, "a list");
    }
}

impl<'de, T> DeserializeSeed<'de> for ScalarsSeed<'_, '_, '_, '_, 'de, T> {
    type Value = Vec<T>;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Self::Value, D::Error> {
        json.deserialize_any(self)
    }
}

impl<'de, T> Visitor<'de> for ScalarsSeed<'_, '_, '_, '_, 'de, T> {
    type Value = Vec<T>;

    wrong_scalars!("a list", Vec::new());

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(Vec::new())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        self.wrong(&Scalar::Composite);
        Ok(Vec::new())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let mut values = Vec::new();
        while let Some(value) = seq.next_element::<&'de RawValue>()? {
            self.reader.charge(size_of::<T>())?;
            values.push((self.convert)(self.reader, self.key, Scalar::from_raw(value)));
        }
        Ok(values)
    }
}
