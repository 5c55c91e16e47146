//! The PROXY protocol header (version 2), by which a load balancer announces the client of a
//! connection. Reads exactly the header and not a byte more.
//!
//! Only for connections from listed addresses. Supplies only the client's address.

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use tokio::io::{AsyncRead, AsyncReadExt};

use super::limits::{Admitted, Full};
use crate::config::Limits;
use crate::metrics::ConnectionEnd;

/// PROXY protocol specification, §2.2.
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
const FIXED_BYTES: usize = 16;
/// The most bytes after the fixed part: together they fit into one segment of any network, and
/// balancers send no more.
const REST_BYTES_MAX: usize = 520;

/// The announced owner of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Announced {
    /// The balancer itself (a health check), or unspecified.
    Unsaid,
    /// This client.
    Client(SocketAddr),
}

/// The fault for which a load balancer's connection is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ProxyHeaderFault {
    /// It does not begin with the header, or the header is malformed.
    Malformed,
    /// It ended before its first byte, as TCP health checks do.
    Silent,
}

/// Reads the header of a load balancer's connection. Returns the client's address, which counts
/// toward the limits from here on; the balancer's own does not.
///
/// # Errors
/// The reason to close the connection.
pub(super) async fn client_of<R: AsyncRead + Unpin>(
    stream: &mut R,
    balancer: SocketAddr,
    admitted: &mut Admitted,
    limits: &Limits,
) -> Result<SocketAddr, ConnectionEnd> {
    match read(stream).await {
        Ok(Announced::Unsaid) => Ok(balancer),
        Ok(Announced::Client(client)) => match admitted.count(client.ip(), limits) {
            Ok(()) => Ok(client),
            Err(Full::Address) => Err(ConnectionEnd::TooManyOfAddress),
            Err(Full::Connections) => Err(ConnectionEnd::TooMany),
        },
        Err(ProxyHeaderFault::Silent) => Err(ConnectionEnd::HandshakeClosed),
        Err(ProxyHeaderFault::Malformed) => {
            tracing::debug!(%balancer, "a load balancer sent no PROXY protocol header");
            Err(ConnectionEnd::ProxyHeader)
        }
    }
}

async fn read<R: AsyncRead + Unpin>(stream: &mut R) -> Result<Announced, ProxyHeaderFault> {
    let mut fixed = [0; FIXED_BYTES];
    let mut read = 0;
    while let Some(free) = fixed.get_mut(read..).filter(|free| !free.is_empty()) {
        read += match stream.read(free).await {
            Ok(0) if read == 0 => return Err(ProxyHeaderFault::Silent),
            Ok(n) if n > 0 => n,
            Err(error) if error.kind() == ErrorKind::ConnectionReset && read == 0 => {
                return Err(ProxyHeaderFault::Silent);
            }
            _ => return Err(ProxyHeaderFault::Malformed),
        };
        // Do not wait for more from a peer that speaks another protocol.
        let so_far = fixed.get(..read.min(SIGNATURE.len())).unwrap_or_default();
        if !SIGNATURE.starts_with(so_far) {
            return Err(ProxyHeaderFault::Malformed);
        }
    }
    let mut rest = [0; REST_BYTES_MAX];
    let rest = rest.get_mut(..rest_of(&fixed)?).ok_or(ProxyHeaderFault::Malformed)?;
    stream.read_exact(rest).await.map_err(|_| ProxyHeaderFault::Malformed)?;
    announced(&fixed, rest)
}

/// Judges the header at the start of `bytes`, without a connection. Returns its length, if it is
/// complete and has one reading.
pub fn judge_proxy_header(bytes: &[u8]) -> Option<usize> {
    let (fixed, after) = bytes.split_first_chunk::<FIXED_BYTES>()?;
    let length = rest_of(fixed).ok()?;
    announced(fixed, after.get(..length)?).ok()?;
    Some(FIXED_BYTES + length)
}

/// Returns the number of bytes after the fixed part.
fn rest_of(fixed: &[u8; FIXED_BYTES]) -> Result<usize, ProxyHeaderFault> {
    let [signature @ .., command, _, high, low] = fixed;
    let length = usize::from(u16::from_be_bytes([*high, *low]));
    let known = signature == SIGNATURE && matches!(command, 0x20 | 0x21);
    (known && length <= REST_BYTES_MAX).then_some(length).ok_or(ProxyHeaderFault::Malformed)
}

