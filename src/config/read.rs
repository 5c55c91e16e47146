//! Parses text into typed sections, and collects every fault of every key.
//!
//! serde stops at the first fault of a table. Each key is therefore tried separately first; a
//! faulty one is reported and left out, and the rest is read as a whole.

use std::ops::Range;

use serde::de::{self, DeserializeOwned, Deserializer, Visitor};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::code::ConfigCode;
use super::error::ConfigError;

/// A table of the file during parsing.
pub(super) type Table<'i> = DeTable<'i>;

/// Reads a table as the section `T`, whose fields all have a default. Unknown keys and invalid
/// values are reported; the section is then read without them.
pub(super) fn section<T: DeserializeOwned + Default>(
    table: &Table<'_>,
    span: Range<usize>,
    name: &str,
    errors: &mut Vec<ConfigError>,
) -> T {
    let known = keys_of::<T>();
    let mut sound = Table::new();
    for (key, value) in table.iter() {
        let key_name: &str = key.get_ref();
        if !known.contains(&key_name) {
            errors.push(unknown(key.span(), key_name, name, known));
            continue;
        }
        let mut alone = Table::new();
        alone.insert(key.clone(), value.clone());
        match read::<T>(alone, span.clone()) {
            Ok(_) => {
                sound.insert(key.clone(), value.clone());
            }
            Err(error) => errors.push(unfit(key_name, value, &error)),
        }
    }
    read(sound, span).unwrap_or_default()
}

fn read<T: DeserializeOwned>(table: Table<'_>, span: Range<usize>) -> Result<T, toml::de::Error> {
    T::deserialize(toml::Deserializer::from(Spanned::new(span, table)))
}

/// A value of a wrong type. The value may be a secret, so the message does not repeat it.
fn unfit(key: &str, value: &Spanned<DeValue<'_>>, error: &toml::de::Error) -> ConfigError {
    let message = error.message().trim_end().replace("expected a sequence", "expected a list");
    let at = error.span().unwrap_or_else(|| value.span());
    let whole = at == value.span();
    let hint = match value.get_ref() {
        DeValue::String(_) if whole && message.ends_with("expected a list") => {
            Some(format!("write it in brackets: {key} = [\"…\"]"))
        }
        DeValue::String(_) if whole && message.ends_with("expected a boolean") => {
            Some(format!("write {key} = true or {key} = false, without quotation marks"))
        }
        DeValue::Array(_) if whole && message.ends_with("expected a string") => {
            Some(format!("write one string, without brackets: {key} = \"…\""))
        }
        DeValue::Integer(_) | DeValue::Float(_) | DeValue::Boolean(_) | DeValue::Datetime(_)
            if message.ends_with("expected a string") =>
        {
            Some(format!("write it in quotation marks: {key} = \"…\""))
        }
        _ => None,
    };
    let error = ConfigError::at(at, format!("{key}: {message}"));
    match hint {
        Some(hint) => error.hint(hint),
        None => error,
    }
}

fn unknown(span: Range<usize>, key: &str, section: &str, known: &[&str]) -> ConfigError {
    let error = ConfigError::at(span, format!("unknown key '{key}' in {section}"))
        .code(ConfigCode::UnknownKey);
    match nearest(key, known) {
        Some(near) => error.hint(format!("did you mean '{near}'?")),
        None => error.hint(format!("known keys: {}", known.join(", "))),
    }
}

/// The known word that `word` is probably a misspelling of.
pub(super) fn nearest<'a>(word: &str, known: &[&'a str]) -> Option<&'a str> {
    known
        .iter()
        .map(|k| (strsim::damerau_levenshtein(word, k), *k))
        .filter(|(distance, k)| *distance <= 1 + k.len() / 4)
        .min()
        .map(|(_, k)| k)
}

/// A sub-table, or an error that names the expected type.
pub(super) fn table<'t, 'i>(
    value: &'t Spanned<DeValue<'i>>,
    name: &str,
    errors: &mut Vec<ConfigError>,
) -> Option<&'t Table<'i>> {
    let table = value.get_ref().as_table();
    if table.is_none() {
        errors.push(ConfigError::at(value.span(), format!("{name} must be a table: [{name}]")));
    }
    table
}

/// The tables of an array of tables, with their spans.
pub(super) fn tables<'t, 'i>(
    value: &'t Spanned<DeValue<'i>>,
    name: &str,
    errors: &mut Vec<ConfigError>,
) -> Vec<(Range<usize>, &'t Table<'i>)> {
    let Some(array) = value.get_ref().as_array() else {
        let message = format!("{name} must be an array of tables: [[{name}]]");
        errors.push(ConfigError::at(value.span(), message));
        return Vec::new();
    };
    let mut found = Vec::new();
    for item in array.iter() {
        if let Some(inner) = table(item, name, errors) {
            found.push((item.span(), inner));
        }
    }
    found
}

/// The names of a struct's fields, from its own `Deserialize`.
fn keys_of<T: DeserializeOwned>() -> &'static [&'static str] {
    struct Ask<'a>(&'a mut &'static [&'static str]);

    impl<'de> Deserializer<'de> for Ask<'_> {
        type Error = de::value::Error;

        fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Self::Error> {
            Err(de::Error::custom("not a struct"))
        }

        fn deserialize_struct<V: Visitor<'de>>(
            self,
            _: &'static str,
            fields: &'static [&'static str],
            visitor: V,
        ) -> Result<V::Value, Self::Error> {
            *self.0 = fields;
            self.deserialize_any(visitor)
        }

        serde::forward_to_deserialize_any! {
            bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf
            option unit unit_struct newtype_struct seq tuple tuple_struct map enum identifier
            ignored_any
        }
    }

    let mut keys: &'static [&'static str] = &[];
    let _ = T::deserialize(Ask(&mut keys));
    keys
}
