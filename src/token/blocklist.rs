//! The blocklist: blocked tokens, devices and users, and tokens issued before a given time.
//!
//! Stores only fingerprints and times, so that a long list stays small and a lookup is a few
//! hashes. Takes verified identities; reads no files.

mod builder;
mod rules;
mod typed;

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use jiff::Timestamp;
use uuid::Uuid;

use super::identity::Identity;
use super::issuer::Issuer;
use super::origin::TokenOrigin;
use super::refusal::Refusal;
use crate::denial::Denial;
use builder::BlocklistBuilder;
use rules::{Rule, Rules};
pub use typed::{BLOCKLIST_BYTES_MAX, BlocklistFault};

/// A rule without a time blocks regardless of the time of issue.
const ALWAYS: i64 = i64::MAX;

/// The blocklist. The default blocks nothing.
#[derive(Default)]
pub struct Blocklist {
    /// By the fingerprint of a rule's subject: tokens issued before this second are blocked.
    rules: Rules,
    /// Computes the fingerprints, with a random key so that an attacker cannot construct a
    /// collision.
    hasher: RandomState,
    /// A bit set of the kinds of rule in the list; lookups skip the other kinds.
    kinds: u8,
    issuers: BTreeSet<String>,
    entries: usize,
    /// Further lists that also apply.
    beside: Vec<Arc<Blocklist>>,
    /// The configured names of the issuers of origins.
    names: IssuerNames,
    /// Whether the blocks of the site are unknown.
    is_unheard: bool,
}

/// The configured issuer names, by each `iss` that they accept.
#[derive(Clone, Debug, Default)]
pub struct IssuerNames {
    by_iss: HashMap<String, Arc<str>>,
    all: HashMap<Arc<str>, Vec<String>>,
}

impl IssuerNames {
    /// The names of the issuers of these policies.
    pub fn of_policies<'a>(policies: impl IntoIterator<Item = &'a Issuer>) -> Self {
        let mut names = IssuerNames::default();
        for policy in policies {
            let all = names.all.entry(policy.name.clone()).or_default();
            all.extend(policy.accepts.iter().cloned());
            let by_iss = policy.accepts.iter().map(|iss| (iss.clone(), policy.name.clone()));
            names.by_iss.extend(by_iss);
        }
        names
    }

    /// All keys by which rules may refer to the issuer with this configured name.
    fn keys_of<'k>(&'k self, name: &'k str) -> impl Iterator<Item = IssuerKey<'k>> {
        let all = self.all.get(name).map(Vec::as_slice).unwrap_or_default();
        let all = all.iter().map(|iss| IssuerKey::Iss(iss));
        std::iter::once(IssuerKey::Name(name)).chain(all)
    }

    /// The configured name of the issuer that accepts this `iss`.
    fn name_of(&self, iss: &str) -> Option<&str> {
        self.by_iss.get(iss).map(|name| &**name)
    }
}

