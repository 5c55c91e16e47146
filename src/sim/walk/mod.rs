//! All that a client does with a site, step by step: what was asked, what should come of it, and
//! what came.
//!
//! Each step may use what earlier ones brought, and fails alone. Refusals are steps as well.

mod content;
mod device;
mod others;
mod taken;

use std::net::IpAddr;
use std::time::Instant;

use jiff::Timestamp;
use serde::Serialize;
use uuid::Uuid;

use super::client::{Answer, Client, ClientError, Request};
use super::device::Device;
use super::messages::{self, Draft, Message};
use super::reach::Reach;
use crate::clock::Clock;
use taken::{Taken, WalkError};

/// What a walk is done with.
#[derive(Clone, Debug)]
pub struct Plan {
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
    /// The address that boot media start from, if not the system's choice.
    pub media_from: Option<IpAddr>,
    /// The account for namespaces with Windows authentication, which are closed without one.
    pub windows: Option<String>,
    /// A path of reports that leads on to another one.
    pub reports: Option<String>,
    /// The package whose content is fetched.
    pub package: String,
    /// What time it is.
    pub clock: Clock,
}

/// How a step came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// As it should.
    Ok,
    /// Otherwise.
    Failed,
    /// Not taken, for want of something.
    Skipped,
}

/// A step that was taken.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Step {
    /// Its name.
    pub step: &'static str,
    /// The request that decides about it.
    pub request: String,
    /// What should come of it: a status, and sitegate's code if it is to be refused.
    pub expected: String,
    /// The status that came.
    pub status: Option<u16>,
    /// sitegate's code, if it was refused.
    pub code: Option<String>,
    /// What came, in words.
    pub seen: String,
    /// How long it took, with all its requests, in milliseconds.
    pub ms: f64,
    /// How it came out.
    pub outcome: Outcome,
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

/// How many steps a walk has.
pub const STEPS: usize = STOPS.len();

/// A client on its way.
struct Walker {
    plan: Plan,
    client: Client,
    device: Option<Device>,
    token: Option<String>,
    /// Where the policy is, as the management point has told.
    policy: Option<String>,
    /// The host and the path of the package.
    content: Option<(String, String)>,
    content_token: Option<String>,
    /// The path of a file of the package.
    file: Option<String>,
}

/// Take every step, and tell of each.
///
/// # Errors
/// If the gateway's name does not resolve.
pub async fn walk(plan: Plan, mut tell: impl FnMut(&Step)) -> std::io::Result<Vec<Step>> {
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

    async fn fetch(&mut self, request: &Request) -> Result<Answer, ClientError> {
        self.client.fetch(request).await
    }

    fn now(&self) -> Timestamp {
        self.plan.clock.now()
    }

    /// The client's token, or why the step is not taken.
    fn with_token(&self) -> Result<String, WalkError> {
        self.token.clone().ok_or(WalkError::Lacks("a token"))
    }

    /// A message to an endpoint, from the device if it has an id.
    fn message(&self, path: &str, endpoint: &str, payload: &str) -> Request {
        let source = self.device.as_ref().and_then(Device::id);
        let draft = Draft {
            endpoint,
            source,
            answers: None,
            id: Uuid::new_v4(),
            host: &self.plan.reach.name,
            sent: Some(self.now()),
            payload,
        };
        Request::new("CCM_POST", path).body(messages::CONTENT_TYPE, draft.body())
    }
}

/// The message in an answer.
fn reply(answer: &Answer) -> Result<Message, WalkError> {
    let kind = answer.field("content-type").unwrap_or_default();
    let read = Message::read(kind, &answer.body);
    // What comes back as it came answers nothing.
    let reply = read.filter(|reply| reply.field("TargetEndpoint") == Some("SccmMessaging"));
    reply.ok_or(WalkError::Odd("the answer is no message"))
}
