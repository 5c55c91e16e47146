//! What kind of thing is wrong with a configuration: a closed list. A code is what reports, logs and
//! the documentation share; the message beside it says what it is about.

macro_rules! codes {
    ($($(#[doc = $doc:literal])+ $variant:ident $code:literal;)+) => {
        /// What kind of thing is wrong.
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
    /// It is no TOML.
    Syntax "config.syntax";
    /// A key or a section that does not exist.
    UnknownKey "config.unknown_key";
    /// A key that has to be there is not.
    Missing "config.missing";
    /// A value that its key cannot have.
    Value "config.value";
    /// Two things contradict each other, or one needs another.
    Conflict "config.conflict";
    /// A file or variable that is named is missing or no good.
    File "config.file";
    /// A secret would be readable by others.
    Exposed "config.exposed";
    /// Something stands open that should not stay so: a warning.
    Open "config.open";
}
