//! Judges a client message before it is forwarded, by its token (or the lack of one) and its route.
//!
//! Pure. The caller reads the body and passes all bytes so far until there is a verdict.

use jiff::Timestamp;

use super::framing::Body;
use super::headers;
use super::observe;
use super::policy::SitePolicy;
use super::verdict::Refused;
use crate::config::MessageGuard;
use crate::denial::Denial;
use crate::gateway::record::ctx::RequestCtx;
use crate::message::{
    Asker, Envelope, FirstPart, METHOD, MessageFault, Unreadable, envelope, request,
};
use crate::purpose::Purpose;
use crate::route::Requirement;

/// The most bytes of a body to read. The first part has a few KiB; without a token the judge may
/// need the whole body. The bytes read are forwarded first, and the proxy can keep 64 KiB.
pub(in crate::gateway) const READ_BYTES_MAX: usize = 48 * 1024;

/// The verdict on a message: forwarded, perhaps with the refusal that enforcing would give, or
/// refused.
pub(in crate::gateway) type GuardVerdict = Result<Option<Box<Refused>>, Refused>;

/// The requirements on one message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::gateway) struct MessageRules<'a> {
    endpoints: Endpoints<'a>,
    sender: Sender<'a>,
    /// The limits on the payload of an unauthenticated message.
    asks: Option<MessageAsks<'a>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Endpoints<'a> {
    Any,
    /// Those open to a client without a credential. A message to another one gets this denial.
    Open(Denial),
    These(&'a [String]),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sender<'a> {
    Any,
    /// This device and no other; `None` if the token names no device.
    Device(Option<&'a str>),
}

/// The payloads allowed at the endpoints that are open to everyone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct MessageAsks<'a> {
    asker: Asker,
    /// The request types that the operator has added.
    more: &'a [String],
    /// Whether a type that is on no list passes and is logged (observe mode).
    observed: bool,
}

impl<'a> MessageRules<'a> {
    /// The guard of an admitted request; `None` if its body is not judged.
    pub(in crate::gateway) fn of(
        ctx: &'a RequestCtx,
        method: &str,
        now: Timestamp,
    ) -> Option<Self> {
        if method != METHOD {
            return None;
        }
        let (site, pass) = (ctx.site.as_deref()?, ctx.pass.as_ref()?);
        let requirement = ctx.route.and_then(|n| site.routes.get(n)).map(|route| route.requirement);
        // The handshake of Windows authentication begins with a request that may have no body.
        if requirement == Some(Requirement::WindowsAuth) && ctx.head.body == Body::Empty {
            return None;
        }
        let endpoints = match (requirement, &site.messages.endpoints) {
            (Some(Requirement::AltAuth), _) => {
                Endpoints::These(site.alt_auth.as_ref().map_or(&[][..], |policy| &policy.endpoints))
            }
            (_, Some(these)) => Endpoints::These(these),
            (_, None) => Endpoints::Any,
        };
        // A message without a token is always judged, even if `message_guard` is off.
        let Some(who) = pass.verified.as_ref().map(|verified| verified.identity()) else {
            let asks = Some(MessageAsks::of(site, Asker::Unasked, now));
            return Some(MessageRules { endpoints, sender: Sender::Any, asks });
        };
        // The translated request no longer shows the backend that the token was for registration
        // only.
        if who.purpose == Purpose::Registration && pass.translation.is_some() {
            let endpoints = Endpoints::Open(Denial::MessageEndpoint);
            let asks = Some(MessageAsks::of(site, Asker::Newcomer, now));
            return Some(MessageRules { endpoints, sender: Sender::Any, asks });
        }
        let sender = match site.messages.guard {
            MessageGuard::Off => return None,
            MessageGuard::Device => Sender::Device(who.device.as_deref()),
            MessageGuard::Shape => Sender::Any,
        };
        Some(MessageRules { endpoints, sender, asks: None })
    }

    /// The guard of a request that lacks its route's token, and that only its message can admit.
    pub(in crate::gateway) fn of_newcomer(site: &'a SitePolicy, now: Timestamp) -> Self {
        MessageRules {
            endpoints: Endpoints::Open(Denial::TokenMissing),
            sender: Sender::Any,
            asks: Some(MessageAsks::of(site, Asker::Newcomer, now)),
        }
    }

    /// Judges the target endpoint and the sender of a message.
    fn judge(self, envelope: &Envelope) -> Result<(), Refused> {
        let open = envelope.is_open_to_everyone();
        let reaches = match self.endpoints {
            Endpoints::Any => Ok(()),
            Endpoints::Open(_) if open => Ok(()),
            Endpoints::Open(denial) => Err(denial),
            Endpoints::These(these) if these.contains(&envelope.target_endpoint) => Ok(()),
            Endpoints::These(_) => Err(Denial::MessageEndpoint),
        };
        reaches.map_err(|denial| {
            detailed(denial, format!("message for {}", envelope.target_endpoint))
        })?;
        let own = match (self.sender, envelope.source_id.as_deref()) {
            (Sender::Any, _) => true,
            // A client without an id registers, and locates its site.
            (Sender::Device(_), None) => open,
            (Sender::Device(device), Some(source)) => {
                device.is_some_and(|device| device.eq_ignore_ascii_case(source))
            }
        };
        if own { Ok(()) } else { Err(Denial::MessageDevice.into()) }
    }
}

impl<'a> MessageAsks<'a> {
    fn of(site: &'a SitePolicy, asker: Asker, now: Timestamp) -> Self {
        MessageAsks {
            asker,
            more: &site.messages.requests,
            observed: observe::relaxes(site, Denial::MessageRequest, now),
        }
    }

    /// Judges the request type of a message.
    fn judge(self, content_type: &[u8], body: &[u8], envelope: &Envelope) -> GuardVerdict {
        let request = request(content_type, body, envelope).map_err(unreadable)?;
        if request.is_open(&envelope.target_endpoint, self.asker, self.more) {
            return Ok(None);
        }
        let refused = detailed(Denial::MessageRequest, format!("asks for {}", request.kind()));
        if self.observed { Ok(Some(Box::new(refused))) } else { Err(refused) }
    }
}

/// Judges one message while its body arrives.
pub(in crate::gateway) struct Inspection<'a> {
    guard: MessageRules<'a>,
    content_type: &'a [u8],
    part: FirstPart,
    /// The envelope, while the judge waits for the payload.
    envelope: Option<Envelope>,
}

impl<'a> Inspection<'a> {
    /// Creates the inspection of a message with this content type.
    ///
    /// # Errors
    /// The content type admits no valid body.
    pub(in crate::gateway) fn new(
        guard: MessageRules<'a>,
        content_type: &'a [u8],
    ) -> Result<Self, Refused> {
        let part = FirstPart::new(content_type).map_err(refused)?;
        Ok(Inspection { guard, content_type, part, envelope: None })
    }

    /// Judges the body received so far: `body` holds all of it, from its first byte. `whole` says
    /// whether the body is complete. Returns `None` if more is needed, but never for a complete
    /// body.
    pub(in crate::gateway) fn look(&mut self, body: &[u8], whole: bool) -> Option<GuardVerdict> {
        let known = match self.envelope.take() {
            Some(known) => known,
            None => match self.envelope(body, whole)? {
                Ok(found) => found,
                Err(refused) => return Some(Err(refused)),
            },
        };
        let asks = self.guard.asks.filter(|_| known.asks_where_everyone_may());
        let Some(asks) = asks else { return Some(Ok(None)) };
        if body.len() > READ_BYTES_MAX {
            let detail = "a message this large is not read without a token".to_owned();
            return Some(Err(detailed(Denial::MessagePayload, detail)));
        }
        if !whole {
            self.envelope = Some(known);
            return None;
        }
        Some(asks.judge(self.content_type, body, &known))
    }

    /// Judges the envelope, once the first part is complete.
    fn envelope(&mut self, body: &[u8], whole: bool) -> Option<Result<Envelope, Refused>> {
        let read = match self.part.end(body) {
            Err(fault) => Err(fault),
            Ok(Some(end)) => envelope(self.content_type, body.get(..end).unwrap_or_default()),
            // The envelope reader reports a missing end.
            Ok(None) if whole => envelope(self.content_type, body),
            Ok(None) if body.len() >= READ_BYTES_MAX => Err(MessageFault::Size),
            Ok(None) => return None,
        };
        let judged = read.map_err(refused).and_then(|read| self.guard.judge(&read).map(|()| read));
        Some(judged)
    }
}

fn detailed(denial: Denial, detail: String) -> Refused {
    Refused { detail: Some(detail), ..denial.into() }
}

/// The refusal of a payload that no client writes.
fn unreadable(fault: Unreadable) -> Refused {
    detailed(Denial::MessagePayload, fault.to_string())
}

/// The refusal of a message that is malformed, or that no client writes.
fn refused(fault: MessageFault) -> Refused {
    let denial = match fault {
        MessageFault::SourceId => Denial::MessageSource,
        _ => Denial::MessageMalformed,
    };
    detailed(denial, fault.to_string())
}

/// The refusal of a body that the backend might read in another way.
pub(in crate::gateway) fn untyped() -> Refused {
    detailed(Denial::MessageMalformed, "not one content type, or an encoded body".to_owned())
}

/// Returns the content type if there is exactly one, the backend receives it too, and no content
/// encoding applies.
pub(in crate::gateway) fn content_type<'a>(
    fields: impl Iterator<Item = (&'a str, &'a [u8])> + Clone,
) -> Option<&'a [u8]> {
    let named = |wanted| fields.clone().filter(move |(name, _)| headers::is(name, wanted));
    let ends = named("connection").any(|(_, value)| headers::names(value, "content-type"));
    let encoded = named("content-encoding").next().is_some();
    let mut types = named("content-type").map(|(_, value)| value);
    types.next().filter(|_| types.next().is_none() && !ends && !encoded)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::message::Encoding;

    const DEVICE: &str = "GUID:11111111-2222-3333-4444-55555555ABCD";

    #[test]
    fn a_body_has_one_content_type_that_reaches_the_backend() {
        let kind = ("content-type", &b"multipart/mixed; boundary=x"[..]);
        let found = |fields: &[(&'static str, &'static [u8])]| {
            content_type(fields.iter().copied()).is_some()
        };
        assert!(found(&[kind, ("connection", b"close"), ("accept-encoding", b"gzip")]));
        assert!(!found(&[]));
        for other in [
            kind,
            ("content_type", &b"multipart/mixed; boundary=y"[..]),
            ("Content-Encoding", b"identity"),
            ("content_encoding", b"gzip"),
            ("connection", b"close, Content-Type"),
        ] {
            assert!(!found(&[kind, other]) && !found(&[other, kind]), "{other:?}");
        }
    }

    #[test]
    fn a_message_must_match_its_endpoint_list_and_device() {
        let list = ["MP_PolicyManager".to_owned(), "MP_ClientRegistration".to_owned()];
        let judged = |endpoints, sender, source: Option<&str>, endpoint: &str| {
            let envelope = Envelope {
                source_id: source.map(str::to_owned),
                target_endpoint: endpoint.to_owned(),
                encoding: Encoding::Plain,
                is_plain: true,
            };
            let guard = MessageRules { endpoints, sender, asks: None };
            guard.judge(&envelope).map_err(|refused| refused.denial)
        };
        let (these, any) = (Endpoints::These(&list), Endpoints::Any);
        let (nobody, policy) = (Sender::Any, "MP_PolicyManager");
        assert_eq!(judged(any, nobody, None, "MP_Anything"), Ok(()));
        assert_eq!(judged(these, nobody, Some(DEVICE), policy), Ok(()));
        for other in ["mp_policymanager", "MP_PolicyManager2", "MP_TokenManager"] {
            assert_eq!(judged(these, nobody, None, other), Err(Denial::MessageEndpoint));
        }
        for denial in [Denial::MessageEndpoint, Denial::TokenMissing] {
            let open = Endpoints::Open(denial);
            assert_eq!(judged(open, nobody, None, policy), Err(denial));
            assert_eq!(judged(open, nobody, None, "MP_LocationManager"), Ok(()));
        }
        let own = Sender::Device(Some(DEVICE));
        let lower = DEVICE.replace("ABCD", "abcd");
        for source in [DEVICE, &lower] {
            assert_eq!(judged(any, own, Some(source), policy), Ok(()));
            assert_eq!(
                judged(any, Sender::Device(None), Some(source), policy),
                Err(Denial::MessageDevice)
            );
        }
        let another = DEVICE.replace("ABCD", "ABCE");
        assert_eq!(judged(any, own, Some(&another), policy), Err(Denial::MessageDevice));
        assert_eq!(judged(any, own, None, policy), Err(Denial::MessageDevice));
        assert_eq!(judged(any, own, None, "MP_ClientRegistration"), Ok(()));
    }

    const TYPE: &[u8] = b"multipart/mixed; boundary=x";

    fn le(text: &str) -> Vec<u8> {
        text.encode_utf16().flat_map(u16::to_le_bytes).collect()
    }

    /// An uncompressed message.
    fn message(endpoint: &str, payload: &str) -> Vec<u8> {
        let envelope = le(&format!("<Msg><TargetEndpoint>{endpoint}</TargetEndpoint></Msg>"));
        let middle = b"\r\n--x\r\n\r\n";
        [b"--x\r\n\r\n", &*envelope, middle, &*le(payload), b"\r\n--x--\r\n"].concat()
    }

    fn asks(observed: bool) -> MessageRules<'static> {
        let asks = MessageAsks { asker: Asker::Newcomer, more: &[], observed };
        MessageRules { endpoints: Endpoints::Any, sender: Sender::Any, asks: Some(asks) }
    }

    /// Returns the verdict on a body that arrives in pieces of these lengths, and the bytes it
    /// needed.
    fn looked(
        guard: MessageRules<'_>,
        body: &[u8],
        cuts: &[usize],
    ) -> (Result<Option<Denial>, Denial>, usize) {
        let mut inspection = Inspection::new(guard, TYPE).unwrap();
        let (mut here, mut cuts) = (0, cuts.iter().cycle());
        loop {
            if let Some(verdict) = inspection.look(&body[..here], here == body.len()) {
                let observed = verdict.map(|seen| seen.map(|refused| refused.denial));
                return (observed.map_err(|refused| refused.denial), here);
            }
            here = body.len().min(here + cuts.next().unwrap());
        }
    }

    #[test]
    fn an_anonymous_message_is_judged_by_its_payload() {
        let (location, closed) = ("MP_LocationManager", "<UpdateSFRequest/>");
        let sql = "<UpdateSFRequest ID=\"1'--\"/>";
        let large = format!("<R>{}</R>", " ".repeat(30_000));
        for (endpoint, payload, enforced, observed) in [
            (location, "<SiteInformationRequest/>", Ok(None), Ok(None)),
            (location, closed, Err(Denial::MessageRequest), Ok(Some(Denial::MessageRequest))),
            (location, sql, Err(Denial::MessagePayload), Err(Denial::MessagePayload)),
            ("mp_locationmanager", sql, Err(Denial::MessagePayload), Err(Denial::MessagePayload)),
            (
                "MP_CLIENTREGISTRATION",
                sql,
                Err(Denial::MessagePayload),
                Err(Denial::MessagePayload),
            ),
            (location, &large, Err(Denial::MessagePayload), Err(Denial::MessagePayload)),
            ("MP_PolicyManager", sql, Ok(None), Ok(None)),
        ] {
            let body = message(endpoint, payload);
            assert_eq!(looked(asks(false), &body, &[body.len()]).0, enforced, "{payload:.30}");
            assert_eq!(looked(asks(true), &body, &[body.len()]).0, observed, "{payload:.30}");
        }
        // A message that its envelope decides needs no further bytes.
        let policy = message("MP_PolicyManager", &large);
        assert!(looked(asks(false), &policy, &[1]).1 < 200);
    }

    proptest! {
        #[test]
        fn a_message_in_pieces_has_the_verdict_of_the_whole(
            endpoint in prop_oneof![Just("MP_LocationManager"), Just("MP_PolicyManager"), Just("'")],
            payload in "(<|/>|SiteInformationRequest|UpdateSFRequest| |x|'){0,8}",
            cuts in prop::collection::vec(1_usize..90, 1..20),
        ) {
            let body = message(endpoint, &payload);
            let whole = looked(asks(false), &body, &[body.len()]).0;
            prop_assert_eq!(looked(asks(false), &body, &cuts).0, whole);
        }
    }

    #[test]
    fn a_source_that_is_no_client_has_a_code_of_its_own() {
        assert_eq!(refused(MessageFault::SourceId).denial, Denial::MessageSource);
        assert_eq!(refused(MessageFault::Place).denial, Denial::MessageMalformed);
    }
}
