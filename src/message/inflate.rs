//! A payload that a client has compressed, inflated within bounds.

use flate2::{Decompress, FlushDecompress, Status};

use super::Unreadable;

/// What a payload may come to: more than any request of a client without a token has.
pub(super) const INFLATED_BYTES_MAX: usize = 256 * 1024;

/// Inflate one zlib stream that is all of these bytes, and whole.
pub(super) fn inflate(bytes: &[u8]) -> Result<Vec<u8>, Unreadable> {
    let mut inflater = Decompress::new(true);
    let mut out = Vec::with_capacity(INFLATED_BYTES_MAX + 1);
    // Writes into the capacity that there is, and no further.
    let status = inflater.decompress_vec(bytes, &mut out, FlushDecompress::Finish);
    if out.len() > INFLATED_BYTES_MAX {
        return Err(Unreadable::Size);
    }
    let whole = usize::try_from(inflater.total_in()).is_ok_and(|read| read == bytes.len());
    match status {
        Ok(Status::StreamEnd) if whole => Ok(out),
        _ => Err(Unreadable::Zlib),
    }
}
