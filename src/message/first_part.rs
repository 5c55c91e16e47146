//! Finds the end of the first part of a multipart body that is still arriving.
//!
//! Scans each byte once, no matter how small the pieces are that a client sends.

use super::{MessageFault, part};

/// Finds where the first part of a body ends.
#[derive(Clone, Debug)]
pub struct FirstPart {
    /// The line before each part, without its CRLF.
    delimiter: Vec<u8>,
    /// The number of bytes already scanned.
    searched: usize,
}

impl FirstPart {
    /// For a body with this content type.
    ///
    /// # Errors
    /// [`MessageFault::ContentType`] if it does not name exactly one boundary.
    pub fn new(content_type: &[u8]) -> Result<Self, MessageFault> {
        let boundary = part::boundary(content_type)?;
        Ok(FirstPart { delimiter: format!("--{boundary}").into_bytes(), searched: 0 })
    }

    /// Returns the length of the body up to the end of the first part and its delimiter line, or
    /// `None` if more bytes are needed. `body` is everything received so far: the bytes of the last
    /// call, and perhaps more. [`super::envelope`] finds the same envelope in this prefix as in the
    /// whole body.
    ///
    /// # Errors
    /// [`MessageFault::Boundary`] as soon as the body does not begin with the boundary.
    pub fn end(&mut self, body: &[u8]) -> Result<Option<usize>, MessageFault> {
        let opening = self.delimiter.iter().chain(b"\r\n");
        if opening.zip(body).any(|(wanted, byte)| wanted != byte) {
            return Err(MessageFault::Boundary);
        }
        let from = self.searched.max(self.delimiter.len() + 2);
        let rest = body.get(from..).unwrap_or_default();
        match part::find(rest, &self.delimiter) {
            Some(at) => {
                // Two more bytes decide whether this is a delimiter.
                let end = from + at + self.delimiter.len() + 2;
                self.searched = from + at;
                Ok((end <= body.len()).then_some(end))
            }
            None => {
                self.searched = from.max((body.len() + 1).saturating_sub(self.delimiter.len()));
                Ok(None)
            }
        }
    }
}