/// How a rule refers to an issuer: a blocklist file by its configured name, the site by its `iss`,
/// which does not depend on the configuration.
#[derive(Clone, Copy, Hash)]
enum IssuerKey<'a> {
    Name(&'a str),
    Iss(&'a str),
}

/// The subject of a rule.
#[derive(Clone, Copy)]
enum About<'a> {
    Token(&'a str),
    Device(&'a str),
    User(&'a str),
    Everything,
}

/// One entry of a blocklist.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blocking<'a> {
    /// One token of an issuer, by its id.
    Token {
        /// The token's `iss`.
        iss: &'a str,
        /// The token's id.
        id: &'a str,
    },
    /// A device, for tokens of all issuers.
    Device(&'a str),
    /// A user, for tokens of all issuers.
    User(&'a str),
    /// Everything that an issuer issued before a given time.
    IssuedBefore {
        /// The `iss`.
        iss: &'a str,
        /// The time.
        before: Timestamp,
    },
}

impl Blocklist {
    /// Joins several lists: an entry of any of them blocks. `names` maps the `iss` of origin tokens
    /// to configured names.
    pub fn joined(lists: impl IntoIterator<Item = Arc<Blocklist>>, names: IssuerNames) -> Self {
        let beside: Vec<_> = lists.into_iter().filter(|list| !list.is_empty()).collect();
        Blocklist { beside, names, ..Blocklist::default() }
    }

    /// The list of a gateway that does not know the site's blocks: it refuses every token.
    pub fn unheard() -> Self {
        Blocklist { is_unheard: true, ..Blocklist::default() }
    }

    /// The list of a site's blocks, which refer to issuers by their `iss`, as tokens do.
    pub fn of<'a>(entries: impl IntoIterator<Item = Blocking<'a>>) -> Self {
        let mut list = BlocklistBuilder::default();
        for entry in entries {
            let (issuer, about, before) = entry.rule();
            list.rule(issuer, about, before);
        }
        let list = list.build();
        Blocklist { entries: list.rules.len(), ..list }
    }

    /// The list after a change: without the removed entries, whatever their times, and with the
    /// added ones in place of earlier ones of the same subject. Costs the same for a long list.
    #[must_use]
    pub fn changed<'a>(
        &self,
        removed: impl IntoIterator<Item = Blocking<'a>>,
        added: impl IntoIterator<Item = Blocking<'a>>,
    ) -> Self {
        let mut kinds = self.kinds;
        let fingerprint = |issuer, about| fingerprint(&self.hasher, issuer, about);
        let removed = removed.into_iter().map(|entry| entry.rule());
        let removed: Vec<u128> =
            removed.map(|(issuer, about, _)| fingerprint(issuer, about)).collect();
        let added = added.into_iter().map(|entry| entry.rule());
        let added: Vec<Rule> = added
            .map(|(issuer, about, before)| {
                kinds |= about.kind(issuer);
                (fingerprint(issuer, about), before)
            })
            .collect();
        let rules = self.rules.changed(&added, &removed);
        Blocklist {
            entries: rules.len(),
            rules,
            hasher: self.hasher.clone(),
            kinds,
            issuers: self.issuers.clone(),
            beside: self.beside.clone(),
            names: self.names.clone(),
            is_unheard: self.is_unheard,
        }
    }

    /// Checks a verified identity and the tokens that its token was made from. `issued` is the
    /// token's `iat`, else its `nbf`, in seconds after 1970; a token with neither counts as issued
    /// before every given time.
    ///
    /// # Errors
    /// The refusal, if it is blocked. A device or a user that is blocked without a time is refused
    /// as such; all other blocks refuse the token, because another token may be good.
    pub fn judge(&self, who: &Identity, issued: Option<i64>) -> Result<(), Refusal> {
        self.judge_by(&self.names, who, issued)
    }

    fn judge_by(
        &self,
        names: &IssuerNames,
        who: &Identity,
        issued: Option<i64>,
    ) -> Result<(), Refusal> {
        self.beside.iter().try_for_each(|list| list.judge_by(names, who, issued))?;
        if self.is_unheard {
            return Err(Refusal::new(Denial::SiteUnheard, "there is no list of blocks"));
        }
        if self.rules.len() == 0 {
            return Ok(());
        }
        let subject = BlockedSubject::of(who, issued);
        // A block of one `iss` of an issuer applies to all of its `iss` values.
        names.keys_of(&who.issuer).try_for_each(|issuer| self.judge_one(issuer, &subject))?;
        for origin in who.origins.iter() {
            let own = std::iter::once(IssuerKey::Iss(&origin.iss));
            let all = names.name_of(&origin.iss).into_iter().flat_map(|name| names.keys_of(name));
            for issuer in own.chain(all) {
                self.judge_one(issuer, &BlockedSubject::of_origin(origin)).map_err(|refusal| {
                    let detail = format!("{}, as the token that it was made from", refusal.detail);
                    Refusal { detail: detail.into(), ..refusal }
                })?;
            }
        }
        Ok(())
    }

    fn judge_one(
        &self,
        issuer: IssuerKey<'_>,
        subject: &BlockedSubject<'_>,
    ) -> Result<(), Refusal> {
        let issuer = Some(issuer);
        let token = subject.token_id.map(About::Token);
        let device = subject.device.map(About::Device);
        let user = subject.user.map(About::User);
        let issued = subject.issued;
        let looks = [
            (issuer, token),
            (issuer, device),
            (None, device),
            (issuer, user),
            (None, user),
            (issuer, Some(About::Everything)),
        ];
        for (issuer, about) in looks {
            let Some(about) = about else { continue };
            let Some(before) = self.before(issuer, about) else { continue };
            if before == ALWAYS {
                return Err(match about {
                    About::Device(_) => Refusal::new(Denial::DeviceBlocked, "by its device"),
                    About::User(_) => Refusal::new(Denial::UserBlocked, "by its user"),
                    _ => Refusal::new(Denial::TokenBlocked, "by its id"),
                });
            }
            match issued {
                Some(issued) if issued >= before => {}
                Some(_) => {
                    let detail = "it was issued before the moment in issued_before";
                    return Err(Refusal::new(Denial::TokenBlocked, detail));
                }
                None => {
                    let detail = "issued_before applies to it, and it has neither iat nor nbf";
                    return Err(Refusal::new(Denial::TokenBlocked, detail));
                }
            }
        }
        Ok(())
    }

    /// The number of entries.
    pub fn len(&self) -> usize {
        self.beside.iter().fold(self.entries, |sum, list| sum + list.len())
    }

    /// Whether nothing is blocked.
    pub fn is_empty(&self) -> bool {
        self.len() == 0 && !self.is_unheard && self.beside.iter().all(|list| list.is_empty())
    }

    /// The issuer names in the list, for comparison with the configured ones.
    pub fn issuers(&self) -> impl Iterator<Item = &str> {
        self.issuers.iter().map(String::as_str)
    }

    /// The memory of the rules, in bytes.
    pub fn bytes(&self) -> usize {
        self.rules.bytes()
    }

    fn before(&self, issuer: Option<IssuerKey<'_>>, about: About<'_>) -> Option<i64> {
        if self.kinds & about.kind(issuer) == 0 {
            return None;
        }
        self.rules.get(fingerprint(&self.hasher, issuer, about))
    }
}

impl<'a> Blocking<'a> {
    /// The rule that blocks it.
    fn rule(self) -> (Option<IssuerKey<'a>>, About<'a>, i64) {
        match self {
            Blocking::Token { iss, id } => (Some(IssuerKey::Iss(iss)), About::Token(id), ALWAYS),
            Blocking::Device(id) => (None, About::Device(id), ALWAYS),
            Blocking::User(id) => (None, About::User(id), ALWAYS),
            Blocking::IssuedBefore { iss, before } => {
                (Some(IssuerKey::Iss(iss)), About::Everything, second(before))
            }
        }
    }
}

/// A 128-bit fingerprint of a rule's subject: two keyed hashes with separate domains.
fn fingerprint(hasher: &RandomState, issuer: Option<IssuerKey<'_>>, about: About<'_>) -> u128 {
    let (kind, id) = (about.kind(issuer), about.id());
    let half = |domain: u8| u128::from(hasher.hash_one((domain, kind, issuer, id)));
    half(0) << 64 | half(1)
}

/// The properties of a token that rules are matched against.
struct BlockedSubject<'a> {
    token_id: Option<&'a str>,
    device: Option<&'a str>,
    user: Option<&'a str>,
    issued: Option<i64>,
}

impl<'a> BlockedSubject<'a> {
    fn of(who: &'a Identity, issued: Option<i64>) -> Self {
        BlockedSubject {
            token_id: who.token_id.as_deref(),
            device: who.device.as_deref(),
            user: who.user.as_deref(),
            issued,
        }
    }

    fn of_origin(origin: &'a TokenOrigin) -> Self {
        BlockedSubject {
            token_id: origin.token_id.as_deref(),
            device: origin.device.as_deref(),
            user: origin.user.as_deref(),
            issued: origin.issued,
        }
    }
}

impl fmt::Debug for Blocklist {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Blocklist({} entries)", self.entries)
    }
}

