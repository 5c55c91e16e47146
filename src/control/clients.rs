//! Hot reload of a site system's client trust: its CA and CRL files are watched, read and
//! published.
//!
//! A broken or missing file removes nothing: its last good content stays in force, and the fault is
//! logged. A CRL still expires.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use rustls::crypto::CryptoProvider;
use tokio::sync::watch;

use super::watch::{Renames, Watch};
use super::whole_file::{FileState, WholeFile, settle};
use crate::client::{Authorities, ClientTrust, Crls, Unusable};
use crate::clock::Clock;
use crate::config::ClientCertificates;
use crate::live::{Live, Publisher, live};

const POLL: Duration = Duration::from_secs(30);
const CA_BYTES_MAX: u64 = 1024 * 1024;
/// The CRLs of large CAs have some hundred thousand entries of forty bytes.
const CRL_BYTES_MAX: u64 = 32 * 1024 * 1024;

/// The trust in force, for status and metrics.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientFilesState {
    /// Trusted CAs.
    pub authorities: usize,
    /// CRLs that are checked.
    pub crls: usize,
    /// When the first of those CRLs expires, or expired.
    pub crl_expires: Option<Timestamp>,
    /// CAs that expire within 30 days.
    pub ending: Vec<String>,
    /// The faults of the files.
    pub problems: Vec<String>,
}

/// Called with the state whenever it changes.
pub type OnClientFiles = Arc<dyn Fn(&ClientFilesState) + Send + Sync>;

/// The task that keeps one site system's client trust up to date.
pub struct ClientFiles {
    site_system: Arc<str>,
    files: ClientCertificates,
    clock: Clock,
    provider: Arc<CryptoProvider>,
    authorities: KeptFile<Authorities>,
    crls: Vec<KeptFile<Crls>>,
    state: ClientFilesState,
    watch: Watch,
    publisher: Publisher<ClientTrust>,
    on_change: OnClientFiles,
}

impl ClientFiles {
    /// Reads once, so that the first request can already be checked.
    pub fn start(
        site_system: Arc<str>,
        files: ClientCertificates,
        clock: Clock,
        provider: Arc<CryptoProvider>,
        on_change: OnClientFiles,
    ) -> (Self, Live<ClientTrust>) {
        let paths = std::iter::once(&files.ca).chain(&files.crls);
        let folders: Vec<PathBuf> =
            paths.filter_map(|file| file.parent().map(PathBuf::from)).collect();
        let watch = Watch::new(folders, POLL);
        let renames = || watch.renames();
        let authorities = KeptFile::of(&files.ca, CA_BYTES_MAX, renames());
        let crls =
            files.crls.iter().map(|path| KeptFile::of(path, CRL_BYTES_MAX, renames())).collect();
        let nobody = ClientTrust::new(Authorities::default(), None, false, &provider);
        let (publisher, reader) = live(nobody);
        let mut clients = ClientFiles {
            site_system,
            clock,
            provider,
            authorities,
            crls,
            state: ClientFilesState::default(),
            watch,
            publisher,
            on_change,
            files,
        };
        clients.look(true);
        (clients, reader)
    }

    /// Follows the files until stopped.
    pub async fn run(mut self, mut stop: watch::Receiver<bool>) {
        while !*stop.borrow_and_update() {
            let pauses: Vec<_> = std::iter::once(self.authorities.file.pause())
                .chain(self.crls.iter().map(|kept| kept.file.pause()))
                .collect();
            tokio::select! {
                biased;
                changed = stop.changed() => if changed.is_err() { return },
                () = self.watch.changed() => {}
                () = settle(pauses) => {}
            }
            self.look(false);
        }
    }

