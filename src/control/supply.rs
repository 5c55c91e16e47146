//! One source of credentials over time: what it holds now, what was last fit, and whether its files
//! are still being written.
//!
//! A source lets go of its last fit credential only when its folder has stayed empty.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use rustls::crypto::CryptoProvider;
use rustls_pki_types::ServerName;
use tokio::time::Instant;

use crate::cert::{
    Anchors, Credential, Fault, Judged, Offer, Rejected, Source, Staple, Unstapled, Verdicts,
};
use crate::site::Authority;
use crate::unfit::Unfit;

use super::pick::pick;
use super::report::Warning;
use super::store::{Folder, Store};

/// Where site-issued certificates come from.
#[derive(Clone, Debug)]
pub enum SiteIssued {
    /// The authority in this process.
    Authority(Arc<Authority>),
    /// None for this site system, though the site has an authority: why.
    Never(&'static str),
    /// A folder that someone else fills from the site server, its root in `ca.crt`.
    Folder(Folder),
}

/// How long a pair may take to be written. Until then the old one goes on without a word, and the
/// files are looked at again and again: their last event may have come before their last byte.
pub(super) const SETTLE: Duration = Duration::from_secs(2);
pub(super) const SETTLE_LOOK: Duration = Duration::from_millis(20);

/// A credential and the roots by which it is judged.
#[derive(Clone, Debug)]
pub(super) struct Holding {
    pub credential: Arc<Credential>,
    pub anchors: Arc<Anchors>,
    /// The OCSP response that lies beside it, or why it is of no use.
    pub staple: Option<Result<Staple, Unstapled>>,
}

impl Holding {
    /// What may be stapled at that time.
    pub fn stapled(&self, now: Timestamp) -> Option<&Staple> {
        self.staple.as_ref()?.as_ref().ok().filter(|staple| staple.holds(now).is_ok())
    }

    /// Why what lies there is not stapled.
    fn unstapled(&self, now: Timestamp) -> Option<Unstapled> {
        match self.staple.as_ref()? {
            Ok(staple) => staple.holds(now).err(),
            Err(why) => Some(why),
        }
    }

    /// The moments at which that may change.
    pub fn moments(&self) -> impl Iterator<Item = Timestamp> {
        let staple = self.staple.as_ref().and_then(|staple| staple.as_ref().ok());
        let staple = staple.into_iter().flat_map(|staple| [staple.this_update, staple.next_update]);
        staple.chain(self.anchors.moments(&self.credential))
    }
}

/// What every credential of a site system is judged by.
pub(super) struct Judge<'a> {
    pub hosts: &'a [ServerName<'static>],
    pub provider: &'a CryptoProvider,
    /// Those that failed their trial, and how.
    pub failed: &'a [(Arc<Credential>, Fault)],
    pub verdicts: &'a Verdicts,
    /// Who knows which of the site's own are blocked.
    pub authority: Option<&'a Authority>,
}

impl Judge<'_> {
    pub fn judge(&self, holding: &Holding, now: Timestamp) -> Judged {
        let Judge { hosts, provider, failed, verdicts, authority } = *self;
        let Holding { credential, anchors, .. } = holding;
        let mut found = verdicts.faults(credential, anchors, hosts, provider, now);
        let tried = failed.iter().filter(|(credential, _)| *credential == holding.credential);
        found.extend(tried.map(|(_, fault)| fault.clone()));
        if matches!(&holding.staple, Some(Ok(staple)) if staple.revoked) {
            found.insert(0, Unfit::Revoked.into());
        }
        if authority.is_some_and(|authority| authority.is_blocked(credential.facts())) {
            found.insert(0, Fault::new(Unfit::Revoked, "the site has blocked it"));
        }
        Judged { credential: holding.credential.clone(), faults: found }
    }
}

/// One source.
#[derive(Debug)]
pub(super) struct Supply {
    source: Source,
    origin: Origin,
    found: Option<Holding>,
    /// What else lies in the folder.
    beside: Vec<Holding>,
    kept: Option<Holding>,
    trouble: Option<Trouble>,
    warnings: Vec<Warning>,
}

#[derive(Debug)]
enum Origin {
    Folder { store: Box<Store>, system: Arc<Anchors> },
    Authority { authority: Arc<Authority>, name: String },
    Never(&'static str),
}

/// What is wrong with a source's files, and since when.
#[derive(Debug)]
struct Trouble {
    fault: Fault,
    since: Instant,
    settling: bool,
}

impl Supply {
    pub fn folder(store: Store, source: Source, system: Arc<Anchors>) -> Self {
        Self::new(source, Origin::Folder { store: Box::new(store), system })
    }

    pub fn authority(authority: Arc<Authority>, name: String) -> Self {
        Self::new(Source::SiteIssued, Origin::Authority { authority, name })
    }

    pub fn never(why: &'static str) -> Self {
        Self::new(Source::SiteIssued, Origin::Never(why))
    }

