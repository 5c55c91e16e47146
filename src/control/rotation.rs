//! Certificate rotation of one site system: check, select, validate with a trial handshake,
//! publish, wait.
//!
//! The only writer of the served certificate. Never publishes a certificate that clients would
//! refuse while a better one exists, and no fault stops it.

mod params;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use rustls::ServerConfig;
use rustls::crypto::CryptoProvider;
use rustls_pki_types::ServerName;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use crate::cert::{
    Anchors, Credential, CredentialFault, Offer, Selection, Source, Staple, Verdicts, select,
};
use crate::clock::Clock;
use crate::live::{Live, Publisher, live};
use crate::site::Authority;
use crate::tls::{TlsOptions, TrialClient, server_config, trial};

use super::cert_folder::{CertFolder, Folder};
use super::judged_credential::{Holding, Judge};
use super::report::{LastReport, Reporter, Warning};
use super::served::Served;
use super::source::{CredentialSource, SiteIssued};
use super::watch::Watch;
use super::whole_file::SETTLE_LOOK;
pub use params::RotationParams;

impl RotationParams {
    /// A site system without sources, polled every 30 seconds.
    pub fn new(name: impl Into<String>, hosts: Vec<ServerName<'static>>) -> Self {
        RotationParams {
            name: name.into(),
            port: 443,
            hosts,
            tls: TlsOptions::default(),
            pki: None,
            site_issued: None,
            system: Arc::default(),
            poll: POLL,
            observer: Arc::new(()),
            previous: None,
        }
    }
}

/// The longest sleep: clocks jump, and a timer does not notice.
const POLL: Duration = Duration::from_secs(30);
/// The same while nothing is served: at a start before the clock is set, clients are waiting.
const POLL_WITHOUT: Duration = Duration::from_secs(2);

/// A server configuration, the roots that its credential was checked against, and its staple.
#[derive(Default)]
struct Prepared {
    config: Option<Arc<ServerConfig>>,
    anchors: Arc<Anchors>,
    staple: Option<Staple>,
}

/// Triggers an immediate evaluation of a rotation.
#[derive(Clone, Debug, Default)]
pub struct Nudge(Arc<Notify>);

impl Nudge {
    /// Triggers the evaluation.
    pub fn now(&self) {
        self.0.notify_one();
    }
}

/// The task that keeps a site system's certificate up to date.
pub struct Rotation {
    params: RotationParams,
    clock: Clock,
    provider: Arc<CryptoProvider>,
    supplies: Vec<CredentialSource>,
    watch: Watch,
    nudge: Nudge,
    failed: Vec<(Arc<Credential>, CredentialFault)>,
    verdicts: Verdicts,
    told: LastReport,
    publisher: Publisher<Served>,
}

impl Rotation {
    /// Evaluates once, so that a listener has a certificate before it accepts. Never fails: without
    /// a fit certificate the published state refuses handshakes and gives the reason.
    pub fn start(
        mut params: RotationParams,
        clock: Clock,
        provider: Arc<CryptoProvider>,
    ) -> (Self, Live<Served>) {
        let folders = [&params.pki, &site_folder(&params)].map(Option::clone);
        let mut directories: Vec<_> =
            folders.iter().flatten().flat_map(Folder::directories).collect();
        // For the steps of a rollover, and for blocked certificates.
        let authority = authority(&params).map(Authority::watched);
        directories.extend(authority.clone());
        let folders: Vec<Folder> = folders.into_iter().flatten().collect();
        let meant = move |path: &Path| {
            path.parent() == authority.as_deref() || folders.iter().any(|f| f.names(path))
        };
        let watch = Watch::new(directories, params.poll).only(meant);
        let previous = params.previous.take();
        let (publisher, reader) = live(Served::before(previous.as_deref(), clock.now()));
        let mut rotation = Rotation {
            supplies: supplies(&params, &provider),
            params,
            clock,
            provider,
            watch,
            nudge: Nudge::default(),
            failed: Vec::new(),
            verdicts: Verdicts::default(),
            told: LastReport::default(),
            publisher,
        };
        rotation.evaluate();
        (rotation, reader)
    }

    /// A handle that triggers an immediate evaluation.
    pub fn nudge(&self) -> Nudge {
        self.nudge.clone()
    }

    /// Runs the rotation until stopped.
    pub async fn run(mut self, mut stop: watch::Receiver<bool>) {
        while !*stop.borrow_and_update() {
            let pause = self.pause();
            tokio::select! {
                biased;
                changed = stop.changed() => if changed.is_err() { return },
                () = self.watch.changed() => {}
                () = self.nudge.0.notified() => {}
                () = tokio::time::sleep(pause) => {}
            }
            // After a reload, the successor has already issued certificates, perhaps for other
            // hosts.
            if *stop.borrow() {
                return;
            }
            self.evaluate();
        }
    }

