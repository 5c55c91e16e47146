//! Opens and checks a configuration and every file that it names, as a start would.
//!
//! Changes nothing: creates no CA, issues and fetches nothing, and does not listen.

use std::io::ErrorKind;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use rustls::crypto::CryptoProvider;

use super::assemble::{find_tokens, folder, names};
use super::authority::{Allowed, allowed, open_authority};
use super::store_place::store_place;
use super::upstreams::backend_roots;
use crate::admin::CertificateStatus;
use crate::anchor::Anchor;
use crate::cert::{Anchors, CredentialFault, Rejected};
use crate::clock::{Clock, second};
use crate::config::{
    ClientCertificates, Config, Following, IssuerConfig, KeySource, LogSink, SiteSystem,
};
use crate::control::site_server::{BundleFiles, join_token};
use crate::control::{
    ClientFiles, ClientFilesState, IssuerKeys, Rotation, RotationParams, Warning,
};
use crate::os;
use crate::secret::Password;
use crate::site::store::{Store, StorePlace};
use crate::site::{Seal, TokenKeyError, Tried, owner};
use crate::tls::TlsOptions;
use crate::unfit::Unfit;

/// The result for one site system or one token issuer.
#[derive(Default)]
pub(crate) struct Examined {
    /// Whether a certificate covers all hosts, as far as that can be known here.
    pub(crate) is_covered: bool,
    /// The certificate that would be served.
    pub(crate) certificate: Option<CertificateStatus>,
    /// Informational notes.
    pub(crate) notes: Vec<String>,
    /// Roots that expire soon: the file, the root, and when.
    pub(crate) ending: Vec<String>,
    /// Faults: the file, and why.
    pub(crate) wrong: Vec<String>,
}

/// Examines the files of a configuration.
pub(crate) struct Examiner {
    clock: Clock,
    provider: Arc<CryptoProvider>,
    system: Arc<Anchors>,
}

impl Examiner {
    pub(crate) fn new(provider: Arc<CryptoProvider>, clock: Clock) -> Self {
        let native = rustls_native_certs::load_native_certs();
        Self::with(provider, clock, Arc::new(Anchors::lenient(native.certs.iter())))
    }

    /// The same, with system roots that were already read.
    pub(super) fn with(provider: Arc<CryptoProvider>, clock: Clock, system: Arc<Anchors>) -> Self {
        Examiner { clock, provider, system }
    }

    /// Examines the certificates of a site system: its own, its clients' CAs and its backends' CAs.
    pub(crate) fn site_system(&self, system: &SiteSystem, config: &Config) -> Examined {
        let mut found = Examined::default();
        self.served(system, config, &mut found);
        if let Some(clients) = &system.clients {
            self.clients(&system.name, clients, &mut found);
        }
        for ca in system.backends().filter_map(|backend| backend.ca.as_ref()) {
            roots(ca, "backend_ca", self.clock.now(), &mut found);
        }
        found
    }

    /// Examines only the certificate that would be served.
    pub(crate) fn certificate(&self, system: &SiteSystem, config: &Config) -> Examined {
        let mut found = Examined::default();
        self.served(system, config, &mut found);
        found
    }