    /// Reads the files; publishes if usable content has changed.
    fn look(&mut self, first: bool) {
        let mut problems = Vec::new();
        let mut changed = first;
        changed |= self.authorities.look(first, Authorities::parse, &mut problems);
        for kept in &mut self.crls {
            changed |= kept.look(first, Crls::parse, &mut problems);
        }
        let now = self.clock.now();
        let ca = self.authorities.file.path().display();
        let faults = self.authorities.good.faults(now);
        problems.extend(faults.map(|fault| format!("{ca}: {fault}")));
        let ending = self.authorities.good.ending(now).map(|told| format!("{ca}: {told}"));
        let ending: Vec<String> = ending.collect();
        for kept in &self.crls {
            if let Some(expired) = kept.good.expires().filter(|expires| *expires < now) {
                let path = kept.file.path().display();
                problems.push(format!("{path}: a CRL has expired at {expired}"));
            }
        }
        if changed {
            self.publish();
        }
        self.tell(problems, ending, changed);
    }

    fn publish(&mut self) {
        let all = self.crls.iter().fold(Crls::default(), |all, kept| all.and(kept.good.clone()));
        let crls = Some(all).filter(|_| !self.files.crls.is_empty());
        self.state.authorities = self.authorities.good.len();
        self.state.crls = crls.as_ref().map_or(0, Crls::len);
        self.state.crl_expires = crls.as_ref().and_then(Crls::expires);
        let accepted = self.files.expired_crls_count;
        let authorities = self.authorities.good.clone();
        self.publisher.publish(ClientTrust::new(authorities, crls, accepted, &self.provider));
        tracing::info!(
            target: "sitegate::clients", site_system = &*self.site_system,
            authorities = self.state.authorities, crls = self.state.crls,
            "client_ca and client_crl were read"
        );
    }

    /// Logs each problem once, until it changes.
    fn tell(&mut self, problems: Vec<String>, ending: Vec<String>, changed: bool) {
        let mut news = ending != self.state.ending;
        if news {
            for told in &ending {
                tracing::warn!(
                    target: "sitegate::clients", site_system = &*self.site_system,
                    "{told}: add its successor to the file"
                );
            }
            self.state.ending = ending;
        }
        if problems != self.state.problems {
            news = true;
            for problem in &problems {
                tracing::warn!(
                    target: "sitegate::clients", site_system = &*self.site_system,
                    "{problem}; the last valid version stays in force"
                );
            }
            self.state.problems = problems;
        }
        if news || changed {
            (self.on_change)(&self.state);
        }
    }
}

impl std::fmt::Debug for ClientFiles {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClientFiles")
            .field("site_system", &self.site_system)
            .finish_non_exhaustive()
    }
}

/// A file and its last usable content.
struct KeptFile<T> {
    file: WholeFile,
    good: T,
    problem: Option<String>,
}

impl<T: Default> KeptFile<T> {
    fn of(path: &Path, len_max: u64, renames: Renames) -> Self {
        let file = WholeFile::new(path.to_owned(), len_max, renames);
        KeptFile { file, good: T::default(), problem: None }
    }

    /// Checks the file, the first time whether it is complete or not. Returns whether the usable
    /// content has changed.
    fn look(
        &mut self,
        first: bool,
        parse: impl Fn(&[u8]) -> Result<T, Unusable>,
        problems: &mut Vec<String>,
    ) -> bool {
        let found = if first {
            self.file.take().map_or_else(FileState::Unreadable, FileState::Whole)
        } else {
            self.file.look()
        };
        let parsed = match found {
            FileState::Same | FileState::Settling => None,
            FileState::Whole(bytes) => Some(parse(&bytes).map_err(|problem| problem.to_string())),
            FileState::Unreadable(error) => Some(Err(error.to_string())),
        };
        let changed = matches!(parsed, Some(Ok(_)));
        match parsed {
            None => {}
            Some(Ok(good)) => (self.good, self.problem) = (good, None),
            Some(Err(problem)) => self.problem = Some(problem),
        }
        let path = self.file.path().display();
        problems.extend(self.problem.iter().map(|why| format!("{path}: {why}")));
        changed
    }
}

#[cfg(test)]
mod tests;
