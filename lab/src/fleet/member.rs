//! One client of a fleet: its actions, one after the other, in its own random order.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value;
use sitegate::token::SignerKind;
use uuid::Uuid;

use super::FleetPlan;
use super::tally::{Deed, Tally};
use crate::client::{ClientError, SimAnswer, SimClient, SimRequest};
use crate::content::Content;
use crate::device::{DeviceError, SimDevice};
use crate::messages::{self, Draft};

/// The pause after a failure, so that a refused client does not retry in a tight loop.
const AFTER_FAILURE: Duration = Duration::from_secs(1);
const POLICY: &str = "/SMS_MP/.sms_pol?{00000000-0000-0000-0000-000000000001}.1_00";
const MESSAGES: &str = "/CCM_System_TokenAuth/request";
const FILE: &str = "1048576.cab";
const FILE_BYTES: u64 = 1 << 20;
/// The size of a download range; generated blocks align with it.
const RANGE_BYTES: u64 = 64 << 10;

pub(super) struct Member {
    plan: Arc<FleetPlan>,
    tally: Arc<Tally>,
    client: SimClient,
    content: Option<SimClient>,
    chance: Chance,
    device: Option<SimDevice>,
    token: String,
}

/// The error of a request, in the words of the summary.
fn told(error: &ClientError) -> String {
    match error {
        ClientError::Connect(error) => format!("no connection: {error}"),
        ClientError::Handshake(error) => format!("no TLS session: {error}"),
        other => other.to_string(),
    }
}

impl Member {
    pub(super) fn new(plan: Arc<FleetPlan>, number: u32, tally: Arc<Tally>) -> io::Result<Self> {
        let client = plan.reach.client()?;
        let content = plan.content_host.as_deref().filter(|host| *host != plan.reach.name);
        let content = content.map(|host| plan.reach.client_of(host, None)).transpose()?;
        let chance = Chance(u64::from(number));
        let token = plan.token.clone().unwrap_or_default();
        Ok(Member { plan, tally, client, content, chance, device: None, token })
    }

    /// Works until it is aborted.
    pub(super) async fn work(mut self) {
        if self.plan.bulk.is_some() {
            while let Err(Closed { deed, what, is_for_now }) = self.enter().await {
                if is_for_now {
                    self.tally.put_off(deed, what);
                } else {
                    self.tally.failed(deed, what);
                }
                tokio::time::sleep(AFTER_FAILURE).await;
            }
        }
        self.tally.begun();
        let pause =
            self.plan.rate.map(|rate| Duration::from_secs(1) * self.plan.clients / rate.max(1));
        // Spreads the clients, so that they do not all start in the same moment.
        let mut next = tokio::time::Instant::now();
        if let Some(pause) = pause {
            next += pause.mul_f64(self.chance.below(1_000) as f64 / 1_000.0);
        }
        loop {
            if let Some(pause) = pause {
                tokio::time::sleep_until(next).await;
                // A client that is late does not catch up.
                next = (next + pause).max(tokio::time::Instant::now());
            }
            if !self.act().await {
                tokio::time::sleep(AFTER_FAILURE).await;
            }
        }
    }

    /// Registers, and gets a token.
    async fn enter(&mut self) -> Result<(), Closed> {
        let failed = |deed: Deed| move |error: DeviceError| Closed::by(deed, error);
        if self.device.is_none() {
            let path = &self.plan.service;
            let metadata = format!("{path}/.well-known/oauth-authorization-server");
            let answer = self.client.fetch(&SimRequest::get(&metadata)).await;
            let answer = answer.map_err(|error| failed(Deed::Register)(error.into()))?;
            let document: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
            let Some(issuer) = document.get("issuer").and_then(Value::as_str) else {
                let what = format!("{}: no token service", answer.line());
                return Err(Closed { deed: Deed::Register, what, is_for_now: false });
            };
            let device = SimDevice::new(SignerKind::P256, issuer, path);
            let mut device = device.map_err(|error| failed(Deed::Register)(error.into()))?;
            let bulk = self.plan.bulk.as_deref();
            let begun = Instant::now();
            let told = device.register(&mut self.client, bulk, Value::Null).await;
            told.map_err(failed(Deed::Register))?;
            self.tally.done(Deed::Register, begun.elapsed());
            self.device = Some(device);
        }
        if let Some(device) = &self.device {
            let begun = Instant::now();
            let token = device.token(&mut self.client, &[], self.plan.clock.now()).await;
            self.token = token.map_err(failed(Deed::Token))?;
            self.tally.done(Deed::Token, begun.elapsed());
        }
        Ok(())
    }