    fn new(source: Source, origin: Origin) -> Self {
        let (found, beside, kept) = (None, Vec::new(), None);
        Supply { source, origin, found, beside, kept, trouble: None, warnings: Vec::new() }
    }

    pub fn source(&self) -> Source {
        self.source
    }

    /// Whether its files may still be in the middle of being written.
    pub fn settling(&self) -> bool {
        self.trouble.as_ref().is_some_and(|trouble| trouble.settling)
    }

    /// What to warn of though it hinders nothing.
    pub fn warnings(&self) -> &[Warning] {
        &self.warnings
    }

    /// What it holds, the present before the past.
    pub fn holdings(&self) -> impl Iterator<Item = &Holding> {
        self.found.iter().chain(&self.beside).chain(&self.kept)
    }

    /// Look at the source and say what it has to offer.
    pub fn offer(&mut self, judge: &Judge<'_>, now: Timestamp, instant: Instant) -> Offer {
        let looked = self.look(judge, now);
        let (found, passed_over) = match looked {
            Ok((holding, passed_over)) => {
                let judged = judge.judge(&holding, now);
                self.found = Some(holding);
                (Ok(judged), passed_over)
            }
            Err(fault) => {
                self.found = None;
                (Err(fault), Vec::new())
            }
        };
        let fault = match &found {
            Ok(judged) => judged.faults.first(),
            Err(fault) => Some(fault),
        };
        self.settle(fault.cloned(), instant);
        self.renew_kept();
        let kept = self.kept.as_ref().map(|holding| judge.judge(holding, now));
        let (source, settling) = (self.source, self.settling());
        match kept.filter(Judged::fit) {
            Some(kept) if settling => Offer { source, found: Ok(kept), kept: None, passed_over },
            kept => Offer { source, found, kept, passed_over },
        }
    }

    /// The response beside what is kept, if that still lies there, is the one of now: it may have
    /// been revoked since. Its key may not: that can be another's by now.
    fn renew_kept(&mut self) {
        let Some(kept) = &mut self.kept else { return };
        let mut there = self.found.iter().chain(&self.beside);
        if let Some(now) = there.find(|holding| holding.credential == kept.credential) {
            kept.staple = now.staple.clone();
        }
    }

    /// Keep what is there now for worse times, if it is fit.
    pub fn keep(&mut self, judge: &Judge<'_>, now: Timestamp) {
        if self.found.as_ref().is_some_and(|holding| judge.judge(holding, now).fit()) {
            self.kept = self.found.clone();
        }
    }

    /// What the source would have served, and what it holds besides.
    fn look(
        &mut self,
        judge: &Judge<'_>,
        now: Timestamp,
    ) -> Result<(Holding, Vec<Rejected>), Fault> {
        self.warnings = Vec::new();
        self.beside = Vec::new();
        match &mut self.origin {
            Origin::Folder { store, system } => {
                let picked = pick(store.load()?, system, judge, now, self.source)?;
                let group_readable = picked.group_readable.then_some(Warning::KeyGroupReadable);
                let unstapled = picked.holding.unstapled(now).map(Warning::Unstapled);
                let Holding { credential, anchors, .. } = &picked.holding;
                let ending = anchors.ending(credential, now);
                let ending = ending.map(|(name, until)| Warning::AuthorityEnding(name, until));
                self.warnings.extend(group_readable.into_iter().chain(unstapled).chain(ending));
                self.beside = picked.beside;
                Ok((picked.holding, picked.passed_over))
            }
            Origin::Never(why) => Err(Fault::new(Unfit::NotIssued, *why)),
            Origin::Authority { authority, name } => {
                let issued = authority.ensure_leaf(name, judge.hosts, now)?;
                self.warnings.extend(issued.overdue.map(Warning::RenewalOverdue));
                let (credential, anchors) = (issued.credential, issued.anchors);
                Ok((Holding { credential, anchors, staple: None }, Vec::new()))
            }
        }
    }

    /// Take note of how the look went. Time counts from the last change for the worse, so that
    /// files under way have their time again whenever something moves.
    fn settle(&mut self, fault: Option<Fault>, instant: Instant) {
        let Some(fault) = fault else {
            self.trouble = None;
            return;
        };
        let since = match &self.trouble {
            Some(known) if known.fault == fault => known.since,
            _ => instant,
        };
        let passing = match fault.unfit {
            Unfit::KeyMismatch | Unfit::Incomplete | Unfit::Malformed | Unfit::Unreadable => true,
            // A PFX and its password are a pair as well.
            Unfit::PasswordWrong | Unfit::PasswordUnreadable => true,
            // A folder that is replaced is empty for a moment. Where nothing is kept, there is
            // nothing to wait for.
            Unfit::Absent => self.kept.is_some(),
            _ => false,
        };
        let settling = passing && instant.duration_since(since) < SETTLE;
        if fault.unfit == Unfit::Absent && !settling {
            self.kept = None;
        }
        self.trouble = Some(Trouble { fault, since, settling });
    }
}
