//! What the authority has made, as the console's *Certificates* shows it.
//!
//! Makes nothing.

use std::collections::BTreeSet;

use jiff::Timestamp;

use super::super::files::{Held, trouble};
use super::super::ring::{Ring, Thing};
use super::{Authority, blocked};
use crate::cert::{Facts, Fault};

/// What kind of certificate it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShownKind {
    /// *SMS Issuing*.
    Root,
    /// *SMS Role Signing*.
    Role,
    /// *SMS Role SSL Certificate* of a site system.
    Leaf,
}

/// What it is good for at present.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShownState {
    /// It signs, or is served.
    InForce,
    /// It is handed out, and will be in force.
    Next,
    /// It was in force before, and is still valid.
    Old,
    /// It was blocked.
    Blocked,
    /// Its time has run out.
    Expired,
}

impl ShownState {
    /// The words in output and documents.
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

/// A certificate of the site's own.
#[derive(Clone, Debug)]
pub struct Shown {
    /// What kind it is.
    pub kind: ShownKind,
    /// The site system; for authorities, the name of their files.
    pub name: String,
    /// What it is good for.
    pub state: ShownState,
    /// Why it was blocked, if it was.
    pub reason: Option<String>,
    /// What it says about itself.
    pub facts: Facts,
}

impl Authority {
    /// What has been made so far: roots, role authorities, then site systems in order of name, and
    /// what was blocked after what is in force. Makes nothing.
    ///
    /// # Errors
    /// [`Unfit::NotIssued`](crate::unfit::Unfit::NotIssued) where there is no root yet, or
    /// something cannot be read.
    pub fn overview(&self, now: Timestamp) -> Result<Vec<Shown>, Fault> {
        let journal = self.journal()?;
        let blocked = blocked::read(&self.dir)?;
        let mut shown = Vec::new();
        for (thing, kind) in
            [(Thing::Root, ShownKind::Root), (Thing::Intermediate, ShownKind::Role)]
        {
            let ring = journal.ring(thing);
            for (state, generation) in generations(&ring) {
                let facts = self.signer(thing, generation)?.facts().clone();
                shown.push(Shown {
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
            let Ok(Held::Both(pair)) = place.read() else { continue };
            let Ok(facts) = Facts::of_pem(&pair.certificate) else { continue };
            let (kind, state) = (ShownKind::Leaf, ShownState::InForce);
            shown.push(Shown { kind, name, state, reason: None, facts });
        }
        for (name, chain) in self.issued() {
            let Ok(facts) = Facts::of_pem(&chain) else { continue };
            if shown.iter().all(|row| row.facts.sha256 != facts.sha256) {
                let (kind, state) = (ShownKind::Leaf, ShownState::Old);
                shown.push(Shown { kind, name, state, reason: None, facts });
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
            shown.push(Shown { kind, name, state, reason: Some(entry.reason), facts });
        }
        Ok(shown)
    }

    /// The site systems of which certificates lie in the folder.
    pub(super) fn leaf_names(&self) -> Result<BTreeSet<String>, Fault> {
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
