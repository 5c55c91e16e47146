//! Declares the keys of a section once: name, type, default, bounds and description.
//!
//! The type that parses the section, the resolved values and the JSON schema are made of the
//! declaration; the annotated configuration and docs/configuration.md are generated from it.

use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::{Map, Value};

use super::scope::ResolveScope;
use super::spanned::Spanned;
use super::units::{Size, Span};

/// A key of a section. Values are text as people write it: `20000`, `64KiB`, `10s`.
#[derive(Debug)]
pub struct KeyDeclaration {
    /// Its name in the file.
    pub name: &'static str,
    /// Its description: a first paragraph for editors and the annotated configuration, and further
    /// ones for the reference.
    pub about: &'static [&'static str],
    /// Its value if the file has none. Without a default, the description says what that means.
    pub default: Option<&'static str>,
    /// A value for the annotated configuration, if there is no default.
    pub example: Option<&'static str>,
    /// The least value.
    pub least: &'static str,
    /// The greatest value.
    pub most: Option<&'static str>,
}

impl KeyDeclaration {
    /// For what a declaration leaves out.
    pub(super) const NONE: KeyDeclaration = KeyDeclaration {
        name: "",
        about: &[],
        default: None,
        example: None,
        least: "",
        most: None,
    };

    /// Returns the paragraphs of the description.
    pub fn paragraphs(&self) -> Vec<String> {
        let paragraphs = self.about.split(|line| line.is_empty());
        paragraphs.map(|lines| lines.concat().trim().to_owned()).collect()
    }

    /// Returns the default as a number.
    pub(super) fn default_number<K: ValueKind>(&self) -> Option<u64> {
        self.default.and_then(K::parse)
    }

    /// Returns a value within the bounds. Another one is reported.
    fn bounded<K: ValueKind>(
        &self,
        typed: Option<Spanned<K::Typed>>,
        scope: &mut ResolveScope<'_>,
    ) -> Option<u64> {
        let typed = typed?;
        let value = K::number(typed.get_ref());
        let declared = |text| K::parse(text).unwrap_or_default();
        if value >= declared(self.least) && self.most.is_none_or(|most| value <= declared(most)) {
            return Some(value);
        }
        let (name, least) = (self.name, self.least);
        scope.error(
            typed.span(),
            match self.most {
                Some(most) => format!("{name} must be between {least} and {most}"),
                None => format!("{name} must be at least {least}"),
            },
        );
        None
    }
}

/// Writes a value as in the file.
pub fn in_toml(value: &str) -> String {
    let is_number = value.bytes().all(|b| b.is_ascii_digit());
    if is_number { value.to_owned() } else { format!("\"{value}\"") }
}

/// A kind of value: what the file has, what the program gets, and a number for comparison.
pub trait ValueKind {
    /// The type in the file.
    type Typed: JsonSchema;
    /// The resolved type.
    type Resolved;

    /// The number of items, bytes or milliseconds.
    fn number(typed: &Self::Typed) -> u64;

    /// The number of a declared value.
    fn parse(text: &str) -> Option<u64>;

    /// The resolved value.
    fn resolved(number: u64) -> Self::Resolved;
}

/// The field of a key: its kind, or an `Option` of it for a key without a default.
pub trait DeclaredField {
    /// The kind of value.
    type Kind: ValueKind;
    /// The type of the field.
    type Field;

    /// Makes the field.
    fn field(number: Option<u64>) -> Self::Field;
}

impl<K: ValueKind> DeclaredField for K {
    type Kind = K;
    type Field = K::Resolved;

    fn field(number: Option<u64>) -> K::Resolved {
        K::resolved(number.unwrap_or_default())
    }
}

impl<K: ValueKind> DeclaredField for Option<K> {
    type Kind = K;
    type Field = Option<K::Resolved>;

    fn field(number: Option<u64>) -> Option<K::Resolved> {
        number.map(K::resolved)
    }
}

/// Resolves a key. A value beyond the bounds is reported, and the default taken.
pub(super) fn resolve<F: DeclaredField>(
    key: &KeyDeclaration,
    typed: Option<Spanned<<F::Kind as ValueKind>::Typed>>,
    scope: &mut ResolveScope<'_>,
) -> F::Field {
    F::field(key.bounded::<F::Kind>(typed, scope).or_else(|| key.default_number::<F::Kind>()))
}

/// A number of items.
#[derive(Debug)]
pub struct Number;

impl ValueKind for Number {
    type Typed = u32;
    type Resolved = usize;

    fn number(typed: &u32) -> u64 {
        u64::from(*typed)
    }

    fn parse(text: &str) -> Option<u64> {
        text.parse().ok()
    }

    fn resolved(number: u64) -> usize {
        usize::try_from(number).unwrap_or(usize::MAX)
    }
}

