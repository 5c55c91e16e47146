//! Checks of files and machine: certificates and keys as in `check`, file modes, file systems and
//! limits.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::Instruments;
use super::finding::{Ailment, Finding};
use crate::admin::CertificateStatus;
use crate::app::examine::{self, Examiner};
use crate::app::space;
use crate::config::{Config, KeySource, TokenServiceStore};
use crate::control::machine;
use crate::os;
use crate::secret::PasswordSource;

/// Two weeks.
const ENDS_SOON_S: i64 = 14 * 86_400;
/// Other processes may use up fewer than this.
const INSTANCES_MIN: u64 = 16;
const WATCHES_MIN: u64 = 1024;

/// The PKI certificate selected from the files of each site system.
pub(super) type ServedByName = BTreeMap<String, CertificateStatus>;

pub(super) async fn examine(config: &Config, with: &Instruments) -> (Vec<Finding>, ServedByName) {
    let mut found = Vec::new();
    let served = certificates(config, with, &mut found);
    for issuer in examine::issuers(config) {
        let name = issuer.policy.name.to_string();
        let examined = examine::issuer(issuer, with.clock.now());
        let (wrong, ending) = (examined.wrong, examined.ending.into_iter());
        found.extend(ending.map(|e| Finding::new(Ailment::AuthorityEnds, &*name, e)));
        found.extend(wrong.into_iter().map(|w| Finding::new(Ailment::IssuerFiles, &*name, w)));
    }
    let of_site = match config.site_server {
        Some(_) => examine::site_server(config, with.clock.now()),
        None => examine::token_service(config),
    };
    let state = examine::state(config, with.provider.clone(), with.clock.now()).await;
    let log = examine::access_log(config);
    for (about, examined) in [("site", of_site), ("state", state), ("log", log)] {
        for wrong in examined.wrong {
            // A fault that prevents certificates is also a fault of the state directory: it is
            // reported once.
            if found.iter().all(|known| known.evidence != wrong) {
                found.push(Finding::new(Ailment::SiteFiles, about, wrong));
            }
        }
    }
    let space = space::examine(config);
    let short = space.wrong.into_iter().chain(space.notes);
    found.extend(short.map(|line| Finding::new(Ailment::SpaceShort, "disk", line)));
    exposed(config, &mut found);
    watched(config, &mut found);
    limits(config, &mut found);
    (found, served)
}

fn certificates(config: &Config, with: &Instruments, found: &mut Vec<Finding>) -> ServedByName {
    let examiner = Examiner::new(with.provider.clone(), with.clock.clone());
    let mut served = ServedByName::new();
    for system in &config.site_systems {
        let examined = examiner.site_system(system, config);
        let (wrong, ending) = (examined.wrong.into_iter(), examined.ending.into_iter());
        found.extend(wrong.map(|w| Finding::new(Ailment::CertificateUnfit, &*system.name, w)));
        found.extend(ending.map(|e| Finding::new(Ailment::AuthorityEnds, &*system.name, e)));
        let Some(certificate) = examined.certificate else { continue };
        let left = certificate.not_after.as_second() - with.clock.now().as_second();
        if left < ENDS_SOON_S {
            let evidence = format!("{} ends {}", certificate.thumbprint, certificate.not_after);
            found.push(Finding::new(Ailment::CertificateEnds, &*system.name, evidence));
        }
        if certificate.key.starts_with("Rsa") {
            let key = certificate.key.to_ascii_uppercase();
            let evidence = format!("{} has the key {key}", certificate.thumbprint);
            found.push(Finding::new(Ailment::OldWindows, &*system.name, evidence));
        }
        served.insert(system.name.clone(), certificate);
    }
    served
}

/// Reports secrets and keys that others can read. Those of PKI folders are examined with their
/// certificates.
fn exposed(config: &Config, found: &mut Vec<Finding>) {
    let accounts = config.site_systems.iter().flat_map(|s| s.backends()).map(|b| &b.auth);
    let passwords = config.site_systems.iter().filter_map(|s| s.pki.as_ref());
    let passwords = passwords.filter(|pki| !pki.key_exposed_allowed).map(|pki| &pki.password);
    let store = match &config.token_service.store {
        TokenServiceStore::Postgres(source) => Some(source),
        TokenServiceStore::Embedded => None,
    };
    let join = config.site_server.as_ref().map(|following| &following.join);
    let all = accounts.chain(passwords).flatten().chain(store).chain(join).chain(&config.site.seal);
    let files = all.filter_map(|source| match source {
        PasswordSource::File(path) => Some(path.clone()),
        PasswordSource::Env(_) => None,
    });
    let exposed = files.filter(|path| machine::is_exposed(path));
    for path in exposed.chain(machine::exposed_keys(&config.site.state)) {
        let shown = path.display().to_string();
        found.push(Finding::new(Ailment::KeyExposed, shown, "its mode lets other users read it"));
    }
}

fn watched(config: &Config, found: &mut Vec<Finding>) {
    let parent = |path: &Path| path.parent().map(Path::to_owned);
    let mut folders: Vec<PathBuf> =
        config.site_systems.iter().filter_map(|s| Some(s.pki.as_ref()?.path.clone())).collect();
    folders.extend(config.site.blocklist.as_deref().and_then(parent));
    for issuer in &config.issuers {
        if let KeySource::Files(files) = &issuer.keys {
            folders.extend(files.iter().filter_map(|file| parent(file)));
        }
    }
    folders.sort();
    folders.dedup();
    for folder in folders {
        if let Some(kind) = os::unwatchable(&folder) {
            let shown = folder.display().to_string();
            found.push(Finding::new(Ailment::NotWatchable, shown, format!("it is on {kind}")));
        }
    }
}

fn limits(config: &Config, found: &mut Vec<Finding>) {
    let (instances, watches) = os::watch_limits();
    if instances.is_some_and(|n| n < INSTANCES_MIN) || watches.is_some_and(|n| n < WATCHES_MIN) {
        let (instances, watches) = (instances.unwrap_or(0), watches.unwrap_or(0));
        let evidence = format!("max_user_instances {instances}, max_user_watches {watches}");
        found.push(Finding::new(Ailment::WatchLimit, "this machine", evidence));
    }
    let needed = machine::descriptors_needed(config.limits.connections);
    let addresses = config.site_systems.iter().map(|system| system.listen);
    let running = addresses.flat_map(os::holders).find(|holder| holder.is_sitegate());
    // The limits of a shell say nothing about a service.
    let Some(running) = running else { return };
    if let Some(open) = os::descriptors(running.pid).filter(|open| *open < needed) {
        let evidence = format!("process {} may open {open}, and needs {needed}", running.pid);
        found.push(Finding::new(Ailment::DescriptorLimit, "limits", evidence));
    }
}
