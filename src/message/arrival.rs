//! The first part of a body that is still arriving: when it is there as a whole.
//!
//! Looks at each byte once, however small the pieces are that a client sends.

use super::{Fault, part};

/// Where the first part of a body ends.
#[derive(Clone, Debug)]
pub struct FirstPart {
    /// What stands before each part, without the line feed after it.
    delimiter: Vec<u8>,
    /// How much was searched for its end.
    searched: usize,
}

impl FirstPart {
    /// That of a body with this content type.
    ///
    /// # Errors
    /// [`Fault::ContentType`] if that names no one boundary.
    pub fn new(content_type: &[u8]) -> Result<Self, Fault> {
        let boundary = part::boundary(content_type)?;
        Ok(FirstPart { delimiter: format!("--{boundary}").into_bytes(), searched: 0 })
    }

    /// How much of the body holds the first part and the line that ends it, once that is there.
    /// `body` is all that has come so far: what was there before, and perhaps more.
    /// [`super::envelope`] finds no other envelope in so much of it than in the whole.
    ///
    /// # Errors
    /// [`Fault::Boundary`] as soon as the body begins otherwise.
    pub fn end(&mut self, body: &[u8]) -> Result<Option<usize>, Fault> {
        let opening = self.delimiter.iter().chain(b"\r\n");
        if opening.zip(body).any(|(wanted, byte)| wanted != byte) {
            return Err(Fault::Boundary);
        }
        let from = self.searched.max(self.delimiter.len() + 2);
        let rest = body.get(from..).unwrap_or_default();
        match part::find(rest, &self.delimiter) {
            Some(at) => {
                // Two more bytes say whether it is a delimiter.
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