/// A number of bytes.
#[derive(Debug)]
pub struct Bytes;

impl ValueKind for Bytes {
    type Typed = Size;
    type Resolved = usize;

    fn number(typed: &Size) -> u64 {
        typed.0
    }

    fn parse(text: &str) -> Option<u64> {
        Size::parse(text).map(|size| size.0)
    }

    fn resolved(number: u64) -> usize {
        usize::try_from(number).unwrap_or(usize::MAX)
    }
}

/// A duration.
#[derive(Debug)]
pub struct Time;

impl ValueKind for Time {
    type Typed = Span;
    type Resolved = Duration;

    fn number(typed: &Span) -> u64 {
        u64::try_from(typed.0.as_millis()).unwrap_or(u64::MAX)
    }

    fn parse(text: &str) -> Option<u64> {
        Span::parse(text).map(|span| Time::number(&span))
    }

    fn resolved(number: u64) -> Duration {
        Duration::from_millis(number)
    }
}

/// The schema of a key.
pub(super) fn property<K: ValueKind>(key: &KeyDeclaration, to: &mut SchemaGenerator) -> Schema {
    let mut schema = K::Typed::json_schema(to);
    let number = |text: &str| text.parse::<u64>().ok().map(Value::from);
    let default = key.default.map(|text| number(text).unwrap_or_else(|| text.into()));
    let is_number = schema.get("type") == Some(&Value::from("integer"));
    let (least, most) = (number(key.least), key.most.and_then(number));
    let bounds = [("minimum", least), ("maximum", most)];
    let bounds = bounds.into_iter().filter(|_| is_number);
    let more = [
        ("default", default),
        ("description", key.paragraphs().into_iter().next().map(Value::from)),
    ];
    for (name, value) in bounds.chain(more) {
        if let Some(value) = value {
            schema.insert(name.to_owned(), value);
        }
    }
    schema
}

/// The schema of a section.
pub(super) fn object(properties: Map<String, Value>) -> Schema {
    json_schema!({ "type": "object", "properties": properties, "additionalProperties": false })
}

/// Declares a section: the type of the file's keys and that of the resolved values. Each key has a
/// description, a kind, a `default` (or an `example`, if it is optional) and its bounds.
macro_rules! section {
    (
        $(#[doc = $title:literal])*
        $section:ident from $file:ident;
        $(
            $(#[doc = $about:literal])*
            $key:ident: $kind:ty, $word:ident $value:literal, from $least:literal $(to $most:literal)?;
        )*
    ) => {
        $(#[doc = $title])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub struct $section {
            $($(#[doc = $about])* pub $key: <$kind as DeclaredField>::Field,)*
        }

        $(#[doc = $title])*
        #[derive(Debug, Default, serde::Deserialize)]
        #[serde(default, deny_unknown_fields)]
        pub(in crate::config) struct $file {
            $($key: Option<Spanned<<<$kind as DeclaredField>::Kind as ValueKind>::Typed>>,)*
        }

        impl $section {
            /// The keys of the section, in the order of the documentation.
            pub const KEYS: &[KeyDeclaration] = &[
                $(section!(@key $key [$($about)*] $word $value, $least $($most)?),)*
            ];

            pub(in crate::config) fn resolve(
                file: $file,
                scope: &mut ResolveScope<'_>,
            ) -> $section {
                $section { $($key: resolve::<$kind>(
                    &section!(@key $key [$($about)*] $word $value, $least $($most)?),
                    file.$key,
                    scope,
                ),)* }
            }
        }

        impl Default for $section {
            fn default() -> $section {
                $section { $($key: <$kind as DeclaredField>::field(
                    section!(@key $key [$($about)*] $word $value, $least $($most)?)
                        .default_number::<<$kind as DeclaredField>::Kind>(),
                ),)* }
            }
        }

        impl JsonSchema for $file {
            fn schema_name() -> Cow<'static, str> {
                stringify!($file).into()
            }

            fn json_schema(generator: &mut SchemaGenerator) -> Schema {
                let mut properties = Map::new();
                $(properties.insert(
                    stringify!($key).to_owned(),
                    property::<<$kind as DeclaredField>::Kind>(
                        &section!(@key $key [$($about)*] $word $value, $least $($most)?),
                        generator,
                    ).to_value(),
                );)*
                object(properties)
            }
        }
    };
    (@key $key:ident [$($about:literal)*] $word:ident $value:literal, $least:literal $($most:literal)?) => {
        KeyDeclaration {
            name: stringify!($key),
            about: &[$($about),*],
            least: $least,
            $(most: Some($most),)?
            $word: Some($value),
            ..KeyDeclaration::NONE
        }
    };
}
pub(super) use section;