    /// Examines the certificate that would be served, with the selection of the running process.
    fn served(&self, system: &SiteSystem, config: &Config, found: &mut Examined) {
        let mut params = RotationParams::new(system.name.clone(), names(&system.hosts));
        let client_certificates = system.clients.is_some() || system.is_site_server();
        params.tls = TlsOptions { http2: system.http2, client_certificates };
        params.pki = system.pki.as_ref().map(folder);
        params.system = self.system.clone();
        let (_, served) = Rotation::start(params, self.clock.clone(), self.provider.clone());
        let served = served.load();
        let place = system.pki.as_ref().map(|pki| pki.path.display().to_string());
        let place = place.unwrap_or_default();
        let selection = &served.selection;
        let loud = |rejected: &&Rejected| {
            !matches!(rejected.fault.unfit, Unfit::Absent | Unfit::Superseded)
        };
        found.wrong.extend(selection.rejected.iter().filter(loud).map(|rejected| {
            let fault = &rejected.fault;
            format!("{place}: {fault}. {}", fault.unfit.hint())
        }));
        for (_, warning) in &served.warnings {
            let told = format!("{place}: {warning} ({})", warning.code());
            match warning {
                Warning::Unstapled(_) | Warning::RenewalOverdue(_) => found.wrong.push(told),
                Warning::KeyGroupReadable | Warning::AuthorityEnding(..) => found.notes.push(told),
            }
        }
        match (&selection.chosen, allowed(&config.site, &system.roles)) {
            (Some(chosen), _) => {
                found.is_covered = true;
                found.certificate =
                    Some(CertificateStatus::new(chosen.source().as_str(), chosen.facts()));
            }
            (None, Allowed::Yes) => {
                let own = match &config.site_server {
                    Some(_) if BundleFiles::new(&config.site.state).trust().is_none() => {
                        Ok("serves a site-issued certificate, once it has joined")
                    }
                    Some(_) => Ok("serves a site-issued certificate"),
                    None => self.own(system, config),
                };
                found.is_covered = own.is_ok();
                match own {
                    Ok(own) if place.is_empty() => found.notes.push(own.to_owned()),
                    Ok(own) => {
                        let missing = system.pki.as_ref().is_some_and(|pki| !pki.path.exists());
                        let has = if missing { "is not there" } else { "has none that is fit" };
                        found.notes.push(format!("{own}: {place} {has}"));
                    }
                    Err(fault) => found.wrong.push(format!("{fault}. {}", fault.unfit.hint())),
                }
            }
            (None, Allowed::Never(why)) => found.wrong.push(why.to_owned()),
            (None, Allowed::No) => found.wrong.push(format!(
                "{place}: no certificate is fit, and the site issues none: every TLS handshake \
                 will fail"
            )),
        }
        if let Some(staple) = &served.staple {
            found.notes.push(format!("with an OCSP response until {}", staple.next_update));
        }
    }

    /// Checks that the site's CA could issue for a site system.
    fn own(&self, system: &SiteSystem, config: &Config) -> Result<&'static str, CredentialFault> {
        let Some(authority) = open_authority(config, self.provider.clone()) else {
            return Err(CredentialFault::new(Unfit::NotIssued, "the site has no authority"));
        };
        let hosts = names(&system.hosts);
        Ok(match authority.try_out(&system.name, &hosts, self.clock.now())? {
            Tried::Fit => "serves a site-issued certificate",
            Tried::AtFirstStart => {
                "serves a site-issued certificate; the first start creates the root"
            }
        })
    }

    /// The site systems of a new configuration that would have no certificate although they have
    /// one now, or although the site issues certificates; with the reasons. A site system that
    /// waits for its first certificate does not count.
    pub(crate) fn unserved(&self, old: &Config, new: &Config) -> Vec<String> {
        let reason = |system: &SiteSystem| {
            let before = old.site_systems.iter().find(|before| before.name == system.name);
            if before.is_some_and(|before| {
                (&before.hosts, &before.pki) == (&system.hosts, &system.pki)
                    && allowed(&old.site, &before.roles) == allowed(&new.site, &system.roles)
            }) {
                return None;
            }
            let found = self.certificate(system, new);
            let was_covered = || before.is_some_and(|b| self.certificate(b, old).is_covered);
            let is_issued = allowed(&new.site, &system.roles) == Allowed::Yes;
            if found.is_covered || !(is_issued || was_covered()) {
                return None;
            }
            Some(format!(
                "{}: no certificate would be fit: {}",
                system.name,
                found.wrong.join("; ")
            ))
        };
        new.site_systems.iter().filter_map(reason).collect()
    }

    fn clients(&self, name: &str, files: &ClientCertificates, found: &mut Examined) {
        let seen = Arc::new(Mutex::new(ClientFilesState::default()));
        let told = seen.clone();
        let on_change = Arc::new(move |state: &ClientFilesState| {
            *told.lock().unwrap_or_else(PoisonError::into_inner) = state.clone();
        });
        let (clock, provider) = (self.clock.clone(), self.provider.clone());
        ClientFiles::start(name.into(), files.clone(), clock, provider, on_change);
        let state = seen.lock().unwrap_or_else(PoisonError::into_inner);
        let (authorities, crls) = (state.authorities, state.crls);
        found
            .notes
            .push(format!("client certificates by {authorities} authorities and {crls} CRLs"));
        found.ending.extend(state.ending.iter().cloned());
        found.wrong.extend(state.problems.iter().cloned());
    }
}