    /// The time until the next evaluation, unless an event comes earlier.
    fn pause(&self) -> Duration {
        if self.supplies.iter().any(CredentialSource::settling) {
            return SETTLE_LOOK;
        }
        let (next, why) = self
            .publisher
            .reader()
            .peek(|served| (served.selection.next_change, served.selection.why));
        let longest = if why == crate::cert::Why::NothingFit { POLL_WITHOUT } else { POLL };
        let longest = self.params.poll.min(longest);
        let until = next.map(|next| self.clock.now().duration_until(next));
        match until.map(Duration::try_from) {
            // One millisecond more, so as not to wake just before that time.
            Some(Ok(until)) => longest.min(until + Duration::from_millis(1)),
            Some(Err(_)) => Duration::from_millis(1),
            None => longest,
        }
    }

    /// Checks every source, selects, and publishes the changes.
    fn evaluate(&mut self) {
        let now = self.clock.now();
        let serving = self.publisher.reader().load();
        let instant = Instant::now();
        // Each round excludes one credential, so this ends.
        let offers = loop {
            let judge = judge(&self.params, &self.provider, &self.failed, &self.verdicts);
            let offer = |supply: &mut CredentialSource| supply.offer(&judge, now, instant);
            let offers: Vec<Offer> = self.supplies.iter_mut().map(offer).collect();
            let last = serving.holding().map(|last| Holding {
                staple: self
                    .holding(&serving, &serving.selection)
                    .map_or_else(|| last.staple.clone(), |now| now.staple),
                ..last
            });
            let last = last.map(|holding| judge.judge(&holding, now));
            let mut selection = select(&offers, last.as_ref(), now);
            self.expect_others(&serving, &mut selection, now);
            match self.prepare(&serving, &selection, now) {
                Ok(prepared) => {
                    self.publish(&serving, selection, prepared, now);
                    break offers;
                }
                Err(failed) => self.failed.push(failed),
            }
        };
        self.remember(now);
        let reporter = reporter(&self.params);
        reporter.expires(&mut self.told, &offers);
    }

    /// The holding of the selected credential.
    fn holding(&self, serving: &Served, selection: &Selection) -> Option<Holding> {
        let chosen = selection.chosen.as_ref()?;
        let mut held = self.supplies.iter().flat_map(CredentialSource::holdings);
        let found = held.find(|holding| holding.credential == *chosen).cloned();
        found.or_else(|| serving.holding().filter(|holding| holding.credential == *chosen))
    }

    /// The staple and the roots also change with time alone, so their times count as well.
    fn expect_others(&self, serving: &Served, selection: &mut Selection, now: Timestamp) {
        let holding = self.holding(serving, selection);
        let held = self.supplies.iter().flat_map(CredentialSource::holdings).chain(&holding);
        let moments = held.flat_map(Holding::moments).filter(|at| *at > now);
        selection.next_change = moments.chain(selection.next_change).min();
    }

    /// The configuration for the selected credential: the current one if it is already served, else
    /// a new one that passed a trial handshake.
    fn prepare(
        &self,
        serving: &Served,
        selection: &Selection,
        now: Timestamp,
    ) -> Result<Prepared, (Arc<Credential>, CredentialFault)> {
        let Some(chosen) = &selection.chosen else {
            return Ok(Prepared::default());
        };
        let holding = self.holding(serving, selection);
        let staple = holding.as_ref().and_then(|holding| holding.stapled(now)).cloned();
        let anchors = holding.map_or_else(|| serving.anchors.clone(), |holding| holding.anchors);
        let served = serving.config.is_some()
            && serving.selection.chosen.as_ref() == Some(chosen)
            && serving.staple == staple;
        if served {
            return Ok(Prepared { config: serving.config.clone(), anchors, staple });
        }
        let fail = |fault| (chosen.clone(), fault);
        let config =
            server_config(chosen, staple.as_ref(), &self.params.tls, self.provider.clone())
                .map_err(fail)?;
        // No client accepts an expired certificate, so a trial would fail; it is served
        // nevertheless.
        if !selection.why.alarming() {
            let (hosts, provider) = (&self.params.hosts, &self.provider);
            let anchors = &anchors.for_trial(chosen);
            trial(&config, &TrialClient { anchors, hosts, provider }, now).map_err(fail)?;
        }
        Ok(Prepared { config: Some(config), anchors, staple })
    }

