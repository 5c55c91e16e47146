//! JSON without ambiguity: no duplicate names, no trailing bytes, bounded depth and size.
//!
//! Never recurses deeper than its limit, and never keeps a number it cannot represent.

use std::cell::Cell;
use std::fmt;

use serde::de::{DeserializeSeed, MapAccess, SeqAccess, Visitor};

/// The deepest nesting of objects and arrays: Entra's claims need four.
const DEPTH_MAX: u8 = 16;

/// The largest number of members of one object: each new name is compared with all earlier names.
const MEMBERS_MAX: usize = 256;

/// A JSON value.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Json {
    Null,
    Bool(bool),
    Integer(i64),
    /// A number with a fraction or an exponent, or one that `i64` cannot hold. Always finite.
    Number(f64),
    Text(String),
    List(Vec<Json>),
    Object(Vec<(String, Json)>),
}

/// Why bytes are not strict JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum JsonFault {
    NotUtf8,
    Duplicate,
    TooDeep,
    TooMany,
    Syntax,
}

impl JsonFault {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            JsonFault::NotUtf8 => "not UTF-8",
            JsonFault::Duplicate => "a name occurs twice in one object",
            JsonFault::TooDeep => "nested too deeply",
            JsonFault::TooMany => "too many members in one object",
            JsonFault::Syntax => "not JSON",
        }
    }
}

impl Json {
    /// Parses bytes that are exactly one JSON value.
    pub(super) fn parse(bytes: &[u8]) -> Result<Json, JsonFault> {
        let text = std::str::from_utf8(bytes).map_err(|_| JsonFault::NotUtf8)?;
        let fault = Cell::new(JsonFault::Syntax);
        let mut reader = serde_json::Deserializer::from_str(text);
        let seed = JsonLevel { depth: DEPTH_MAX, fault: &fault };
        let value = seed.deserialize(&mut reader).map_err(|_| fault.get())?;
        reader.end().map_err(|_| JsonFault::Syntax)?;
        Ok(value)
    }

    /// The member of an object with this exact name.
    pub(super) fn member(&self, name: &str) -> Option<&Json> {
        match self {
            Json::Object(members) => members.iter().find(|(n, _)| n == name).map(|(_, v)| v),
            _ => None,
        }
    }

    pub(super) fn as_text(&self) -> Option<&str> {
        match self {
            Json::Text(text) => Some(text),
            _ => None,
        }
    }
}

#[derive(Clone, Copy)]
struct JsonLevel<'a> {
    depth: u8,
    fault: &'a Cell<JsonFault>,
}

impl JsonLevel<'_> {
    fn below<E: serde::de::Error>(self) -> Result<Self, E> {
        match self.depth.checked_sub(1) {
            Some(depth) => Ok(JsonLevel { depth, ..self }),
            None => Err(self.refuse(JsonFault::TooDeep)),
        }
    }

    fn refuse<E: serde::de::Error>(self, fault: JsonFault) -> E {
        self.fault.set(fault);
        E::custom(fault.as_str())
    }
}

impl<'de> DeserializeSeed<'de> for JsonLevel<'_> {
    type Value = Json;

    fn deserialize<D: serde::Deserializer<'de>>(self, reader: D) -> Result<Json, D::Error> {
        reader.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for JsonLevel<'_> {
    type Value = Json;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Json, E> {
        Ok(Json::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Json, E> {
        Ok(Json::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Json, E> {
        Ok(Json::Integer(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Json, E> {
        Ok(i64::try_from(value).map_or(Json::Number(value as f64), Json::Integer))
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Json, E> {
        if value.is_finite() { Ok(Json::Number(value)) } else { Err(E::custom("not finite")) }
    }

    fn visit_str<E>(self, value: &str) -> Result<Json, E> {
        Ok(Json::Text(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Json, E> {
        Ok(Json::Text(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Json, A::Error> {
        let below = self.below()?;
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(below)? {
            list.push(item);
        }
        Ok(Json::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Json, A::Error> {
        let below = self.below()?;
        let mut members: Vec<(String, Json)> = Vec::new();
        while let Some(name) = entries.next_key::<String>()? {
            if members.iter().any(|(n, _)| *n == name) {
                return Err(self.refuse(JsonFault::Duplicate));
            }
            if members.len() == MEMBERS_MAX {
                return Err(self.refuse(JsonFault::TooMany));
            }
            members.push((name, entries.next_value_seed(below)?));
        }
        Ok(Json::Object(members))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_two_readings_is_refused() {
        let many =
            format!("{{{}\"x\":0}}", (0..300).map(|i| format!("\"a{i}\":0,")).collect::<String>());
        let deep = format!("{}{}", "[".repeat(17), "]".repeat(17));
        let cases: [(&[u8], JsonFault); 16] = [
            (br#"{"a":1,"a":2}"#, JsonFault::Duplicate),
            (br#"{"o":{"a":1,"\u0061":1}}"#, JsonFault::Duplicate),
            (br#"[{"a":1,"a":1}]"#, JsonFault::Duplicate),
            (br"{}{}", JsonFault::Syntax),
            (br"{} x", JsonFault::Syntax),
            (b"\xef\xbb\xbf{}", JsonFault::Syntax),
            (b"{\"a\":\"\xff\"}", JsonFault::NotUtf8),
            (br#"{"a":NaN}"#, JsonFault::Syntax),
            (br#"{"a":1e400}"#, JsonFault::Syntax),
            (br#"{"a":1e999999999}"#, JsonFault::Syntax),
            (br#"{"a":/**/1}"#, JsonFault::Syntax),
            (br#"{"a":"\ud800"}"#, JsonFault::Syntax),
            (br"{'a':1}", JsonFault::Syntax),
            (b"", JsonFault::Syntax),
            (many.as_bytes(), JsonFault::TooMany),
            (deep.as_bytes(), JsonFault::TooDeep),
        ];
        for (bytes, fault) in cases {
            assert_eq!(Json::parse(bytes), Err(fault), "{}", String::from_utf8_lossy(bytes));
        }
    }

    #[test]
    fn depth_is_bounded_without_touching_the_stack() {
        let bomb = "[".repeat(200_000);
        assert_eq!(Json::parse(bomb.as_bytes()), Err(JsonFault::TooDeep));
        let within = format!("{}{}", "[".repeat(16), "]".repeat(16));
        assert!(Json::parse(within.as_bytes()).is_ok());
    }

    #[test]
    fn numbers_keep_their_kind() {
        assert_eq!(Json::parse(b"9223372036854775807"), Ok(Json::Integer(i64::MAX)));
        assert!(matches!(Json::parse(b"18446744073709551615"), Ok(Json::Number(_))));
        assert_eq!(Json::parse(b" 1.5e3 "), Ok(Json::Number(1500.0)));
    }
}
