//! The envelope of a client's message: who sends it and what it is for, read from the first part of
//! its body so strictly that no laxer reader behind can find another one in it.
//!
//! Looks at no later part, verifies no signature and changes nothing.

mod arrival;
mod header;
mod part;
mod text;

pub use arrival::FirstPart;

#[cfg(test)]
mod tests;

/// What a message says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope {
    /// The client: `GUID:` and a GUID; `None` before it has one.
    pub source_id: Option<String>,
    /// Whom the message is for: letters, digits and underscores.
    pub target_endpoint: String,
}

impl Envelope {
    /// Whether the message is one that a client sends before it can have any credential.
    pub fn is_open_to_everyone(&self) -> bool {
        matches!(&*self.target_endpoint, "MP_ClientRegistration" | "MP_LocationManager")
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
