//! Chooses the backend connection of a request: an idle one, or a new one to the first address that
//! can be connected to (failover).

use std::time::Duration;

use super::attempt::Attempt;
use super::backend_connection::BackendConnection;
use super::outgoing::Outgoing;
use super::transport::{ConnectTarget, Stream};
use super::{ConnectionReuse, Failed};
use crate::denial::Denial;

/// The longest idle time of a pooled connection for a request that is unsafe to retry. The longer
/// it was idle, the likelier the backend is just closing it.
const FRESH: Duration = Duration::from_secs(5);
/// The most addresses to try in turn (failover to the next address).
const ADDRESSES_MAX: usize = 2;

/// Takes an idle connection, or opens a new one. If an address cannot be connected to, the next one
/// is tried.
pub(super) async fn open(
    whose: &mut ConnectionReuse<'_>,
    going: &Outgoing,
    attempt: &Attempt,
    fresh: bool,
) -> Result<BackendConnection, Failed> {
    let backend = going
        .upstream()
        .ok_or_else(|| Failed::because(Denial::GatewayInternal, "the route has no backend"))?;
    let peers = backend.peers();
    if !fresh {
        let age = if going.repeatable { Duration::MAX } else { FRESH };
        let waiting =
            |target: ConnectTarget| whose.take(&target, age).map(|stream| (target, stream));
        if let Some((target, stream)) = peers.iter().find_map(waiting) {
            attempt.reuse(&target);
            return Ok(BackendConnection::new(stream, target.peer, true, going));
        }
    }
    let nowhere = "the backend's name has no address";
    let mut failed = Failed::because(Denial::UpstreamUnreachable, nowhere);
    for target in peers.iter().take(ADDRESSES_MAX) {
        match attempt.connect(&target, backend.tls.as_ref(), backend.times.connect).await {
            Ok(stream) => return Ok(BackendConnection::new(stream, target.peer, false, going)),
            Err(why) => {
                let detail = format!("{}: {why}", target.peer.address);
                failed = Failed::because(why.denial(), detail);
            }
        }
    }
    Err(failed)
}

impl ConnectionReuse<'_> {
    /// Takes an idle connection that was idle no longer than `age`.
    fn take(&mut self, target: &ConnectTarget, age: Duration) -> Option<Stream> {
        match self {
            ConnectionReuse::Pool(pool) => pool.take(&target.peer, age),
            ConnectionReuse::Client(kept) => {
                let (_, waiting) = kept.take_if(|(peer, _)| *peer == target.peer)?;
                waiting.take()
            }
            ConnectionReuse::Never => None,
        }
    }
}
