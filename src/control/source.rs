//! One source of credentials: its current credential, the last fit one, and whether its files are
//! still being written.
//!
//! A source drops its last fit credential only when its folder has stayed empty.

use std::sync::Arc;

use jiff::Timestamp;
use tokio::time::Instant;

use crate::cert::{Anchors, CredentialFault, Judged, Offer, Rejected, Source};
use crate::site::Authority;
use crate::unfit::Unfit;

use super::cert_folder::{CertFolder, Folder};
use super::choose::pick;
use super::judged_credential::{Holding, Judge};
use super::report::Warning;
use super::whole_file::SETTLE;

/// The source of site-issued certificates.
#[derive(Clone, Debug)]
pub enum SiteIssued {
    /// The site authority in this process.
    Authority(Arc<Authority>),
    /// No certificates for this site system, although the site has an authority; the reason.
    Never(&'static str),
    /// A folder that is filled from the site server, with the root in `ca.crt`.
    Folder(Folder),
}

/// One source of credentials.
#[derive(Debug)]
pub(super) struct CredentialSource {
    source: Source,
    origin: CredentialOrigin,
    found: Option<Holding>,
    /// The other credentials in the folder.
    beside: Vec<Holding>,
    kept: Option<Holding>,
    trouble: Option<SourceTrouble>,
    warnings: Vec<Warning>,
}

#[derive(Debug)]
enum CredentialOrigin {
    Folder { store: Box<CertFolder>, system: Arc<Anchors> },
    Authority { authority: Arc<Authority>, name: String },
    Never(&'static str),
}

/// The fault of a source's files, and since when.
#[derive(Debug)]
struct SourceTrouble {
    fault: CredentialFault,
    since: Instant,
    settling: bool,
}

impl CredentialSource {
    pub fn folder(store: CertFolder, source: Source, system: Arc<Anchors>) -> Self {
        Self::new(source, CredentialOrigin::Folder { store: Box::new(store), system })
    }

    pub fn authority(authority: Arc<Authority>, name: String) -> Self {
        Self::new(Source::SiteIssued, CredentialOrigin::Authority { authority, name })
    }

    pub fn never(why: &'static str) -> Self {
        Self::new(Source::SiteIssued, CredentialOrigin::Never(why))
    }

    fn new(source: Source, origin: CredentialOrigin) -> Self {
        let (found, beside, kept) = (None, Vec::new(), None);
        CredentialSource {
            source,
            origin,
            found,
            beside,
            kept,
            trouble: None,
            warnings: Vec::new(),
        }
    }

    pub fn source(&self) -> Source {
        self.source
    }

    /// Whether its files may still be in the middle of being written.
    pub fn settling(&self) -> bool {
        self.trouble.as_ref().is_some_and(|trouble| trouble.settling)
    }

    /// Faults that should be fixed but do not stop the certificate from being served.
    pub fn warnings(&self) -> &[Warning] {
        &self.warnings
    }

    /// Its credentials, the current one before the kept one.
    pub fn holdings(&self) -> impl Iterator<Item = &Holding> {
        self.found.iter().chain(&self.beside).chain(&self.kept)
    }

    /// Checks the source and returns its offer.
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

    /// The kept credential takes over the OCSP response of its files, if they are still there: it
    /// may have been revoked since. It does not take over the key, which can belong to another
    /// certificate by now.
    fn renew_kept(&mut self) {
        let Some(kept) = &mut self.kept else { return };
        let mut there = self.found.iter().chain(&self.beside);
        if let Some(now) = there.find(|holding| holding.credential == kept.credential) {
            kept.staple = now.staple.clone();
        }
    }

    /// Keeps the current credential as a fallback, if it is fit.
    pub fn keep(&mut self, judge: &Judge<'_>, now: Timestamp) {
        if self.found.as_ref().is_some_and(|holding| judge.judge(holding, now).fit()) {
            self.kept = self.found.clone();
        }
    }

    /// The credential that the source would serve, and the others it holds.
    fn look(
        &mut self,
        judge: &Judge<'_>,
        now: Timestamp,
    ) -> Result<(Holding, Vec<Rejected>), CredentialFault> {
        self.warnings = Vec::new();
        self.beside = Vec::new();
        match &mut self.origin {
            CredentialOrigin::Folder { store, system } => {
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
            CredentialOrigin::Never(why) => Err(CredentialFault::new(Unfit::NotIssued, *why)),
            CredentialOrigin::Authority { authority, name } => {
                let issued = authority.ensure_leaf(name, judge.hosts, now)?;
                self.warnings.extend(issued.overdue.map(Warning::RenewalOverdue));
                let (credential, anchors) = (issued.credential, issued.anchors);
                Ok((Holding { credential, anchors, staple: None }, Vec::new()))
            }
        }
    }

    /// Records the result of a check. The time counts from the last change for the worse, so that
    /// files that are being written get the full time again whenever something changes.
    fn settle(&mut self, fault: Option<CredentialFault>, instant: Instant) {
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
            // A PFX and its password are also a pair.
            Unfit::PasswordWrong | Unfit::PasswordUnreadable => true,
            // A folder that is being replaced is empty for a moment. Without a kept credential
            // there is nothing to wait for.
            Unfit::Absent => self.kept.is_some(),
            _ => false,
        };
        let settling = passing && instant.duration_since(since) < SETTLE;
        if fault.unfit == Unfit::Absent && !settling {
            self.kept = None;
        }
        self.trouble = Some(SourceTrouble { fault, since, settling });
    }
}
