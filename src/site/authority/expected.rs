//! The roots that the configuration expects in a state directory. Detects a volume that is not
//! mounted, or another site's, before a new root is made in it.

use std::path::PathBuf;

use super::super::files::KeyFiles;
use super::super::ring::Thing;
use super::Authority;

/// Why a state directory is not the expected one.
#[derive(Debug, thiserror::Error)]
pub enum RootsError {
    /// It has no root.
    #[error(
        "{}: there is no root here, and [site] roots names {}: mount the right volume, or restore the \
         state directory. For a new root, which all clients have to import, take roots out of the \
         configuration",
        .dir.display(), .expected.join(", ")
    )]
    Missing {
        /// The authority's folder.
        dir: PathBuf,
        /// The roots in the configuration.
        expected: Vec<String>,
    },
    /// It has other roots.
    #[error(
        "{}: the root here is {}, and [site] roots names {}: mount the right volume, or correct roots",
        .dir.display(), .found.join(", "), .expected.join(", ")
    )]
    Others {
        /// The authority's folder.
        dir: PathBuf,
        /// The SHA-256 thumbprints of the roots found: in force, next and old.
        found: Vec<String>,
        /// The roots in the configuration.
        expected: Vec<String>,
    },
}

impl Authority {
    /// Checks that one of the roots on disk is in the configuration, if it names any. Creates
    /// nothing.
    ///
    /// # Errors
    /// [`RootsError`]. Unreadable files are no error here; the code that needs them reports it.
    pub fn look_for_expected_roots(&self) -> Result<(), RootsError> {
        let expected = &self.params.roots;
        if expected.is_empty() {
            return Ok(());
        }
        let (dir, expected) = (self.dir.clone(), expected.clone());
        let Ok(journal) = self.journal() else { return Ok(()) };
        let ring = journal.ring(Thing::Root);
        if ring.current == 1 && matches!(self.place(Thing::Root, 1).read(), Ok(KeyFiles::Nothing)) {
            return Err(RootsError::Missing { dir, expected });
        }
        let generations = [Some(ring.current), ring.next, ring.old].into_iter().flatten();
        let roots = generations.map(|generation| self.signer(Thing::Root, generation));
        let Ok(roots) = roots.collect::<Result<Vec<_>, _>>() else { return Ok(()) };
        let found: Vec<String> = roots.iter().map(|root| root.facts().sha256.clone()).collect();
        if found.iter().any(|root| expected.contains(root)) {
            Ok(())
        } else {
            Err(RootsError::Others { dir, found, expected })
        }
    }

    /// Checks that the configuration allows a first root to be made.
    ///
    /// # Errors
    /// [`RootsError::Missing`].
    pub(super) fn may_make_root(&self) -> Result<(), RootsError> {
        if self.params.roots.is_empty() {
            Ok(())
        } else {
            Err(RootsError::Missing { dir: self.dir.clone(), expected: self.params.roots.clone() })
        }
    }
}
