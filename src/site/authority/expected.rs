//! The roots that the configuration expects in a state directory: a volume that is not mounted, or
//! another site's, is found before a new root is made in it.

use std::path::PathBuf;

use super::super::files::Held;
use super::super::ring::Thing;
use super::Authority;

/// Why a state directory is not the one that the configuration means.
#[derive(Debug, thiserror::Error)]
pub enum RootsError {
    /// It holds no root.
    #[error(
        "{}: there is no root here, and [site] roots names {}: mount the right volume, or restore the \
         state directory. For a new root, which all clients have to import, take roots out of the \
         configuration",
        .dir.display(), .expected.join(", ")
    )]
    Missing {
        /// The authority's folder.
        dir: PathBuf,
        /// What the configuration names.
        expected: Vec<String>,
    },
    /// It holds others.
    #[error(
        "{}: the root here is {}, and [site] roots names {}: mount the right volume, or correct roots",
        .dir.display(), .found.join(", "), .expected.join(", ")
    )]
    Others {
        /// The authority's folder.
        dir: PathBuf,
        /// The SHA-256 thumbprints of what is there: in force, next and old.
        found: Vec<String>,
        /// What the configuration names.
        expected: Vec<String>,
    },
}

impl Authority {
    /// Whether one of the roots on disk is one that the configuration names, if it names any. Makes
    /// nothing.
    ///
    /// # Errors
    /// [`RootsError`]. What cannot be read is no other root: whoever needs it says why.
    pub fn look_for_expected_roots(&self) -> Result<(), RootsError> {
        let expected = &self.params.roots;
        if expected.is_empty() {
            return Ok(());
        }
        let (dir, expected) = (self.dir.clone(), expected.clone());
        let Ok(journal) = self.journal() else { return Ok(()) };
        let ring = journal.ring(Thing::Root);
        if ring.current == 1 && matches!(self.place(Thing::Root, 1).read(), Ok(Held::Nothing)) {
            return Err(RootsError::Missing { dir, expected });
        }
        let generations = [Some(ring.current), ring.next, ring.old].into_iter().flatten();
        let roots = generations.map(|generation| self.signer(Thing::Root, generation));
        let Ok(roots) = roots.collect::<Result<Vec<_>, _>>() else { return Ok(()) };
        let found: Vec<String> = roots.iter().map(|root| root.facts().sha256.clone()).collect();
        match found.iter().any(|root| expected.contains(root)) {
            true => Ok(()),
            false => Err(RootsError::Others { dir, found, expected }),
        }
    }

    /// Whether the configuration lets a first root be made.
    ///
    /// # Errors
    /// [`RootsError::Missing`].
    pub(super) fn may_make_root(&self) -> Result<(), RootsError> {
        match self.params.roots.is_empty() {
            true => Ok(()),
            false => Err(RootsError::Missing {
                dir: self.dir.clone(),
                expected: self.params.roots.clone(),
            }),
        }
    }
}
