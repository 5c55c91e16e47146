//! What is blocked before its time: tokens, devices, users, and what was issued before a moment.
//!
//! Holds fingerprints and times alone, so that a long list stays small and a look is a few hashes.
//! Judges verified identities; knows no file.

mod typed;

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use jiff::Timestamp;
use uuid::Uuid;

use super::identity::Identity;
use super::issuer::Issuer;
use super::origin::Origin;
use super::refusal::Refusal;
use crate::denial::Denial;
pub use typed::{BLOCKLIST_BYTES_MAX, BlocklistFault};

/// A rule without a time blocks whatever was issued, whenever.
const ALWAYS: i64 = i64::MAX;

/// What is blocked. The default blocks nothing.
#[derive(Default)]
pub struct Blocklist {
    /// What is issued before this second is blocked, by the fingerprint of what it is about.
    rules: HashMap<u128, i64>,
    /// Makes the fingerprints: with a key of its own, so that nobody can choose two that collide.
    hasher: RandomState,
    /// Which kinds of rule there are; the others cost nothing.
    kinds: u8,
    issuers: BTreeSet<String>,
    entries: usize,
    /// Lists that others keep, and that count as well.
    beside: Vec<Arc<Blocklist>>,
    /// What the issuers of origins are called here.
    names: IssuerNames,
    /// Whether nobody knows who is blocked.
    is_unheard: bool,
}

/// What the issuers that are configured here are called, by each `iss` that they accept.
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

    /// Everything by which rules may name an issuer of this configured name.
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

