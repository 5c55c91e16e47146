//! The certificates of the authority, as the console's *Certificates* node shows them.
//!
//! Creates nothing.

use std::collections::BTreeSet;

use jiff::Timestamp;

use super::super::files::{KeyFiles, trouble};
use super::super::ring::{Ring, Thing};
use super::{Authority, blocked};
use crate::cert::{CredentialFault, Facts};

/// The kind of a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShownKind {
    /// *SMS Issuing*.
    Root,
    /// *SMS Role Signing*.
    Role,
    /// *SMS Role SSL Certificate* of a site system.
    Leaf,
}

/// The state of a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShownState {
    /// It signs, or is served.
    InForce,
    /// It is distributed, and will be in force.
    Next,
    /// It was in force earlier, and is still valid.
    Old,
    /// It was blocked.
    Blocked,
    /// It has expired.
    Expired,
}

impl ShownState {
    /// The text in output and documentation.
    pub const fn as_str(self) -> &'static str {
        match self {
            ShownState::InForce => "in force",
            ShownState::Next => "next",
            ShownState::Old => "old",
            ShownState::Blocked => "blocked",
            ShownState::Expired => "expired",
        }
    }
}

/// One of the site's own certificates.
#[derive(Clone, Debug)]
pub struct AuthorityFacts {
    /// Its kind.
    pub kind: ShownKind,
    /// The site system; for an authority, its file name.
    pub name: String,
    /// Its state.
    pub state: ShownState,
    /// The reason, if it is blocked.
    pub reason: Option<String>,
    /// The certificate's content.
    pub facts: Facts,
}

impl Authority {
    /// All certificates: roots, role authorities, then site systems by name, and blocked ones at
    /// the end. Creates nothing.
    ///
    /// # Errors
    /// [`Unfit::NotIssued`](crate::unfit::Unfit::NotIssued) if there is no root yet, or a file
    /// cannot be read.
    pub fn overview(&self, now: Timestamp) -> Result<Vec<AuthorityFacts>, CredentialFault> {
        let journal = self.journal()?;
        let blocked = blocked::read(&self.dir)?;
        let mut shown = Vec::new();
        for (thing, kind) in
            [(Thing::Root, ShownKind::Root), (Thing::Intermediate, ShownKind::Role)]
        {
            let ring = journal.ring(thing);
            for (state, generation) in generations(&ring) {
                let facts = self.signer(thing, generation)?.facts().clone();
                shown.push(AuthorityFacts {
                    kind,
                    name: thing.stem(generation),
                    state,
                    reason: None,
                    facts,
                });
            }
        }
        for name in self.leaf_names()? {
            let Some(place) = self.leaf_place(&name) else { continue };
            let Ok(KeyFiles::Both(pair)) = place.read() else { continue };
            let Ok(facts) = Facts::of_pem(&pair.certificate) else { continue };
            let (kind, state) = (ShownKind::Leaf, ShownState::InForce);
            shown.push(AuthorityFacts { kind, name, state, reason: None, facts });
        }
        for (name, chain) in self.issued() {
            let Ok(facts) = Facts::of_pem(&chain) else { continue };
            if shown.iter().all(|row| row.facts.sha256 != facts.sha256) {
                let (kind, state) = (ShownKind::Leaf, ShownState::Old);
                shown.push(AuthorityFacts { kind, name, state, reason: None, facts });
            }
        }
        for row in &mut shown {
            if !row.facts.valid_at(now) {
                row.state = ShownState::Expired;
            }
        }
        for entry in blocked {
            let Ok(facts) = Facts::of_pem(&entry.certificate) else { continue };
            shown.retain(|row| row.facts.sha256 != facts.sha256);
            let kind = if facts.is_ca { ShownKind::Role } else { ShownKind::Leaf };
            let (name, state) = (entry.name, ShownState::Blocked);
            shown.push(AuthorityFacts { kind, name, state, reason: Some(entry.reason), facts });
        }
        Ok(shown)
    }

    /// The site systems with a certificate in the folder.
    pub(super) fn leaf_names(&self) -> Result<BTreeSet<String>, CredentialFault> {
        let dir = self.dir.join("leaf");
        let files = std::fs::read_dir(&dir).map_err(|e| trouble(&dir, e))?;
        Ok(files
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .filter_map(|file| Some(file.strip_suffix(".crt")?.to_owned()))
            .collect())
    }
}

fn generations(ring: &Ring) -> impl Iterator<Item = (ShownState, u32)> {
    let all = [
        (ShownState::InForce, Some(ring.current)),
        (ShownState::Next, ring.next),
        (ShownState::Old, ring.old),
    ];
    all.into_iter().filter_map(|(state, generation)| Some((state, generation?)))
}
