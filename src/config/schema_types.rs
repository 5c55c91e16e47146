//! The parts of the JSON schema: the types of values, and lists of words.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

use super::requirements::REQUIREMENTS;
use super::spanned::Spanned;
use super::units::{Size, Span};
use crate::purpose::Purpose;
use crate::route::Role;

/// The schema of a spanned value is that of the value.
impl<T: JsonSchema> JsonSchema for Spanned<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        T::schema_name()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        T::json_schema(generator)
    }
}

impl JsonSchema for Span {
    fn schema_name() -> Cow<'static, str> {
        "Span".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": r"^\s*[0-9]+\s*(ms|s|m|h|d)\s*$" })
    }
}

impl JsonSchema for Size {
    fn schema_name() -> Cow<'static, str> {
        "Size".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": ["integer", "string"],
            "minimum": 0,
            "pattern": r"^\s*[0-9]+\s*(B|KiB|MiB|GiB|TiB)?\s*$",
        })
    }
}

/// A string from a list of words.
fn words<'a>(words: impl IntoIterator<Item = &'a str>) -> Schema {
    json_schema!({ "type": "string", "enum": words.into_iter().collect::<Vec<_>>() })
}

fn list(items: Schema) -> Schema {
    json_schema!({ "type": "array", "items": items })
}

pub(super) fn roles(_: &mut SchemaGenerator) -> Schema {
    list(words(Role::ALL.map(Role::as_str)))
}

pub(super) fn role(_: &mut SchemaGenerator) -> Schema {
    words(Role::ALL.map(Role::as_str))
}

pub(super) fn purposes(_: &mut SchemaGenerator) -> Schema {
    list(words(Purpose::ALL.map(Purpose::as_str)))
}

pub(super) fn requirement(_: &mut SchemaGenerator) -> Schema {
    words(REQUIREMENTS.iter().map(|(word, _)| *word))
}

/// A time with an offset: a type in TOML but not in JSON, so editors pass it as text.
pub(super) fn instant(_: &mut SchemaGenerator) -> Schema {
    let date = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ]";
    let time = r"[0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]+)?)?([Zz]|[+-][0-9]{2}:[0-9]{2})$";
    json_schema!({ "type": "string", "pattern": format!("{date}{time}") })
}