/// How a rule names an issuer: a person's by its configured name, a site's by its `iss`, which means
/// the same whatever a configuration calls it.
#[derive(Clone, Copy, Hash)]
enum IssuerKey<'a> {
    Name(&'a str),
    Iss(&'a str),
}

/// What a rule is about.
#[derive(Clone, Copy)]
enum About<'a> {
    Token(&'a str),
    Device(&'a str),
    User(&'a str),
    Everything,
}

/// What somebody blocks, as a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blocking<'a> {
    /// One token of an issuer, by its id.
    Token {
        /// The token's `iss`.
        iss: &'a str,
        /// The token's id.
        id: &'a str,
    },
    /// A device, whoever issued its tokens.
    Device(&'a str),
    /// A user, whoever issued their tokens.
    User(&'a str),
    /// Everything that an issuer issued before a moment.
    IssuedBefore {
        /// The `iss`.
        iss: &'a str,
        /// The moment.
        before: Timestamp,
    },
}

impl Blocklist {
    /// Several lists as one: what any of them blocks is blocked. `names` is by what they name the
    /// issuers of tokens that others were made from.
    pub fn joined(lists: impl IntoIterator<Item = Arc<Blocklist>>, names: IssuerNames) -> Self {
        let beside: Vec<_> = lists.into_iter().filter(|list| !list.is_empty()).collect();
        Blocklist { beside, names, ..Blocklist::default() }
    }

    /// The list of somebody who does not know who is blocked: it lets nobody in who shows a token.
    pub fn unheard() -> Self {
        Blocklist { is_unheard: true, ..Blocklist::default() }
    }

    /// The list of what a site blocks, which names issuers by their `iss`, as tokens do.
    pub fn of<'a>(entries: impl IntoIterator<Item = Blocking<'a>>) -> Self {
        let mut list = Blocklist::default();
        for entry in entries {
            match entry {
                Blocking::Token { iss, id } => {
                    list.rule(Some(IssuerKey::Iss(iss)), About::Token(id), ALWAYS);
                }
                Blocking::Device(id) => list.rule(None, About::Device(id), ALWAYS),
                Blocking::User(id) => list.rule(None, About::User(id), ALWAYS),
                Blocking::IssuedBefore { iss, before } => {
                    list.rule(Some(IssuerKey::Iss(iss)), About::Everything, second(before));
                }
            }
        }
        list
    }

    /// Whether a verified identity is blocked, or a token that its token was made from. `issued` is
    /// the token's `iat`, else its `nbf`, in seconds after 1970; a token with neither counts as
    /// issued before every moment.
    ///
    /// # Errors
    /// The refusal, if it is. A device or a user without a moment is blocked as such, everything
    /// else is the token's fault: another token may be good.
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
            return Err(Refusal::new(Denial::SiteUnheard, "nobody has said who is blocked"));
        }
        if self.rules.is_empty() {
            return Ok(());
        }
        let subject = Subject::of(who, issued);
        // What is blocked of one `iss` of an issuer is blocked of all.
        names.keys_of(&who.issuer).try_for_each(|issuer| self.judge_one(issuer, &subject))?;
        for origin in who.origins.iter() {
            let own = std::iter::once(IssuerKey::Iss(&origin.iss));
            let all = names.name_of(&origin.iss).into_iter().flat_map(|name| names.keys_of(name));
            for issuer in own.chain(all) {
                self.judge_one(issuer, &Subject::of_origin(origin)).map_err(|refusal| {
                    let detail = format!("{}, as the token that it was made from", refusal.detail);
                    Refusal { detail: detail.into(), ..refusal }
                })?;
            }
        }
        Ok(())
    }

    fn judge_one(&self, issuer: IssuerKey<'_>, subject: &Subject<'_>) -> Result<(), Refusal> {
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

    /// How many entries the list has.
    pub fn len(&self) -> usize {
        self.beside.iter().fold(self.entries, |sum, list| sum + list.len())
    }

    /// Whether nothing is blocked.
    pub fn is_empty(&self) -> bool {
        self.len() == 0 && !self.is_unheard && self.beside.iter().all(|list| list.is_empty())
    }

    /// The names of issuers that the list knows, for comparison with those that are configured.
    pub fn issuers(&self) -> impl Iterator<Item = &str> {
        self.issuers.iter().map(String::as_str)
    }

    /// The memory that the rules take, in bytes: an entry and a byte for each place of the table,
    /// of which seven in eight are used at most.
    pub fn bytes(&self) -> usize {
        let places = self.rules.capacity().saturating_mul(8).div_ceil(7);
        places.saturating_mul(size_of::<(u128, i64)>() + 1)
    }

    fn before(&self, issuer: Option<IssuerKey<'_>>, about: About<'_>) -> Option<i64> {
        if self.kinds & about.kind(issuer) == 0 {
            return None;
        }
        self.rules.get(&self.fingerprint(issuer, about)).copied()
    }

    fn rule(&mut self, issuer: Option<IssuerKey<'_>>, about: About<'_>, before: i64) {
        let place = self.fingerprint(issuer, about);
        let rule = self.rules.entry(place).or_insert(before);
        *rule = before.max(*rule);
        self.kinds |= about.kind(issuer);
        self.entries += 1;
        if let Some(IssuerKey::Name(name)) = issuer
            && !self.issuers.contains(name)
        {
            self.issuers.insert(name.to_owned());
        }
    }

    /// 128 bits that stand for a rule's subject: two keyed hashes that share nothing but the key.
    fn fingerprint(&self, issuer: Option<IssuerKey<'_>>, about: About<'_>) -> u128 {
        let (kind, id) = (about.kind(issuer), about.id());
        let half = |domain: u8| u128::from(self.hasher.hash_one((domain, kind, issuer, id)));
        half(0) << 64 | half(1)
    }
}

/// What of a token a list is asked about.
struct Subject<'a> {
    token_id: Option<&'a str>,
    device: Option<&'a str>,
    user: Option<&'a str>,
    issued: Option<i64>,
}

impl<'a> Subject<'a> {
    fn of(who: &'a Identity, issued: Option<i64>) -> Self {
        Subject {
            token_id: who.token_id.as_deref(),
            device: who.device.as_deref(),
            user: who.user.as_deref(),
            issued,
        }
    }

    fn of_origin(origin: &'a Origin) -> Self {
        Subject {
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

    /// What is compared: a GUID as such, whatever its spelling and with or without `GUID:` in
    /// front, and any other text byte for byte. No spelling may slip past the list.
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

/// The first whole second that is not before this moment.
fn second(moment: Timestamp) -> i64 {
    let fraction = i64::from(moment.subsec_nanosecond() > 0);
    moment.as_second().saturating_add(fraction)
}
