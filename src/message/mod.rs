//! A client's message: its envelope, which says who sends it and what it is for, and the request in
//! its payload, each read so strictly that no laxer reader behind can find another one in it.
//!
//! Verifies no signature and changes nothing.

mod arrival;
mod header;
mod inflate;
mod kind;
mod part;
mod payload;
mod text;
mod value;
mod xml;

pub use arrival::FirstPart;
pub use kind::Asker;
pub use payload::{Request, Unreadable};

#[cfg(test)]
mod tests;

/// What a message says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope {
    /// The client: `GUID:` and a GUID; `None` before it has one.
    pub source_id: Option<String>,
    /// Whom the message is for: letters, digits and underscores.
    pub target_endpoint: String,
    /// How its payload is written.
    pub encoding: Encoding,
    /// Whether all its other fields have plain values, too.
    pub is_plain: bool,
}

/// How the payload of a message is written, by the hooks that its envelope names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// As it is.
    Plain,
    /// By zlib (RFC 1950).
    Zlib,
    /// More than one answer, or hooks that nobody here knows.
    Unclear,
}

impl Envelope {
    /// Whether the message is one that a client sends before it can have any credential.
    pub fn is_open_to_everyone(&self) -> bool {
        kind::is_open(&self.target_endpoint)
    }

    /// Whether its endpoint is one that a management point offers to everyone, in any case: what it
    /// asks there has to be judged where nobody is known to have sent it.
    pub fn asks_where_everyone_may(&self) -> bool {
        kind::is_one_of_the_open(&self.target_endpoint)
    }
}

/// Why a body is not taken for a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// Another reader could look for parts elsewhere.
    #[error("the content type is not multipart with one plain boundary")]
    ContentType,
    /// What stands before the first boundary is the envelope to a reader with another boundary.
    #[error("the body does not begin with the boundary that its content type names")]
    Boundary,
    /// The first part does not end, or its head has more than one reading.
    #[error("the first part is not well-formed")]
    Part,
    /// No envelope is that large.
    #[error("the first part is too large for an envelope")]
    Size,
    /// Not UTF-16, or characters that XML does not have.
    #[error("the first part is not UTF-16 text")]
    Text,
    /// Not well-formed.
    #[error("the envelope is not well-formed XML with the root Msg")]
    Xml,
    /// Elements in elements without end.
    #[error("the envelope is nested too deeply")]
    Depth,
    /// Where parsers differ, and no client writes it.
    #[error("the envelope has a comment, an instruction, a document type or an entity of its own")]
    Markup,
    /// Two senders, or one where only some would look.
    #[error("SourceID, TargetEndpoint or TargetAddress stands twice or in the wrong place")]
    Place,
    /// Not a client's id: it ends up in the site's database.
    #[error("SourceID is neither empty nor GUID: and a GUID")]
    SourceId,
    /// None, or not a plain name.
    #[error("TargetEndpoint is not one plain name")]
    TargetEndpoint,
    /// A reader that goes by the address would deliver the message to another endpoint.
    #[error("TargetAddress names another endpoint than TargetEndpoint")]
    TargetAddress,
}

/// The envelope of a message, from its content type and its body.
///
/// # Errors
/// The first fault found.
pub fn envelope(content_type: &[u8], body: &[u8]) -> Result<Envelope, Fault> {
    let boundary = part::boundary(content_type)?;
    let part = part::first(boundary, body)?;
    header::read(&text::decode(part)?)
}

/// The request in the payload of a message, from its content type, its whole body and its envelope.
///
/// # Errors
/// Why it is not read as one.
pub fn request(content_type: &[u8], body: &[u8], of: &Envelope) -> Result<Request, Unreadable> {
    if !of.is_plain {
        return Err(Unreadable::Field);
    }
    let second = part::boundary(content_type).and_then(|boundary| part::second(boundary, body));
    payload::read(second.map_err(|_| Unreadable::Parts)?, of.encoding)
}
