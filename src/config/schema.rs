//! The JSON schema of the configuration file, for editors: generated from the types that parse it.
//!
//! It accepts every file that sitegate accepts. Rules that it cannot express (existing files, known
//! names, keys that depend on each other) are left to `sitegate check`.

use schemars::Schema;
use schemars::generate::SchemaSettings;
use schemars::transform::transform_subschemas;
use serde_json::Value;

use super::file::ConfigFile;

/// The schema of a configuration file, in the dialect that TOML editors support best (draft 7), and
/// without references, so that each key has its description beside it.
pub fn schema() -> Value {
    let mut settings = SchemaSettings::draft07().for_deserialize().with_transform(in_terms_of_toml);
    settings.inline_subschemas = true;
    settings.into_generator().into_root_schema_for::<ConfigFile>().to_value()
}

/// Adapts the schema to TOML, which has no null, and removes Rust's integer formats.
fn in_terms_of_toml(schema: &mut Schema) {
    transform_subschemas(&mut in_terms_of_toml, schema);
    let null = Value::from("null");
    if let Some(types) = schema.get_mut("type").and_then(Value::as_array_mut) {
        types.retain(|one| *one != null);
        if let [only] = types.as_slice() {
            let only = only.clone();
            schema.insert("type".to_owned(), only);
        }
    }
    if let Some(words) = schema.get_mut("enum").and_then(Value::as_array_mut) {
        words.retain(|word| !word.is_null());
    }
    if let Some(kinds) = schema.get_mut("anyOf").and_then(Value::as_array_mut) {
        kinds.retain(|kind| kind.get("type") != Some(&null));
        if let [Value::Object(only)] = kinds.as_slice() {
            let only = only.clone();
            schema.remove("anyOf");
            for (key, value) in only {
                schema.ensure_object().entry(key).or_insert(value);
            }
        }
    }
    if schema.get("default").is_some_and(Value::is_null) {
        schema.remove("default");
    }
    if schema.get("type") == Some(&Value::from("integer")) {
        schema.remove("format");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::resolve::SECTIONS;

    #[test]
    fn the_schema_has_the_sections_that_are_read() {
        let schema = schema();
        let sections = schema.pointer("/properties").and_then(Value::as_object).unwrap();
        let mut read = SECTIONS.to_vec();
        read.sort_unstable();
        assert_eq!(sections.keys().collect::<Vec<_>>(), read);
    }

    #[test]
    fn nothing_is_null_and_nothing_is_elsewhere() {
        let text = schema().to_string();
        for unwanted in ["null", "$ref", "definitions", "uint"] {
            assert!(!text.contains(unwanted), "{unwanted}");
        }
    }
}
