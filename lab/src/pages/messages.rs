//! Replies of a simulated management point to a client's message.
//!
//! The format is the real one; the content is only what the simulated client needs.

use bytes::Bytes;
use http::Response;
use http::header::CONTENT_TYPE;
use http::request::Parts;
use uuid::Uuid;

use super::answer::{SimBody, bytes};
use super::{POLICY_ID, SimulatedSite, host};
use crate::messages::{self, Draft, Message, attribute, element};

impl SimulatedSite {
    /// Replies to a message. A body that is not a message is echoed.
    pub(super) fn message(&self, head: &Parts, body: Bytes) -> Response<SimBody> {
        let kind = head.headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
        let kind = kind.unwrap_or_default();
        let Some(message) = Message::read(kind, &body) else { return bytes(kind, body) };
        let endpoint = message.field("TargetEndpoint").unwrap_or_default();
        let Some(payload) = self.payload(endpoint, &message, host(head)) else {
            // Not ready: the client retries.
            return bytes("text/plain", Bytes::new());
        };
        let reply = Draft {
            endpoint: "SccmMessaging",
            source: None,
            answers: message.field("ID"),
            id: Uuid::new_v4(),
            host: message.field("SourceHost").unwrap_or_default(),
            sent: None,
            payload: &payload,
        };
        bytes(messages::CONTENT_TYPE, reply.body().into())
    }

    fn payload(&self, endpoint: &str, message: &Message, host: &str) -> Option<String> {
        Some(match endpoint {
            "MP_ClientRegistration" => {
                let id = message.field("SourceID").map(str::to_owned);
                let id = id.unwrap_or_else(|| format!("GUID:{}", Uuid::new_v4()).to_uppercase());
                format!("<ClientRegistrationResponse SMSID=\"{id}\" Status=\"1\"/>")
            }
            // The placeholder is how policies name their location: the client inserts its
            // management point.
            "MP_PolicyManager" => format!(
                "<ReplyAssignments><PolicyAssignment><PolicyLocation>\
                 <![CDATA[http://<mp>/SMS_MP/.sms_pol?{POLICY_ID}]]>\
                 </PolicyLocation></PolicyAssignment></ReplyAssignments>"
            ),
            "MP_LocationManager" if message.payload.contains("<ContentLocationRequest") => {
                let package = attribute(&message.payload, "ID");
                let package = package.or_else(|| element(&message.payload, "PackageID"))?;
                if self.is_not_ready(package) {
                    return None;
                }
                content_location(package, self.content_host.as_deref().unwrap_or(host))
            }
            _ => "<Reply/>".to_owned(),
        })
    }
}

/// The location of a package: https for clients with a token, http for all others.
fn content_location(package: &str, host: &str) -> String {
    format!(
        "<ContentLocationReply><Site><LocationRecord>\
         <URL Name=\"https://{host}/CCMTOKENAUTH_SMS_DP_SMSPKG$/{package}\">\
         <Property Name=\"AuthMethod\" Value=\"1024\"/></URL>\
         <URL Name=\"http://{host}/SMS_DP_SMSPKG$/{package}\"/>\
         </LocationRecord></Site></ContentLocationReply>"
    )
}
