//! A walk through all requests of a client to a site, step by step: the request, the expected
//! result, and the actual one.
//!
//! Each step may use the results of earlier ones, and fails alone. Refusals are steps as well.

mod content;
mod device;
mod others;
mod taken;

use std::net::IpAddr;
use std::time::Instant;

use jiff::Timestamp;
use serde::Serialize;
use sitegate::clock::Clock;
use uuid::Uuid;

use super::client::{ClientError, SimAnswer, SimClient, SimRequest};
use super::device::SimDevice;
use super::messages::{self, Draft, Message};
use super::reach::Reach;
use taken::{Taken, WalkError};

/// The settings of a walk.
#[derive(Clone, Debug)]
pub struct WalkPlan {
    /// How the gateway is reached.
    pub reach: Reach,
    /// The path of the token service.
    pub service: String,
    /// A bulk registration token; without one the client does not register.
    pub bulk: Option<String>,
    /// A device's client token, for a walk without registration.
    pub token: Option<String>,
    /// A user's token.
    pub user: Option<String>,
    /// A boot media or task sequence token.
    pub media: Option<String>,
    /// Whether AltAuth should be open to this machine.
    pub alt_auth: bool,
    /// The source address of boot media, if not the system's choice.
    pub media_from: Option<IpAddr>,
    /// The account for namespaces with Windows authentication; without one they are expected to be
    /// closed.
    pub windows: Option<String>,
    /// A path of reports that redirects to another one.
    pub reports: Option<String>,
    /// The package to download.
    pub package: String,
    /// The clock.
    pub clock: Clock,
}

/// The outcome of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum WalkOutcome {
    /// As expected.
    Ok,
    /// Not as expected.
    Failed,
    /// Skipped, because something is missing.
    Skipped,
}

/// A completed step.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct WalkStep {
    /// Its name.
    pub step: &'static str,
    /// The request that decides it.
    pub request: String,
    /// The expected result: a status, and sitegate's code for a refusal.
    pub expected: String,
    /// The actual status.
    pub status: Option<u16>,
    /// sitegate's code, if it was refused.
    pub code: Option<String>,
    /// The actual result, in words.
    pub seen: String,
    /// How long it took, with all its requests, in milliseconds.
    pub ms: f64,
    /// The outcome.
    pub outcome: WalkOutcome,
}

/// The steps in order.
#[derive(Clone, Copy)]
enum Stop {
    Location,
    ClientPackage,
    FallbackStatus,
    NoToken,
    ClientRegistration,
    Registration,
    Token,
    PolicyMessage,
    Policy,
    Upload,
    ContentLocation,
    ContentToken,
    Listing,
    Properties,
    Ranges,
    SeveralRanges,
    OtherPackage,
    UserServiceAsDevice,
    UserServiceAsUser,
    Notification,
    MediaPolicy,
    MediaContent,
    MediaUserService,
    AltAuth,
    Windows,
    Reports,
    Renewal,
}

const STOPS: &[(Stop, &str)] = &[
    (Stop::Location, "find the site"),
    (Stop::ClientPackage, "fetch the client"),
    (Stop::FallbackStatus, "status without a token"),
    (Stop::NoToken, "policy without a token"),
    (Stop::ClientRegistration, "registration message"),
    (Stop::Registration, "register the key"),
    (Stop::Token, "client token"),
    (Stop::PolicyMessage, "ask for policy"),
    (Stop::Policy, "fetch the policy"),
    (Stop::Upload, "upload inventory"),
    (Stop::ContentLocation, "locate content"),
    (Stop::ContentToken, "content token"),
    (Stop::Listing, "list the package"),
    (Stop::Properties, "PROPFIND"),
    (Stop::Ranges, "download in ranges"),
    (Stop::SeveralRanges, "several ranges at once"),
    (Stop::OtherPackage, "another package"),
    (Stop::UserServiceAsDevice, "user service as device"),
    (Stop::UserServiceAsUser, "user service as user"),
    (Stop::Notification, "client notification"),
    (Stop::MediaPolicy, "boot media: policy"),
    (Stop::MediaContent, "boot media: content"),
    (Stop::MediaUserService, "boot media: user service"),
    (Stop::AltAuth, "boot media: AltAuth"),
    (Stop::Windows, "Windows authentication"),
    (Stop::Reports, "reports"),
    (Stop::Renewal, "renew the token"),
];

