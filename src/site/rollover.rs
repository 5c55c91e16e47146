//! The rules for rolling over the site's root, role authority and keys: publish, wait until all
//! have it, switch, retire. Lists the objections to a step; each is a row of a closed list.
//!
//! Only decides; the callers that hold the keys change the files.

use jiff::{SignedDuration, Timestamp};

use super::ring::{Ring, Stage, Thing};
use super::token_key_error::TokenKeyError;
use crate::cert::CredentialFault;
use crate::token::LIFETIME_MAX_S;

/// How long others may cache the published keys: the max-age in service/metadata.rs.
pub const JWKS_CACHED_S: i64 = 300;

/// One step of a rollover.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RolloverStep {
    /// Create the next one and distribute it.
    Publish,
    /// Put the next one in force.
    Switch,
    /// Remove the former one.
    Retire,
}

impl RolloverStep {
    /// The name on the command line.
    pub const fn as_str(self) -> &'static str {
        match self {
            RolloverStep::Publish => "publish",
            RolloverStep::Switch => "switch",
            RolloverStep::Retire => "retire",
        }
    }

    /// The only valid step after a stage.
    pub const fn after(stage: Stage) -> RolloverStep {
        match stage {
            Stage::Steady => RolloverStep::Publish,
            Stage::Published => RolloverStep::Switch,
            Stage::Switched => RolloverStep::Retire,
        }
    }
}

macro_rules! refusals {
    ($($(#[doc = $doc:literal])+ $variant:ident $code:literal $title:literal $hint:literal;)+) => {
        /// Why a step of a rollover is refused.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum StepRefusal { $($(#[doc = $doc])+ $variant,)+ }

        impl StepRefusal {
            /// Every refusal, in the order of the documentation.
            pub const ALL: &[StepRefusal] = &[$(StepRefusal::$variant,)+];

            /// `rollover.reason`: the code in output and documentation.
            pub const fn code(self) -> &'static str { match self { $(StepRefusal::$variant => $code,)+ } }

            /// The objection, as a sentence.
            pub const fn title(self) -> &'static str { match self { $(StepRefusal::$variant => $title,)+ } }

            /// The remedy, as a sentence.
            pub const fn hint(self) -> &'static str { match self { $(StepRefusal::$variant => $hint,)+ } }
        }
    };
}

refusals! {
    /// Nothing exists to roll over.
    Missing "rollover.missing" "There is none yet."
        "The first start makes it; a site that issues no certificates has no root.";
    /// Publishing twice would leave an orphaned next one.
    PublishedAlready "rollover.published_already" "The next generation is published already."
        "Wait until all clients and gateways have it, then switch.";
    /// Publishing while an old one exists would make three.
    NotRetired "rollover.not_retired" "The previous generation is still trusted."
        "Retire it first.";
    /// Switching without a next one.
    NotPublished "rollover.not_published" "Nothing is published to switch to."
        "Publish first.";
    /// Switching twice.
    SwitchedAlready "rollover.switched_already" "The next generation is in force already."
        "Retire the previous one.";
    /// Retiring before the switch.
    NotSwitched "rollover.not_switched" "The next generation is not in force yet."
        "Switch first.";
    /// Retiring without an old one.
    NothingToRetire "rollover.nothing_to_retire" "There is no previous generation to retire."
        "Nothing needs to be done.";
    /// Root and role authority are rolled over one after the other: the root signs the role
    /// authority.
    OtherUnderWay "rollover.other_under_way" "Another rollover that it depends on is in progress."
        "Complete the other one first; the role authority is rolled over together with the root.";
    /// A gateway without the published one would refuse certificates or tokens that others accept.
    GatewaysLack "rollover.gateways_lack" "Not every gateway on another host has the published generation, or a certificate of the one in force."
        "Wait for them, or remove gateways that no longer exist.";
    /// Others may still have the former keys in a cache.
    TooEarly "rollover.too_early" "Gateways and clients may still have the previous keys cached."
        "Wait until the time that is shown.";
    /// Only the operator knows which roots clients trust.
    ClientsUnconfirmed "rollover.clients_unconfirmed" "Clients must have imported the next root."
        "Import what site export-root writes into every client, then use --clients-have-it.";
    /// Tokens of the old key may still be in use.
    TokensValid "rollover.tokens_valid" "Tokens that the old key signed can still be valid."
        "Wait until the time that is shown, or end them at once with --tokens-end-now.";
    /// A certificate signed by the old one is, or could be, in use.
    LeavesChain "rollover.leaves_chain" "Certificates of site systems are still issued by the old one."
        "A running sitegate reissues them within seconds; remove the files of site systems that no longer exist.";
}

/// A refusal with its detail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StepRefused {
    /// The reason.
    pub refusal: StepRefusal,
    /// Names or times; may be empty.
    pub detail: String,
}

impl StepRefused {
    pub(super) fn new(refusal: StepRefusal, detail: impl Into<String>) -> Self {
        StepRefused { refusal, detail: detail.into() }
    }
}

impl std::fmt::Display for StepRefused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let StepRefused { refusal, detail } = self;
        let (title, hint, code) = (refusal.title(), refusal.hint(), refusal.code());
        match detail.as_str() {
            "" => write!(f, "{title} {hint} ({code})"),
            detail => write!(f, "{title} {detail}. {hint} ({code})"),
        }
    }
}