/// The issuers with keys to examine. Excludes the site's own issuer if its keys come with the
/// bundle of a site server, which is examined separately.
pub(crate) fn issuers(config: &Config) -> impl Iterator<Item = &IssuerConfig> {
    let with_bundle = [Following::token_keys(&config.site.state)];
    config.issuers.iter().filter(
        move |issuer| !matches!(&issuer.keys, KeySource::Files(files) if *files == with_bundle),
    )
}

/// Examines the keys of a token issuer, as far as they are on this machine.
pub(crate) fn issuer(issuer: &IssuerConfig, now: Timestamp) -> Examined {
    let mut found = Examined::default();
    match &issuer.keys {
        KeySource::Files(files) => {
            let (usable, wrong) = IssuerKeys::examine(files);
            found.notes.push(format!("{usable} usable keys"));
            found.wrong = wrong;
            if usable == 0 && found.wrong.is_empty() {
                found.wrong.push("its files hold no key: its tokens would be refused".to_owned());
            }
        }
        KeySource::Url(place) => {
            found.notes.push(format!("keys from {}, which was not contacted", place.url));
            if let Some(ca) = &place.ca {
                roots(ca, "key_ca", now, &mut found);
            }
        }
        KeySource::Site => found.notes.push("the site's own key".to_owned()),
    }
    found
}

/// Examines the state directory: its owner, whether it is writable, and its unusable files. Changes
/// nothing.
pub(crate) async fn state(
    config: &Config,
    provider: Arc<CryptoProvider>,
    now: Timestamp,
) -> Examined {
    let mut found = Examined::default();
    let path = &config.site.state;
    match path.try_exists() {
        Ok(true) => found.notes.push(path.display().to_string()),
        Ok(false) => {
            found.notes.push(format!("{}, which the first start creates", path.display()));
            return found;
        }
        Err(error) => found.wrong.push(format!("{}: {error}", path.display())),
    }
    found.wrong.extend(owner(path, &config.site.code).err().map(|error| error.to_string()));
    if path.is_file() {
        found.wrong.push(format!("{}: it is a file; it must be a folder", path.display()));
        return found;
    }
    found.wrong.extend(os::unwritable(path).map(|why| match why.kind() {
        ErrorKind::ReadOnlyFilesystem => format!("{}: {why}", path.display()),
        _ => {
            let owner = "it must belong to the user that sitegate runs as";
            format!("{}: {why}; {owner}", path.display())
        }
    }));
    if let Some(authority) = open_authority(config, provider) {
        let (usable, expected) = (authority.look(now), authority.look_for_expected_roots());
        let fault = usable.err().map(|fault| format!("{fault}. {}", fault.unfit.hint()));
        found.wrong.extend(fault.into_iter().chain(expected.err().map(|error| error.to_string())));
    }
    if config.site_server.is_none() {
        match find_tokens(config) {
            Ok(_) => {}
            Err(TokenKeyError::NotMade { .. }) => {
                found.notes.push("a token key, which the first start creates".to_owned());
            }
            Err(error) => found.wrong.push(error.to_string()),
        }
        if let Ok((StorePlace::Sqlite(file), _, true)) = store_place(config)
            && let Err(error) = Store::look(&file).await
        {
            found.wrong.push(format!("{}: {error}", file.display()));
        }
    }
    found
}

/// Examines the folder of the access log.
pub(crate) fn access_log(config: &Config) -> Examined {
    let mut found = Examined::default();
    if let LogSink::File(path) = &config.log.access
        && let Some(folder) = path.parent()
        && !folder.is_dir()
    {
        found.wrong.push(format!("access: there is no folder {}", folder.display()));
    }
    found
}