/// Parses a complete header. Skips all bytes after the addresses.
fn announced(fixed: &[u8; FIXED_BYTES], rest: &[u8]) -> Result<Announced, ProxyHeaderFault> {
    let [.., command, family, _, _] = fixed;
    if *command == 0x20 {
        return Ok(Announced::Unsaid);
    }
    let (ip, ports): (IpAddr, &[u8]) = match family {
        0x00 => return Ok(Announced::Unsaid),
        0x11 => {
            let (source, after) =
                rest.split_first_chunk::<4>().ok_or(ProxyHeaderFault::Malformed)?;
            let (_, ports) = after.split_first_chunk::<4>().ok_or(ProxyHeaderFault::Malformed)?;
            (Ipv4Addr::from(*source).into(), ports)
        }
        0x21 => {
            let (source, after) =
                rest.split_first_chunk::<16>().ok_or(ProxyHeaderFault::Malformed)?;
            let (_, ports) = after.split_first_chunk::<16>().ok_or(ProxyHeaderFault::Malformed)?;
            (Ipv6Addr::from(*source).into(), ports)
        }
        // Datagrams, unix sockets, and unassigned values.
        _ => return Err(ProxyHeaderFault::Malformed),
    };
    let ([source, ..], _) = ports.as_chunks::<2>() else { return Err(ProxyHeaderFault::Malformed) };
    if ports.len() < 4 {
        return Err(ProxyHeaderFault::Malformed);
    }
    Ok(Announced::Client(SocketAddr::new(ip.to_canonical(), u16::from_be_bytes(*source))))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tokio::io::AsyncWriteExt;

    use super::*;

    /// Builds a header: version and command, family and transport, and the rest.
    fn header(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
        [&SIGNATURE[..], &[command, family], &length, rest].concat()
    }

    const V4: &[u8] = &[192, 0, 2, 7, 198, 51, 100, 1, 0x30, 0x39, 0x01, 0xbb];

    fn v6(source: &str) -> Vec<u8> {
        let address = |text: &str| text.parse::<Ipv6Addr>().unwrap().octets();
        [&address(source)[..], &address("2001:db8::1"), &[0x30, 0x39, 0x01, 0xbb]].concat()
    }

    /// Returns the result for bytes that arrive in pieces of this size, and the number of bytes
    /// left.
    fn of(bytes: &[u8], step: usize) -> (Result<Announced, ProxyHeaderFault>, usize) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let (mut near, mut far) = tokio::io::duplex(step);
            let (found, left) = tokio::join!(
                async move {
                    let found = read(&mut far).await;
                    let mut left = Vec::new();
                    far.read_to_end(&mut left).await.unwrap();
                    (found, left.len())
                },
                async move {
                    near.write_all(bytes).await.unwrap();
                }
            )
            .0;
            (found, left)
        })
    }

    #[test]
    fn the_client_is_who_the_header_says_wherever_it_is_cut() {
        let client = |text: &str| Ok(Announced::Client(text.parse().unwrap()));
        let with_more = [V4, &[0x04, 0x00, 0x02, 1, 2]].concat();
        for (bytes, says) in [
            (header(0x21, 0x11, V4), client("192.0.2.7:12345")),
            (header(0x21, 0x11, &with_more), client("192.0.2.7:12345")),
            (header(0x21, 0x21, &v6("2001:db8::7")), client("[2001:db8::7]:12345")),
            (header(0x21, 0x21, &v6("::ffff:192.0.2.7")), client("192.0.2.7:12345")),
            (header(0x21, 0x00, &[]), Ok(Announced::Unsaid)),
            (header(0x20, 0x00, &[]), Ok(Announced::Unsaid)),
            (header(0x20, 0x11, V4), Ok(Announced::Unsaid)),
            (header(0x21, 0x11, &[V4, &[0; 508]].concat()), client("192.0.2.7:12345")),
        ] {
            let followed = [&bytes[..], b"\x16\x03\x01"].concat();
            for step in [1, 2, 3, 7, 16, 17, 4096] {
                assert_eq!(of(&followed, step), (says, 3), "{bytes:?} by {step}");
            }
        }
    }

    #[test]
    fn malformed_proxy_headers_are_refused_at_any_split() {
        for bytes in [
            b"PROXY TCP4 192.0.2.7 198.51.100.1 12345 443\r\n".to_vec(),
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03hello, world".to_vec(),
            header(0x11, 0x11, V4),
            header(0x22, 0x11, V4),
            header(0x31, 0x11, V4),
            header(0x21, 0x12, V4),
            header(0x21, 0x22, &v6("2001:db8::7")),
            header(0x21, 0x31, &[0; 216]),
            header(0x21, 0x01, &[]),
            header(0x21, 0x11, &V4[..11]),
            header(0x21, 0x21, &v6("2001:db8::7")[..35]),
            header(0x21, 0x11, &[V4, &[0; 509]].concat()),
            header(0x21, 0x11, V4)[..27].to_vec(),
            SIGNATURE[..5].to_vec(),
        ] {
            for step in [1, 5, 4096] {
                assert_eq!(
                    of(&bytes, step).0,
                    Err(ProxyHeaderFault::Malformed),
                    "{bytes:?} by {step}"
                );
            }
        }
        assert_eq!(of(b"", 1), (Err(ProxyHeaderFault::Silent), 0));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic_and_cuts_make_no_difference(
            bytes in proptest::collection::vec(any::<u8>(), 0..64),
            length: u8, signed: bool, step in 1_usize..9,
        ) {
            let bytes = if signed {
                [&SIGNATURE[..], &[0x21, 0x11, 0, length % 40], &bytes].concat()
            } else {
                bytes
            };
            let (pieces, whole) = (of(&bytes, step), of(&bytes, 4096));
            prop_assert_eq!(pieces.0, whole.0);
            prop_assert!(whole.0.is_err() || pieces.1 == whole.1);
        }
    }
}
