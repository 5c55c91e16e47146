//! The kinds of configuration errors: a closed list. Reports, logs and the documentation share the
//! codes; the message beside a code gives the details.

macro_rules! codes {
    ($($(#[doc = $doc:literal])+ $variant:ident $code:literal;)+) => {
        /// The kind of a configuration error.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum ConfigCode { $($(#[doc = $doc])+ $variant,)+ }

        impl ConfigCode {
            /// Every kind, in the order of the documentation.
            pub const ALL: &[ConfigCode] = &[$(ConfigCode::$variant,)+];

            /// `config.kind`: what reports show, and the row of docs/configuration.md.
            pub const fn as_str(self) -> &'static str {
                match self { $(ConfigCode::$variant => $code,)+ }
            }
        }
    };
}

codes! {
    /// The file cannot be read.
    Unreadable "config.unreadable";
    /// It is not valid TOML.
    Syntax "config.syntax";
    /// A key or a section that does not exist.
    UnknownKey "config.unknown_key";
    /// A required key is missing.
    Missing "config.missing";
    /// An invalid value.
    Value "config.value";
    /// Two settings contradict each other, or one requires another.
    Conflict "config.conflict";
    /// A file or variable that is named is missing or unusable.
    File "config.file";
    /// A secret would be readable by others.
    Exposed "config.exposed";
    /// An insecure setting that should not be permanent: a warning.
    Open "config.open";
}