/// Why a step was not taken.
#[derive(Debug, thiserror::Error)]
pub enum RolloverError {
    /// The step is refused.
    #[error("{0}")]
    Refused(StepRefused),
    /// A certificate could not be read or created.
    #[error("{0}")]
    Certificate(#[from] CredentialFault),
    /// A key could not be read or created.
    #[error("{0}")]
    Key(#[from] TokenKeyError),
}

impl From<StepRefused> for RolloverError {
    fn from(refused: StepRefused) -> Self {
        RolloverError::Refused(refused)
    }
}

/// The caller's knowledge and confirmations.
#[derive(Clone, Copy, Debug, Default)]
pub struct Terms<'a> {
    /// Gateways that lack the published bundle, or serve a certificate of the old authority.
    pub laggards: &'a [String],
    /// The operator confirms that clients have imported the next root.
    pub clients_have_it: bool,
    /// Tokens of the old key become invalid with it.
    pub tokens_end_now: bool,
}

/// The state on disk besides the ring.
#[derive(Clone, Debug, Default)]
pub(super) struct RolloverFacts {
    /// Whether the current one exists.
    pub exists: bool,
    /// For root and role authority: the stage of the other.
    pub other: Option<(Thing, Stage)>,
    /// The files of leaves that the old one signed, directly or not.
    pub leaves: Vec<String>,
}

/// All objections to a step, the most important first.
pub(super) fn refusals(
    thing: Thing,
    ring: &Ring,
    step: RolloverStep,
    terms: &Terms<'_>,
    found: &RolloverFacts,
    now: Timestamp,
) -> Vec<StepRefused> {
    if !found.exists {
        return vec![StepRefused::new(StepRefusal::Missing, "")];
    }
    let order = match (step, ring.stage()) {
        (RolloverStep::Publish, Stage::Published) => Some(StepRefusal::PublishedAlready),
        (RolloverStep::Publish, Stage::Switched) => Some(StepRefusal::NotRetired),
        (RolloverStep::Switch, Stage::Steady) => Some(StepRefusal::NotPublished),
        (RolloverStep::Switch, Stage::Switched) => Some(StepRefusal::SwitchedAlready),
        (RolloverStep::Retire, Stage::Steady) => Some(StepRefusal::NothingToRetire),
        (RolloverStep::Retire, Stage::Published) => Some(StepRefusal::NotSwitched),
        _ => None,
    };
    if let Some(refusal) = order {
        return vec![StepRefused::new(refusal, "")];
    }
    // The role authority that a switch of the root put in force is retired with the root.
    let waits_for = match (thing, step, found.other) {
        (Thing::Root, RolloverStep::Publish, other) => {
            other.filter(|(_, stage)| *stage != Stage::Steady)
        }
        (Thing::Intermediate, _, other) => other.filter(|(_, stage)| *stage != Stage::Steady),
        _ => None,
    };
    if let Some((other, stage)) = waits_for {
        let detail = format!("{} is {}", other.as_str(), stage.as_str());
        return vec![StepRefused::new(StepRefusal::OtherUnderWay, detail)];
    }
    match step {
        RolloverStep::Publish => Vec::new(),
        RolloverStep::Switch => before_switch(thing, ring, terms, now),
        RolloverStep::Retire => before_retirement(thing, ring, terms, found, now),
    }
}

fn before_switch(thing: Thing, ring: &Ring, terms: &Terms<'_>, now: Timestamp) -> Vec<StepRefused> {
    let mut refused = Vec::new();
    if !terms.laggards.is_empty() {
        let names = format!("Missing at {}", terms.laggards.join(", "));
        refused.push(StepRefused::new(StepRefusal::GatewaysLack, names));
    }
    if thing == Thing::TokenKey
        && let Some(until) = pending(ring, JWKS_CACHED_S, now)
    {
        refused.push(StepRefused::new(StepRefusal::TooEarly, format!("Not before {until}")));
    }
    if thing == Thing::Root && !terms.clients_have_it {
        refused.push(StepRefused::new(StepRefusal::ClientsUnconfirmed, ""));
    }
    refused
}

fn before_retirement(
    thing: Thing,
    ring: &Ring,
    terms: &Terms<'_>,
    found: &RolloverFacts,
    now: Timestamp,
) -> Vec<StepRefused> {
    let mut refused = Vec::new();
    // A compromised key is not kept until an absent gateway returns.
    if !terms.laggards.is_empty() && !terms.tokens_end_now {
        let names = format!("Missing at {}", terms.laggards.join(", "));
        refused.push(StepRefused::new(StepRefusal::GatewaysLack, names));
    }
    if thing == Thing::TokenKey
        && !terms.tokens_end_now
        && let Some(until) = pending(ring, LIFETIME_MAX_S, now)
    {
        refused.push(StepRefused::new(StepRefusal::TokensValid, format!("Not before {until}")));
    }
    if matches!(thing, Thing::Root | Thing::Intermediate) && !found.leaves.is_empty() {
        let names = format!("These do: {}", found.leaves.join(", "));
        refused.push(StepRefused::new(StepRefusal::LeavesChain, names));
    }
    refused
}

/// The end of a waiting time that began with the last step, if it is not over. If the clock was set
/// back, the wait gets longer, never shorter.
fn pending(ring: &Ring, seconds: i64, now: Timestamp) -> Option<Timestamp> {
    let until = ring.since?.checked_add(SignedDuration::from_secs(seconds)).ok()?;
    (now < until).then_some(until)
}

#[cfg(test)]
mod tests;
