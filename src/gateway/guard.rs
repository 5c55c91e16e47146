//! What a message has to be before it goes to the backend: by whose token it comes, and by which way.
//!
//! Pure. Whoever reads the body hands in no more of it than the first part.

use super::ctx::RequestCtx;
use super::decide::Refused;
use super::framing::Body;
use super::headers;
use crate::config::MessageGuard;
use crate::denial::Denial;
use crate::message::{Envelope, Fault};
use crate::purpose::Purpose;
use crate::route::Requirement;

/// How much of a body is read for its first part, which has a few KiB: what was read is sent first,
/// and the proxy can keep 64 KiB.
pub(super) const FIRST_PART_BYTES_MAX: usize = 48 * 1024;

/// The verb of messages.
pub(super) const VERB: &str = "CCM_POST";

/// What one message has to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Guard<'a> {
    endpoints: Endpoints<'a>,
    sender: Sender<'a>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Endpoints<'a> {
    Any,
    /// Those that a client without any credential may reach.
    Open,
    These(&'a [String]),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sender<'a> {
    Any,
    /// This device and no other; `None` for a token of none.
    Device(Option<&'a str>),
}

impl<'a> Guard<'a> {
    /// That of a request which may go on otherwise; `None` if nothing is asked of its body.
    pub(super) fn of(ctx: &'a RequestCtx, method: &str) -> Option<Self> {
        if method != VERB {
            return None;
        }
        let (site, pass) = (ctx.site.as_deref()?, ctx.pass.as_ref()?);
        let requirement = ctx.route.and_then(|n| site.routes.get(n)).map(|route| route.requirement);
        if requirement == Some(Requirement::AltAuth) {
            let endpoints = site.alt_auth.as_ref().map_or(&[][..], |policy| &policy.endpoints);
            return Some(Guard { endpoints: Endpoints::These(endpoints), sender: Sender::Any });
        }
        // The handshake of Windows authentication begins with a request that may have no body.
        if requirement == Some(Requirement::WindowsAuth) && ctx.body == Body::Empty {
            return None;
        }
        let identity = pass.verified.as_ref().map(|verified| verified.identity());
        let registers = identity.is_some_and(|who| who.purpose == Purpose::Registration);
        // The backend cannot tell any more that the token was for registration alone.
        if registers && pass.translation.is_some() {
            return Some(Guard { endpoints: Endpoints::Open, sender: Sender::Any });
        }
        let endpoints = match &site.message_endpoints {
            Some(these) => Endpoints::These(these),
            None => Endpoints::Any,
        };
        match (site.message_guard, identity) {
            (MessageGuard::Off, _) => None,
            (MessageGuard::Device, Some(who)) => {
                Some(Guard { endpoints, sender: Sender::Device(who.device.as_deref()) })
            }
            (MessageGuard::Shape, _) | (MessageGuard::Device, None) => {
                Some(Guard { endpoints, sender: Sender::Any })
            }
        }
    }

    /// Judge what was read of a message.
    ///
    /// # Errors
    /// Why it may not go on.
    pub(super) fn judge(self, read: Result<Envelope, Fault>) -> Result<(), Refused> {
        let envelope = read.map_err(refused)?;
        let open = envelope.is_open_to_everyone();
        let reaches = match self.endpoints {
            Endpoints::Any => true,
            Endpoints::Open => open,
            Endpoints::These(these) => these.contains(&envelope.target_endpoint),
        };
        if !reaches {
            let detail = Some(format!("message for {}", envelope.target_endpoint));
            return Err(Refused { detail, ..Denial::MessageEndpoint.into() });
        }
        let own = match (self.sender, envelope.source_id.as_deref()) {
            (Sender::Any, _) => true,
            // Before it has an id a client registers, and finds its site.
            (Sender::Device(_), None) => open,
            (Sender::Device(device), Some(source)) => {
                device.is_some_and(|device| device.eq_ignore_ascii_case(source))
            }
        };
        match own {
            true => Ok(()),
            false => Err(Denial::MessageDevice.into()),
        }
    }
}

/// A message that is none, or not one that a client writes.
pub(super) fn refused(fault: Fault) -> Refused {
    let denial = match fault {
        Fault::SourceId => Denial::MessageSource,
        _ => Denial::MessageMalformed,
    };
    Refused { detail: Some(fault.to_string()), ..denial.into() }
}

/// A request whose body cannot be known to be read by the backend as it is here.
pub(super) fn untyped() -> Refused {
    let detail = Some("not one content type, or an encoded body".to_owned());
    Refused { detail, ..Denial::MessageMalformed.into() }
}

/// The one content type, if the backend gets it too, and nothing tells it to decode the body first.
pub(super) fn content_type<'a>(
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
    use super::*;

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
    fn a_message_is_for_an_endpoint_of_the_list_and_from_the_device_of_its_token() {
        let list = ["MP_PolicyManager".to_owned(), "MP_ClientRegistration".to_owned()];
        let judged = |endpoints, sender, source: Option<&str>, endpoint: &str| {
            let envelope = Envelope {
                source_id: source.map(str::to_owned),
                target_endpoint: endpoint.to_owned(),
            };
            Guard { endpoints, sender }.judge(Ok(envelope)).map_err(|refused| refused.denial)
        };
        let (these, any) = (Endpoints::These(&list), Endpoints::Any);
        let (nobody, policy) = (Sender::Any, "MP_PolicyManager");
        assert_eq!(judged(any, nobody, None, "MP_Anything"), Ok(()));
        assert_eq!(judged(these, nobody, Some(DEVICE), policy), Ok(()));
        for other in ["mp_policymanager", "MP_PolicyManager2", "MP_TokenManager"] {
            assert_eq!(judged(these, nobody, None, other), Err(Denial::MessageEndpoint));
        }
        assert_eq!(judged(Endpoints::Open, nobody, None, policy), Err(Denial::MessageEndpoint));
        assert_eq!(judged(Endpoints::Open, nobody, None, "MP_LocationManager"), Ok(()));
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

    #[test]
    fn a_source_that_is_no_client_has_a_code_of_its_own() {
        assert_eq!(refused(Fault::SourceId).denial, Denial::MessageSource);
        assert_eq!(refused(Fault::Place).denial, Denial::MessageMalformed);
    }
}