    fn publish(
        &mut self,
        serving: &Served,
        selection: Selection,
        Prepared { config, anchors, staple }: Prepared,
        now: Timestamp,
    ) {
        let swapped = selection.chosen != serving.selection.chosen;
        let warnings: Vec<_> = self
            .supplies
            .iter()
            .flat_map(|supply| supply.warnings().iter().map(|w| (supply.source(), w.clone())))
            .collect();
        let served = Served {
            config,
            selection,
            since: if swapped { now } else { serving.since },
            swaps: serving.swaps + u64::from(swapped),
            warnings,
            staple,
            anchors,
        };
        let same = !swapped
            && served.config.is_some() == serving.config.is_some()
            && served.selection == serving.selection
            && served.staple == serving.staple
            && served.warnings == serving.warnings;
        if !same {
            self.publisher.publish(served.clone());
        }
        self.tell(serving, &served, swapped);
    }

    /// Reports after publishing, so that no handshake waits for a log write.
    fn tell(&mut self, before: &Served, after: &Served, swapped: bool) {
        let reporter = reporter(&self.params);
        let source_of = |served: &Served| served.selection.chosen.as_ref().map(|c| c.source());
        if swapped {
            reporter.swapped(source_of(before), &after.selection);
        } else if before.selection.why != after.selection.why {
            reporter.outcome(source_of(before), &after.selection);
        }
        let settled = |source| {
            !self.supplies.iter().any(|supply| supply.source() == source && supply.settling())
        };
        let rejected = after.selection.rejected.iter().filter(|r| settled(r.source)).cloned();
        reporter.rejected(&mut self.told, rejected.collect());
        reporter.warned(&mut self.told, after.warnings.clone());
        let in_vain = |(_, warning): &(_, Warning)| matches!(warning, Warning::Unstapled(_));
        let until = after.staple.as_ref().map(|staple| staple.next_update);
        let in_vain = after.warnings.iter().any(in_vain);
        self.params.observer.stapled(&self.params.name, until, in_vain);
    }

    /// Lets every source keep the credential that proved fit, and forgets the failed trials of
    /// credentials that no source holds any more.
    fn remember(&mut self, now: Timestamp) {
        let judge = judge(&self.params, &self.provider, &self.failed, &self.verdicts);
        for supply in &mut self.supplies {
            supply.keep(&judge, now);
        }
        let supplies = &self.supplies;
        self.failed.retain(|(credential, _)| {
            let mut held = supplies.iter().flat_map(CredentialSource::holdings);
            held.any(|holding| holding.credential == *credential)
        });
    }
}

impl std::fmt::Debug for Rotation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rotation").field("name", &self.params.name).finish_non_exhaustive()
    }
}

fn site_folder(params: &RotationParams) -> Option<Folder> {
    match &params.site_issued {
        Some(SiteIssued::Folder(folder)) => Some(folder.clone()),
        _ => None,
    }
}

fn supplies(params: &RotationParams, provider: &Arc<CryptoProvider>) -> Vec<CredentialSource> {
    let folder = |folder: &Folder, source, system: &Arc<Anchors>| {
        let store = CertFolder::new(folder.clone(), source, provider.clone());
        CredentialSource::folder(store, source, system.clone())
    };
    let pki = params.pki.as_ref().map(|pki| {
        let system = params.system.as_ref().clone().processing_more(pki.process_more);
        folder(pki, Source::Pki, &Arc::new(system))
    });
    let site_issued = params.site_issued.as_ref().map(|site_issued| match site_issued {
        SiteIssued::Authority(authority) => {
            CredentialSource::authority(authority.clone(), params.name.clone())
        }
        SiteIssued::Never(why) => CredentialSource::never(why),
        // The system's roots do not apply to site-issued certificates.
        SiteIssued::Folder(site) => folder(site, Source::SiteIssued, &Arc::default()),
    });
    pki.into_iter().chain(site_issued).collect()
}

fn judge<'a>(
    params: &'a RotationParams,
    provider: &'a CryptoProvider,
    failed: &'a [(Arc<Credential>, CredentialFault)],
    verdicts: &'a Verdicts,
) -> Judge<'a> {
    Judge { hosts: &params.hosts, provider, failed, verdicts, authority: authority(params) }
}

fn authority(params: &RotationParams) -> Option<&Authority> {
    match &params.site_issued {
        Some(SiteIssued::Authority(authority)) => Some(authority),
        _ => None,
    }
}

fn reporter(params: &RotationParams) -> Reporter<'_> {
    Reporter { name: &params.name, port: params.port, observer: &*params.observer }
}

#[cfg(test)]
mod tests;