/// The number of steps of a walk.
pub const STEPS: usize = STOPS.len();

/// The state of a walk.
struct Walker {
    plan: WalkPlan,
    client: SimClient,
    device: Option<SimDevice>,
    token: Option<String>,
    /// The policy's location, from the management point.
    policy: Option<String>,
    /// The host and the path of the package.
    content: Option<(String, String)>,
    content_token: Option<String>,
    /// The path of a file of the package.
    file: Option<String>,
}

/// Performs every step, and reports each.
///
/// # Errors
/// If the gateway's name does not resolve.
pub async fn walk(
    plan: WalkPlan,
    mut tell: impl FnMut(&WalkStep),
) -> std::io::Result<Vec<WalkStep>> {
    let (client, token) = (plan.reach.client()?, plan.token.clone());
    let mut walker = Walker {
        plan,
        client,
        device: None,
        token,
        policy: None,
        content: None,
        content_token: None,
        file: None,
    };
    let mut steps = Vec::with_capacity(STEPS);
    for (stop, name) in STOPS {
        let begun = Instant::now();
        let taken = walker.take(*stop).await.unwrap_or_else(Taken::error);
        let step = taken.step(name, begun.elapsed());
        tell(&step);
        steps.push(step);
    }
    Ok(steps)
}

impl Walker {
    async fn take(&mut self, stop: Stop) -> Result<Taken, WalkError> {
        match stop {
            Stop::Location => self.location().await,
            Stop::ClientPackage => self.client_package().await,
            Stop::FallbackStatus => self.fallback_status().await,
            Stop::NoToken => self.no_token().await,
            Stop::ClientRegistration => self.client_registration().await,
            Stop::Registration => self.registration().await,
            Stop::Token => self.first_token().await,
            Stop::PolicyMessage => self.policy_message().await,
            Stop::Policy => self.fetch_policy().await,
            Stop::Upload => self.upload().await,
            Stop::ContentLocation => self.content_location().await,
            Stop::ContentToken => self.content_token().await,
            Stop::Listing => self.listing().await,
            Stop::Properties => self.properties().await,
            Stop::Ranges => self.ranges().await,
            Stop::SeveralRanges => self.several_ranges().await,
            Stop::OtherPackage => self.other_package().await,
            Stop::UserServiceAsDevice => self.user_service_as_device().await,
            Stop::UserServiceAsUser => self.user_service_as_user().await,
            Stop::Notification => self.notification().await,
            Stop::MediaPolicy => self.media_policy().await,
            Stop::MediaContent => self.media_content().await,
            Stop::MediaUserService => self.media_user_service().await,
            Stop::AltAuth => self.alt_auth().await,
            Stop::Windows => self.windows().await,
            Stop::Reports => self.reports().await,
            Stop::Renewal => self.renewal().await,
        }
    }

    async fn fetch(&mut self, request: &SimRequest) -> Result<SimAnswer, ClientError> {
        self.client.fetch(request).await
    }

    fn now(&self) -> Timestamp {
        self.plan.clock.now()
    }

    /// The client's token, or why the step is skipped.
    fn with_token(&self) -> Result<String, WalkError> {
        self.token.clone().ok_or(WalkError::Lacks("a token"))
    }

    /// A message to an endpoint, from the device if it has an id.
    fn message(&self, path: &str, endpoint: &str, payload: &str) -> SimRequest {
        let source = self.device.as_ref().and_then(SimDevice::id);
        let draft = Draft {
            endpoint,
            source,
            answers: None,
            id: Uuid::new_v4(),
            host: &self.plan.reach.name,
            sent: Some(self.now()),
            payload,
        };
        SimRequest::new("CCM_POST", path).body(messages::CONTENT_TYPE, draft.body())
    }
}

/// The message in a response.
fn reply(answer: &SimAnswer) -> Result<Message, WalkError> {
    let kind = answer.field("content-type").unwrap_or_default();
    let read = Message::read(kind, &answer.body);
    // An echoed body is not a reply.
    let reply = read.filter(|reply| reply.field("TargetEndpoint") == Some("SccmMessaging"));
    reply.ok_or(WalkError::Odd("the answer is no message"))
}
