//! Inflates a payload that a client has compressed, with a size limit.

use flate2::{Decompress, FlushDecompress, Status};

use super::Unreadable;

/// The largest inflated payload: larger than any request that a client sends without a token.
pub(super) const INFLATED_BYTES_MAX: usize = 256 * 1024;

/// Inflates one complete zlib stream that spans all of these bytes.
pub(super) fn inflate(bytes: &[u8]) -> Result<Vec<u8>, Unreadable> {
    let mut inflater = Decompress::new(true);
    let mut out = Vec::with_capacity(INFLATED_BYTES_MAX + 1);
    // Writes only into the existing capacity; does not grow the vector.
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
