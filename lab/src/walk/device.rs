//! Steps of a device with its management point: location, registration, token, policy, and status
//! messages.

use serde_json::Value;
use sitegate::token::SignerKind;

use super::taken::{Taken, WalkError};
use super::{Walker, reply};
use crate::client::SimRequest;
use crate::content::Content;
use crate::device::SimDevice;
use crate::messages::{attribute, element, registration};

const LOCATION: &str = "/SMS_MP/.sms_aut?MPLIST";
const CLIENT_PACKAGE: &str = "/CCM_Client/ccmsetup.cab";
const ANY_POLICY: &str = "/SMS_MP/.sms_pol?{00000000-0000-0000-0000-000000000001}.1_00";
const MESSAGES: &str = "/CCM_System/request";
pub(super) const TOKEN_MESSAGES: &str = "/CCM_System_TokenAuth/request";

impl Walker {
    pub(super) async fn location(&mut self) -> Result<Taken, WalkError> {
        let request = SimRequest::get(LOCATION);
        let answer = self.fetch(&request).await?;
        let text = String::from_utf8_lossy(&answer.body);
        let name = attribute(&text, "FQDN").unwrap_or("no management point").to_owned();
        let same = name.eq_ignore_ascii_case(&self.plan.reach.name);
        Ok(Taken::wants(200, &request, &answer).and(same, &name))
    }

    pub(super) async fn client_package(&mut self) -> Result<Taken, WalkError> {
        let request = SimRequest::get(CLIENT_PACKAGE).hashed();
        let answer = self.fetch(&request).await?;
        let made = Content::of("ccm_client", &CLIENT_PACKAGE.to_ascii_lowercase()).sha256();
        let sum = if answer.sha256.as_deref() == Some(made.as_str()) {
            "checksum as simulated"
        } else {
            "content of its own"
        };
        Ok(Taken::wants(200, &request, &answer).and(true, &format!("{} bytes, {sum}", answer.len)))
    }

    pub(super) async fn fallback_status(&mut self) -> Result<Taken, WalkError> {
        let request = SimRequest::new("POST", "/SMS_FSP/.sms_fsp").body("text/xml", "<Report/>");
        let answer = self.fetch(&request).await?;
        Ok(Taken::wants(200, &request, &answer))
    }

    pub(super) async fn no_token(&mut self) -> Result<Taken, WalkError> {
        let request = SimRequest::get(ANY_POLICY);
        let answer = self.fetch(&request).await?;
        Ok(Taken::wants_refusal(401, &["token.missing"], &request, &answer))
    }

    pub(super) async fn client_registration(&mut self) -> Result<Taken, WalkError> {
        let payload = registration("SIMULATED", self.now());
        let request = self.message(MESSAGES, "MP_ClientRegistration", &payload);
        let answer = self.fetch(&request).await?;
        let taken = Taken::wants(200, &request, &answer);
        let Ok(reply) = reply(&answer) else { return Ok(taken.and(false, "no message")) };
        let id = attribute(&reply.payload, "SMSID").unwrap_or_default();
        Ok(taken.and(id.starts_with("GUID:"), id))
    }

    pub(super) async fn registration(&mut self) -> Result<Taken, WalkError> {
        let Some(bulk) = self.plan.bulk.clone() else {
            return Ok(Taken::skipped("no bulk registration token was given"));
        };
        let path = self.plan.service.clone();
        let metadata = SimRequest::get(&format!("{path}/.well-known/oauth-authorization-server"));
        let answer = self.fetch(&metadata).await?;
        let told: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
        let Some(issuer) = told.get("issuer").and_then(Value::as_str) else {
            return Ok(Taken::wants(200, &metadata, &answer).and(false, "no token service"));
        };
        let mut device = SimDevice::new(SignerKind::P256, issuer, &path)?;
        let told = device.register(&mut self.client, Some(&bulk), Value::Null).await?;
        let approved = told.get("approved").and_then(Value::as_bool).unwrap_or(true);
        let id = device.id().unwrap_or("no id").to_owned();
        self.device = Some(device);
        let taken = Taken::service(&format!("POST {path}/register"), 201, id);
        Ok(if approved { taken } else { taken.and(false, "waits for approval") })
    }

    pub(super) async fn first_token(&mut self) -> Result<Taken, WalkError> {
        if self.device.is_none() && self.token.is_some() {
            return Ok(Taken::skipped("a token was given"));
        }
        let token = self.prove().await?;
        self.token = Some(token);
        Ok(Taken::service(&format!("POST {}/token", self.plan.service), 200, "a token".to_owned()))
    }

    pub(super) async fn renewal(&mut self) -> Result<Taken, WalkError> {
        let token = self.prove().await?;
        let fresh = self.token.as_deref() != Some(token.as_str());
        let request = SimRequest::get(ANY_POLICY).bearer(&token);
        let answer = self.fetch(&request).await?;
        self.token = Some(token);
        let seen = if fresh { "with another token" } else { "with the SAME token" };
        let taken = Taken::wants(200, &request, &answer).and(fresh, seen);
        Ok(taken.of(format!("POST {}/token", self.plan.service)))
    }

    async fn prove(&mut self) -> Result<String, WalkError> {
        let now = self.now();
        let device = self.device.as_ref().ok_or(WalkError::Lacks("a registered device"))?;
        Ok(device.token(&mut self.client, &[], now).await?)
    }

    pub(super) async fn policy_message(&mut self) -> Result<Taken, WalkError> {
        let token = self.with_token()?;
        let payload = "<RequestAssignments SchemaVersion=\"1.00\" RequestType=\"Always\"/>";
        let request = self.message(TOKEN_MESSAGES, "MP_PolicyManager", payload).bearer(&token);
        let answer = self.fetch(&request).await?;
        let taken = Taken::wants(200, &request, &answer);
        let Ok(reply) = reply(&answer) else { return Ok(taken.and(false, "no message")) };
        let place = element(&reply.payload, "PolicyLocation");
        // The placeholder stands for the client's management point.
        let path = place.and_then(|place| place.strip_prefix("http://<mp>")).map(str::to_owned);
        let seen = if path.is_some() { "one policy" } else { "no policy" };
        self.policy = path;
        Ok(taken.and(self.policy.is_some(), seen))
    }

    pub(super) async fn fetch_policy(&mut self) -> Result<Taken, WalkError> {
        let token = self.with_token()?;
        let path = self.policy.clone().unwrap_or_else(|| ANY_POLICY.to_owned());
        let request = SimRequest::get(&path).bearer(&token);
        let answer = self.fetch(&request).await?;
        let is_policy = String::from_utf8_lossy(&answer.body).contains("<Policy ");
        let seen = if is_policy { "a policy" } else { "something else" };
        Ok(Taken::wants(200, &request, &answer).and(is_policy, seen))
    }

    pub(super) async fn upload(&mut self) -> Result<Taken, WalkError> {
        let token = self.with_token()?;
        let inventory = Content::of("inventory", "100000.upload");
        let request =
            SimRequest::new("BITS_POST", "/CCM_Incoming/{5DD100CD-DF1D-45F5-BA17-A327F43465F8}")
                .bearer(&token)
                .field("BITS-Packet-Type", "Fragment")
                .body("application/octet-stream", inventory.bytes(0..inventory.len));
        let answer = self.fetch(&request).await?;
        Ok(Taken::wants(200, &request, &answer))
    }
}