/// The token service's URLs and its store. Opens nothing that opening would change.
pub(crate) fn token_service(config: &Config) -> Examined {
    let mut found = Examined::default();
    let serving = config.site_systems.iter().filter(|system| system.is_site_server());
    for origin in serving.flat_map(|system| system.origins()) {
        found.notes.push(format!("site server for gateways: {origin}"));
    }
    if let Some(source) = &config.site.seal {
        let seal = Password::read(source).map_err(|error| error.to_string());
        let seal = seal.and_then(|(text, _)| Seal::new(&text).map_err(|error| error.to_string()));
        found.wrong.extend(seal.err().map(|why| format!("seal: {why}")));
    }
    if config.site_systems.iter().any(|system| system.token_service) {
        found.notes.push(format!("token service: {}", config.site.token_issuer));
    }
    match store_place(config) {
        Ok((StorePlace::Sqlite(path), _, true)) => found.notes.push(path.display().to_string()),
        Ok((StorePlace::Sqlite(path), _, false)) => {
            found.notes.push(format!("{}, which the first start creates", path.display()));
        }
        Ok((StorePlace::Postgres(_), ..)) => {
            found.notes.push("PostgreSQL, which was not contacted".to_owned());
        }
        Err(error) => found.wrong.push(error.to_string()),
    }
    found
}

/// The stored data of the site server that a gateway follows.
pub(crate) fn site_server(config: &Config, now: Timestamp) -> Examined {
    let mut found = Examined::default();
    let Some(following) = &config.site_server else { return found };
    let kept = BundleFiles::new(&config.site.state);
    let Some(trust) = kept.trust() else {
        match join_token(&following.join) {
            Ok(token) if token.expires <= now.as_second() => {
                found.wrong.push("the join token has expired: make a new one".to_owned());
            }
            Ok(token) if token.name != following.name => found.wrong.push(format!(
                "the join token is for a gateway named {}, and this one is {}",
                token.name, following.name
            )),
            Ok(token) => {
                found.notes.push(format!("joins by its token at {}", token.servers.join(", ")));
            }
            Err(why) => found.wrong.push(why),
        }
        return found;
    };
    found.notes.push(format!("joined as {}: {}", following.name, trust.servers.join(", ")));
    if trust.site != config.site.code {
        found.wrong.push(format!("it has joined site {}, not this one", trust.site));
    }
    match kept.bundle(&trust) {
        Some(Ok(bundle)) if bundle.head.is_expired(now) => {
            found.wrong.push("its last bundle has expired; newer blocks are missing".into());
        }
        Some(Ok(bundle)) => found.notes.push(format!(
            "bundle of {}, good until {}, {} blocked",
            second(bundle.head.issued),
            second(bundle.head.expires),
            bundle.blocks.len()
        )),
        Some(Err(refusal)) => {
            found.wrong.push(format!("its bundle on disk: {refusal} ({})", refusal.code()));
        }
        None => found
            .wrong
            .push("it has no bundle on disk, and needs its site server to get one".into()),
    }
    found
}

fn roots(path: &Path, key: &str, now: Timestamp, found: &mut Examined) {
    match backend_roots(path) {
        Ok(anchors) => {
            let unfit = |anchor: &Anchor| Some((anchor.subject().to_owned(), anchor.ended(now)?));
            let unfit: Vec<_> = anchors.iter().filter_map(unfit).collect();
            let ending = anchors.iter().filter_map(|anchor| anchor.ending(now));
            found.ending.extend(ending.map(|told| format!("{}: {told}", path.display())));
            if unfit.len() < anchors.iter().count() {
                found.notes.push(format!("{key} {} can be used", path.display()));
            }
            let told = |(name, why)| format!("{}: {name} {why}: it is not trusted", path.display());
            found.wrong.extend(unfit.into_iter().map(told));
        }
        Err(why) => {
            found.wrong.push(format!("{}: {why}: no client certificate is trusted", path.display()))
        }
    }
}