    /// Performs one action. Returns whether it succeeded.
    async fn act(&mut self) -> bool {
        let (deed, request) = match self.chance.below(100) {
            0..30 => {
                (Deed::PolicyMessage, self.message("MP_PolicyManager", "<RequestAssignments/>"))
            }
            30..50 => (Deed::Policy, SimRequest::get(POLICY)),
            50..70 => {
                let package = &self.plan.package;
                let payload = format!(
                    "<ContentLocationRequest><Package ID=\"{package}\"/></ContentLocationRequest>"
                );
                (Deed::Location, self.message("MP_LocationManager", &payload))
            }
            70..98 => return self.download().await,
            _ => {
                let poll = SimRequest::new("POST", "/bgb/handler.ashx");
                (Deed::Notification, poll.body("text/xml", "<BgbRequest/>"))
            }
        };
        let begun = Instant::now();
        let answer = self.client.fetch(&request.bearer(&self.token)).await;
        self.judge(deed, begun, 200, answer, |_| true)
    }

    async fn download(&mut self) -> bool {
        let first = self.chance.below(FILE_BYTES / RANGE_BYTES) * RANGE_BYTES;
        let path = format!("/SMS_DP_SMSPKG$/{}/{FILE}", self.plan.package);
        let request = SimRequest::get(&path).range(first, first + RANGE_BYTES - 1);
        let client = self.content.as_mut().unwrap_or(&mut self.client);
        let begun = Instant::now();
        let answer = client.fetch(&request.bearer(&self.token)).await;
        let made = Content::of(&self.plan.package, FILE);
        self.judge(Deed::Download, begun, 206, answer, |answer| {
            // Every client checks its downloads; a few bytes of each range are enough.
            let begins = made.bytes(first..first + 64);
            answer.len == RANGE_BYTES && answer.body.starts_with(&begins)
        })
    }

    fn judge(
        &self,
        deed: Deed,
        begun: Instant,
        status: u16,
        answer: Result<SimAnswer, ClientError>,
        good: impl Fn(&SimAnswer) -> bool,
    ) -> bool {
        let what = match answer {
            Ok(answer) if answer.status == status && good(&answer) => {
                self.tally.done(deed, begun.elapsed());
                return true;
            }
            Ok(answer) if answer.status == status => "other content than there is".to_owned(),
            Ok(answer) => match answer.code() {
                Some(code) => format!("{} {code}", answer.status),
                None => answer.line(),
            },
            Err(error) => told(&error),
        };
        self.tally.failed(deed, what);
        false
    }

    fn message(&self, endpoint: &str, payload: &str) -> SimRequest {
        let draft = Draft {
            endpoint,
            source: self.device.as_ref().and_then(SimDevice::id),
            answers: None,
            id: Uuid::new_v4(),
            host: &self.plan.reach.name,
            sent: Some(self.plan.clock.now()),
            payload,
        };
        SimRequest::new("CCM_POST", MESSAGES).body(messages::CONTENT_TYPE, draft.body())
    }
}

/// Why a client was not admitted.
struct Closed {
    deed: Deed,
    what: String,
    /// Whether it may retry later.
    is_for_now: bool,
}

impl Closed {
    fn by(deed: Deed, error: DeviceError) -> Self {
        let (what, is_for_now) = match error {
            DeviceError::Client(error) => (told(&error), false),
            // `temporarily_unavailable` in OAuth.
            DeviceError::Refused { status, code, .. } => {
                (format!("{status} {code}"), matches!(status, 429 | 503))
            }
            other => (other.to_string(), false),
        };
        Closed { deed, what, is_for_now }
    }
}

/// A random sequence for each client, reproducible (SplitMix64).
struct Chance(u64);

impl Chance {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % end.max(1)
    }
}
