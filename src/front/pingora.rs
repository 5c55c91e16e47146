//! What pingora asks of a stream besides its bytes: who it is, what its TLS is, how it is closed.

use std::io;
use std::os::fd::AsRawFd;
use std::sync::Arc;

use async_trait::async_trait;
use pingora_core::protocols::raw_connect::ProxyDigest;
use pingora_core::protocols::tls::SslDigest;
use pingora_core::protocols::{
    ALPN, GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl,
    TimingDigest, UniqueID, UniqueIDType,
};
use pingora_http::ResponseHeader;
use tokio::io::AsyncWriteExt;

use super::conn::Conn;
use super::state::ConnInfo;
use super::tcp::Tcp;

/// What pingora passes on to the requests of a connection.
pub(super) struct Digests {
    fd: i32,
    ssl: Arc<SslDigest>,
    socket: Arc<SocketDigest>,
    proxy: Arc<ProxyDigest>,
}

impl Digests {
    pub(super) fn new(tcp: &Tcp, info: &Arc<ConnInfo>) -> io::Result<Self> {
        let fd = tcp.stream().as_raw_fd();
        let socket = SocketDigest::from_raw_fd(fd);
        // Filled in so that nobody asks the system for what accept() has told already.
        let _ = socket.peer_addr.set(Some(info.peer.into()));
        let _ = socket.local_addr.set(Some(info.local.into()));
        let ssl = SslDigest::new(info.cipher, info.tls_version, None, None, Vec::new());
        let unused = ResponseHeader::build(200, Some(0)).map_err(io::Error::other)?;
        let proxy = ProxyDigest::new(Box::new(unused), Some(Box::new(info.clone())));
        let (ssl, socket, proxy) = (Arc::new(ssl), Arc::new(socket), Arc::new(proxy));
        Ok(Digests { fd, ssl, socket, proxy })
    }
}

impl std::fmt::Debug for Conn {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Conn").field("info", &self.info()).finish_non_exhaustive()
    }
}

#[async_trait]
impl Shutdown for Conn {
    async fn shutdown(&mut self) {
        // The error is that there is nobody any more to say good-bye to.
        let _ = AsyncWriteExt::shutdown(self).await;
    }
}

impl UniqueID for Conn {
    fn id(&self) -> UniqueIDType {
        self.parser.as_ref().map_or(-1, |digests| digests.fd)
    }
}

impl Ssl for Conn {
    fn get_ssl_digest(&self) -> Option<Arc<SslDigest>> {
        Some(self.parser.as_ref()?.ssl.clone())
    }

    fn selected_alpn_proto(&self) -> Option<ALPN> {
        Some(if self.is_http2() { ALPN::H2 } else { ALPN::H1 })
    }
}

impl GetTimingDigest for Conn {
    fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
        Vec::new()
    }
}

impl GetProxyDigest for Conn {
    fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
        Some(self.parser.as_ref()?.proxy.clone())
    }
}

impl GetSocketDigest for Conn {
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        Some(self.parser.as_ref()?.socket.clone())
    }
}

#[async_trait]
impl Peek for Conn {}
