//! A client's message: the envelope (sender and target endpoint) and the request in its payload.
//! Both are parsed so strictly that no laxer parser behind the gateway can read a different
//! request.
//!
//! Verifies no signature and changes nothing.

mod first_part;
mod header;
mod inflate;
mod kind;
mod part;
mod payload;
mod text;
mod unreadable;
mod value;
mod xml;

pub use first_part::FirstPart;
pub use kind::{Asker, PayloadRequest};
pub use unreadable::Unreadable;

#[cfg(test)]
mod tests;

/// The HTTP method of messages.
pub const METHOD: &str = "CCM_POST";

/// The fields of a message's envelope.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope {
    /// The client: `GUID:` and a GUID; `None` before it has one.
    pub source_id: Option<String>,
    /// The target endpoint: letters, digits and underscores.
    pub target_endpoint: String,
    /// The encoding of its payload.
    pub encoding: Encoding,
    /// Whether all its other fields have plain values, too.
    pub is_plain: bool,
}

/// The encoding of a message's payload, by the hooks that its envelope names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// No compression.
    Plain,
    /// zlib (RFC 1950).
    Zlib,
    /// Contradictory or unknown hooks.
    Unclear,
}

impl Envelope {
    /// Whether a client sends this message before it can have any credential.
    pub fn is_open_to_everyone(&self) -> bool {
        kind::is_open(&self.target_endpoint)
    }

    /// Whether the endpoint is one that a management point serves without authentication, in any
    /// letter case. The payload of an unauthenticated request to it must be checked.
    pub fn asks_where_everyone_may(&self) -> bool {
        kind::is_one_of_the_open(&self.target_endpoint)
    }
}

/// Why a body is not accepted as a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MessageFault {
    /// Not one boundary: another parser could find other parts.
    #[error("the content type is not multipart with one plain boundary")]
    ContentType,
    /// Bytes before the first boundary: a parser with another boundary could take them for the
    /// envelope.
    #[error("the body does not begin with the boundary that its content type names")]
    Boundary,
    /// The first part does not end, or its header is ambiguous.
    #[error("the first part is not well-formed")]
    Part,
    /// Larger than any envelope.
    #[error("the first part is too large for an envelope")]
    Size,
    /// Not UTF-16, or with characters that XML does not allow.
    #[error("the first part is not UTF-16 text")]
    Text,
    /// Not well-formed XML.
    #[error("the envelope is not well-formed XML with the root Msg")]
    Xml,
    /// Elements nested too deeply.
    #[error("the envelope is nested too deeply")]
    Depth,
    /// Markup that parsers treat differently and that clients never write.
    #[error("the envelope has a comment, an instruction, a document type or an entity of its own")]
    Markup,
    /// A field that occurs twice, or in a place where only some parsers look.
    #[error("SourceID, TargetEndpoint or TargetAddress stands twice or in the wrong place")]
    Place,
    /// Not a client id. The value ends up in the site's database.
    #[error("SourceID is neither empty nor GUID: and a GUID")]
    SourceId,
    /// Missing, or not a plain name.
    #[error("TargetEndpoint is not one plain name")]
    TargetEndpoint,
    /// A parser that uses the address would deliver the message to another endpoint.
    #[error("TargetAddress names another endpoint than TargetEndpoint")]
    TargetAddress,
}

/// Reads the envelope of a message from its content type and its body.
///
/// # Errors
/// The first fault found.
pub fn envelope(content_type: &[u8], body: &[u8]) -> Result<Envelope, MessageFault> {
    let boundary = part::boundary(content_type)?;
    let part = part::first(boundary, body)?;
    header::read(&text::decode(part)?)
}

/// Reads the request in the payload of a message, from its content type, its whole body and its
/// envelope.
///
/// # Errors
/// Why the payload is not a request.
pub fn request(
    content_type: &[u8],
    body: &[u8],
    of: &Envelope,
) -> Result<PayloadRequest, Unreadable> {
    if !of.is_plain {
        return Err(Unreadable::Field);
    }
    let second = part::boundary(content_type).and_then(|boundary| part::second(boundary, body));
    payload::read(second.map_err(|_| Unreadable::Parts)?, of.encoding)
}
