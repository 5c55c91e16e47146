//! Rolling over the site's root, role authority and keys: publish, wait until everybody has it,
//! switch, retire. Says what stands in the way of a step; each refusal is a row of a closed list.
//!
//! Decides and touches no file: what a step does is for whoever keeps the keys.

use jiff::{SignedDuration, Timestamp};

use super::ring::{Ring, Stage, Thing};
use super::tokens::TokenKeyError;
use crate::cert::Fault;
use crate::token::LIFETIME_MAX_S;

/// For how long others may remember the published keys: what service/metadata.rs lets them.
pub const JWKS_CACHED_S: i64 = 300;

/// One step of a rollover.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Make the next one and hand it out.
    Publish,
    /// Put the next one in force.
    Switch,
    /// Let go of the one before.
    Retire,
}

impl Step {
    /// The word of the command line.
    pub const fn as_str(self) -> &'static str {
        match self {
            Step::Publish => "publish",
            Step::Switch => "switch",
            Step::Retire => "retire",
        }
    }

    /// The only step that may follow a stage.
    pub const fn after(stage: Stage) -> Step {
        match stage {
            Stage::Steady => Step::Publish,
            Stage::Published => Step::Switch,
            Stage::Switched => Step::Retire,
        }
    }
}

macro_rules! refusals {
    ($($(#[doc = $doc:literal])+ $variant:ident $code:literal $title:literal $hint:literal;)+) => {
        /// Why a step of a rollover is refused.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Refusal { $($(#[doc = $doc])+ $variant,)+ }

        impl Refusal {
            /// Every refusal, in the order of the documentation.
            pub const ALL: &[Refusal] = &[$(Refusal::$variant,)+];

            /// `rollover.reason`: the word in output and documents.
            pub const fn code(self) -> &'static str { match self { $(Refusal::$variant => $code,)+ } }

            /// What stands in the way, as a sentence.
            pub const fn title(self) -> &'static str { match self { $(Refusal::$variant => $title,)+ } }

            /// What to do, as a sentence.
            pub const fn hint(self) -> &'static str { match self { $(Refusal::$variant => $hint,)+ } }
        }
    };
}

refusals! {
    /// There is none to roll over.
    Missing "rollover.missing" "There is none yet."
        "The first start makes it; a site that issues no certificates has no root.";
    /// Publishing twice would leave one that nobody knows of.
    PublishedAlready "rollover.published_already" "The next one is published already."
        "Wait until everybody has it, then switch.";
    /// Publishing with an old one still there: three at once.
    NotRetired "rollover.not_retired" "The one before is still trusted."
        "Retire it first.";
    /// Switching to nothing.
    NotPublished "rollover.not_published" "Nothing is published to switch to."
        "Publish first.";
    /// Switching twice.
    SwitchedAlready "rollover.switched_already" "The next one is in force already."
        "Retire the one before.";
    /// Retiring before switching.
    NotSwitched "rollover.not_switched" "The next one is not in force yet."
        "Switch first.";
    /// Retiring what is not there.
    NothingToRetire "rollover.nothing_to_retire" "There is no one before to retire."
        "Nothing needs to be done.";
    /// Root and role authority one after the other: the one hangs from the other.
    OtherUnderWay "rollover.other_under_way" "Another rollover is under way that it depends on."
        "Bring the other one to its end first; the role authority goes with the root.";
    /// A gateway that lacks it would refuse what others are given.
    GatewaysLack "rollover.gateways_lack" "Not every gateway on another host has what was handed out, or a certificate of what is in force."
        "Wait for them, or remove those that are gone.";
    /// Others may remember the keys as they were.
    TooEarly "rollover.too_early" "Others may not have looked yet."
        "Wait until the moment that is named.";
    /// Only people know what clients trust.
    ClientsUnconfirmed "rollover.clients_unconfirmed" "Clients must have imported the next root."
        "Import what site export-root writes into every client, then say --clients-have-it.";
    /// A token of the old key can be out there.
    TokensValid "rollover.tokens_valid" "Tokens that the old key signed can still be valid."
        "Wait until the moment that is named, or end them at once with --tokens-end-now.";
    /// A certificate of the old one is served, or could be.
    LeavesChain "rollover.leaves_chain" "Certificates of site systems still hang from the old one."
        "A running sitegate issues them anew within seconds; remove the files of site systems that are gone.";
}

/// A refusal, and what exactly was seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Which.
    pub refusal: Refusal,
    /// Names or moments; may be empty.
    pub detail: String,
}

impl Refused {
    pub(super) fn new(refusal: Refusal, detail: impl Into<String>) -> Self {
        Refused { refusal, detail: detail.into() }
    }
}

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Refused { refusal, detail } = self;
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
    /// It may not be, now.
    #[error("{0}")]
    Refused(Refused),
    /// A certificate could not be read or made.
    #[error("{0}")]
    Certificate(#[from] Fault),
    /// A key could not be read or made.
    #[error("{0}")]
    Key(#[from] TokenKeyError),
}

impl From<Refused> for RolloverError {
    fn from(refused: Refused) -> Self {
        RolloverError::Refused(refused)
    }
}

/// What whoever asks for a step knows and confirms.
#[derive(Clone, Copy, Debug, Default)]
pub struct Terms<'a> {
    /// Gateways that have not got what was handed out, or serve a certificate of the old one.
    pub laggards: &'a [String],
    /// Clients have imported the next root: only people know that.
    pub clients_have_it: bool,
    /// Tokens that the old key signed shall end with it.
    pub tokens_end_now: bool,
}

/// What is found on disk beside the ring itself.
#[derive(Clone, Debug, Default)]
pub(super) struct Found {
    /// Whether there is one in force at all.
    pub exists: bool,
    /// For root and role authority: how far the other has come.
    pub other: Option<(Thing, Stage)>,
    /// Files of leaves that hang from the old one.
    pub leaves: Vec<String>,
}

/// Everything that stands in the way of a step, the most telling first.
pub(super) fn refusals(
    (thing, ring): (Thing, &Ring),
    step: Step,
    terms: &Terms<'_>,
    found: &Found,
    now: Timestamp,
) -> Vec<Refused> {
    if !found.exists {
        return vec![Refused::new(Refusal::Missing, "")];
    }
    let order = match (step, ring.stage()) {
        (Step::Publish, Stage::Published) => Some(Refusal::PublishedAlready),
        (Step::Publish, Stage::Switched) => Some(Refusal::NotRetired),
        (Step::Switch, Stage::Steady) => Some(Refusal::NotPublished),
        (Step::Switch, Stage::Switched) => Some(Refusal::SwitchedAlready),
        (Step::Retire, Stage::Steady) => Some(Refusal::NothingToRetire),
        (Step::Retire, Stage::Published) => Some(Refusal::NotSwitched),
        _ => None,
    };
    if let Some(refusal) = order {
        return vec![Refused::new(refusal, "")];
    }
    // The role authority that a switch of the root put in force retires with the root.
    let waits_for = match (thing, step, found.other) {
        (Thing::Root, Step::Publish, other) => other.filter(|(_, stage)| *stage != Stage::Steady),
        (Thing::Intermediate, _, other) => other.filter(|(_, stage)| *stage != Stage::Steady),
        _ => None,
    };
    if let Some((other, stage)) = waits_for {
        let detail = format!("{} is {}", other.as_str(), stage.as_str());
        return vec![Refused::new(Refusal::OtherUnderWay, detail)];
    }
    match step {
        Step::Publish => Vec::new(),
        Step::Switch => before_switch(thing, ring, terms, now),
        Step::Retire => before_retirement(thing, ring, terms, found, now),
    }
}

fn before_switch(thing: Thing, ring: &Ring, terms: &Terms<'_>, now: Timestamp) -> Vec<Refused> {
    let mut refused = Vec::new();
    if !terms.laggards.is_empty() {
        let names = format!("Missing at {}", terms.laggards.join(", "));
        refused.push(Refused::new(Refusal::GatewaysLack, names));
    }
    if thing == Thing::TokenKey
        && let Some(until) = pending(ring, JWKS_CACHED_S, now)
    {
        refused.push(Refused::new(Refusal::TooEarly, format!("Not before {until}")));
    }
    if thing == Thing::Root && !terms.clients_have_it {
        refused.push(Refused::new(Refusal::ClientsUnconfirmed, ""));
    }
    refused
}

fn before_retirement(
    thing: Thing,
    ring: &Ring,
    terms: &Terms<'_>,
    found: &Found,
    now: Timestamp,
) -> Vec<Refused> {
    let mut refused = Vec::new();
    // A key that others may know does not wait for a gateway that is away.
    if !terms.laggards.is_empty() && !terms.tokens_end_now {
        let names = format!("Missing at {}", terms.laggards.join(", "));
        refused.push(Refused::new(Refusal::GatewaysLack, names));
    }
    if thing == Thing::TokenKey
        && !terms.tokens_end_now
        && let Some(until) = pending(ring, LIFETIME_MAX_S, now)
    {
        refused.push(Refused::new(Refusal::TokensValid, format!("Not before {until}")));
    }
    if matches!(thing, Thing::Root | Thing::Intermediate) && !found.leaves.is_empty() {
        let names = format!("These do: {}", found.leaves.join(", "));
        refused.push(Refused::new(Refusal::LeavesChain, names));
    }
    refused
}

/// Until when a time that began with the last step lasts, if it still does. A clock that was set
/// back makes it longer, never shorter.
fn pending(ring: &Ring, seconds: i64, now: Timestamp) -> Option<Timestamp> {
    let until = ring.since?.checked_add(SignedDuration::from_secs(seconds)).ok()?;
    (now < until).then_some(until)
}

#[cfg(test)]
mod tests;
