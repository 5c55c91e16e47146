//! Why a payload is not accepted as a request.

use super::xml::Unread;

/// Why a payload is not accepted as a request.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// Not exactly two parts, or bytes after them.
    #[error("the body is not two parts and its end")]
    Parts,
    /// The other fields of the envelope may end up in the database as the sender's id does.
    #[error("a field of the envelope is not plain")]
    Field,
    /// Contradictory or unknown declarations of the payload's encoding.
    #[error("the envelope has hooks or a body that are not known")]
    Hooks,
    /// Not what its hook declares.
    #[error("the payload is not one whole zlib stream")]
    Zlib,
    /// A decompression bomb.
    #[error("the payload is larger than any request")]
    Size,
    /// Not UTF-16, or with characters that XML does not allow.
    #[error("the payload is not UTF-16 text")]
    Text,
    /// Not well-formed XML.
    #[error("the payload is not well-formed XML")]
    Xml,
    /// Comments, entities, CDATA sections or namespaces: parsers treat them differently, and
    /// clients never write them.
    #[error("the payload has markup other than elements, attributes and text")]
    Markup,
    /// Too many elements, or nested too deeply.
    #[error("the payload has too many elements, or they are nested too deeply")]
    Depth,
    /// A duplicate of something that must be unique, or a request within a request.
    #[error("the payload holds something twice that a request has once")]
    Twice,
    /// A value that could become more than a value in a statement of the site's database.
    #[error("a value of the payload is not plain: {0}")]
    Value(String),
}

impl From<Unread> for Unreadable {
    fn from(unread: Unread) -> Self {
        match unread {
            Unread::Form => Unreadable::Xml,
            Unread::Depth => Unreadable::Depth,
            Unread::Markup => Unreadable::Markup,
        }
    }
}