impl<'a> About<'a> {
    /// One bit for each kind of rule.
    fn kind(self, issuer: Option<IssuerKey<'_>>) -> u8 {
        let bit = match self {
            About::Token(_) => 1,
            About::Device(_) => 2,
            About::User(_) => 4,
            About::Everything => 8,
        };
        if issuer.is_some() { bit << 4 } else { bit }
    }

    /// The value that is compared: a GUID in any spelling, with or without the prefix `GUID:`,
    /// compares as a number, and any other text byte for byte. No other spelling bypasses the list.
    fn id(self) -> (Option<u128>, &'a str) {
        let text = match self {
            About::Token(text) | About::Device(text) | About::User(text) => text,
            About::Everything => return (None, ""),
        };
        let bare = match text.split_at_checked(5) {
            Some((prefix, rest)) if prefix.eq_ignore_ascii_case("GUID:") => rest,
            _ => text,
        };
        match Uuid::try_parse(bare) {
            Ok(id) => (Some(id.as_u128()), ""),
            Err(_) => (None, text),
        }
    }
}

/// The time in whole seconds, rounded up.
fn second(moment: Timestamp) -> i64 {
    let fraction = i64::from(moment.subsec_nanosecond() > 0);
    moment.as_second().saturating_add(fraction)
}
