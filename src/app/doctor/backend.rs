//! Probes of the backends that change nothing there: reachability, and the verbs, paths and
//! credentials that their roles need.

use super::ask::{AskAnswer, AskFault, AskPlace, AskTarget, ask};
use super::finding::{Ailment, Finding};
use super::{Instruments, Probes, SKEW_MAX_S, within};
use crate::config::{BackendAddress, BackendConfig, Config, SiteSystem};
use crate::route::Role;
use crate::secret::BasicCredential;

/// A file that every management point has.
const PACKAGE: &str = "/CCM_Client/ccmsetup.cab";
/// A package that no distribution point has.
const NO_PACKAGE: &str = "/SMS_DP_SMSPKG$/sitegate-doctor-0";

pub(super) fn probe(config: &Config, with: &Instruments, probes: &mut Probes) {
    for system in &config.site_systems {
        for backend in system.backends() {
            let Some(to) = target(system, backend, with) else { continue };
            spawn(
                probes,
                system,
                backend,
                reachable(to, about(system), backend.url.clone(), with.clone()),
            );
        }
        for role in &system.roles {
            let own = system.role_backends.iter().find(|(of, _)| of == role);
            let backend = own.map_or(&system.backend, |(_, backend)| backend);
            let Some(to) = target(system, backend, with) else { continue };
            let about = about(system);
            match role {
                Role::ManagementPoint => {
                    spawn(probes, system, backend, list(to.clone(), about.clone()));
                    spawn(probes, system, backend, message(to.clone(), about.clone()));
                    spawn(probes, system, backend, ranges(to.clone(), about.clone()));
                    if system.windows_auth {
                        spawn(probes, system, backend, windows_auth(to, about));
                    }
                }
                Role::DistributionPoint => {
                    let translated = system.routes.iter().any(|route| route.translation.is_some());
                    spawn(probes, system, backend, content(to.clone(), about.clone(), translated));
                    spawn(probes, system, backend, listing(to, about));
                }
                _ => {}
            }
        }
    }
}

fn about(system: &SiteSystem) -> String {
    system.name.clone()
}

fn spawn(
    probes: &mut Probes,
    system: &SiteSystem,
    backend: &BackendConfig,
    probe: impl Future<Output = Vec<Finding>> + Send + 'static,
) {
    let evidence = format!("{}: no response in time", backend.url);
    let late = Finding::new(Ailment::BackendNotHttp, about(system), evidence);
    probes.spawn(within(late, probe));
}

/// How to reach a backend; `None` if only the process that serves can.
fn target(system: &SiteSystem, backend: &BackendConfig, with: &Instruments) -> Option<AskTarget> {
    let place = match &backend.address {
        BackendAddress::Host(host, port) => AskPlace::Tcp(host.clone(), *port),
        BackendAddress::Unix(path) => AskPlace::Unix(path.clone()),
        BackendAddress::SiteServer => return None,
    };
    let roots = |path| crate::app::upstreams::backend_roots(path).unwrap_or_default();
    let tls = backend
        .tls_name
        .clone()
        .map(|name| (with.tls.trusting(backend.ca.as_deref().map(roots)), name));
    let account = backend.auth.as_ref().and_then(|source| BasicCredential::read(source).ok());
    let authorization = account.and_then(|(account, _)| Some(account.field()?.to_owned()));
    let host = system.hosts.first().cloned().unwrap_or_default();
    Some(AskTarget { place, tls, host, authorization })
}

async fn reachable(to: AskTarget, about: String, url: String, with: Instruments) -> Vec<Finding> {
    let found = |ailment, evidence: String| vec![Finding::new(ailment, about.clone(), evidence)];
    match ask(&to, "OPTIONS", "/", &[("Content-Length", "0")]).await {
        Err(AskFault::Connect(error)) => {
            found(Ailment::BackendUnreachable, format!("{url}: {error}"))
        }
        Err(AskFault::Tls(error)) => {
            // A server that speaks plain HTTP, or closes the connection, has not shown a bad
            // certificate.
            let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
            let ailment = match inner {
                Some(rustls::Error::InvalidCertificate(_)) => Ailment::BackendCertificate,
                _ => Ailment::BackendNotHttp,
            };
            found(ailment, format!("{url}: {error}"))
        }
        Err(AskFault::NotHttp(why)) => found(Ailment::BackendNotHttp, format!("{url}: {why}")),
        Ok(answer) if answer.status == 401 && to.authorization.is_some() => {
            found(Ailment::BackendAccount, format!("OPTIONS / at {url} with the account: 401"))
        }
        Ok(answer) => match answer.skew(with.clock.now()) {
            Some(skew) if skew > SKEW_MAX_S => found(
                Ailment::ClockBackend,
                format!("{url}: its Date is {} seconds from this machine's time", skew),
            ),
            _ => Vec::new(),
        },
    }
}

/// The backend's response to a verb; an unreachable backend is reported by its own probe.
async fn answer(
    to: &AskTarget,
    method: &str,
    path: &str,
    more: &[(&str, &str)],
) -> Option<AskAnswer> {
    ask(to, method, path, more).await.ok()
}

async fn list(to: AskTarget, about: String) -> Vec<Finding> {
    let path = "/SMS_MP/.sms_aut?MPLIST";
    let Some(answer) = answer(&to, "GET", path, &[]).await else { return Vec::new() };
    let evidence = format!("GET {path}: {}", answer.status);
    let found = |ailment, evidence| vec![Finding::new(ailment, about, evidence)];
    match answer.status {
        404 => found(Ailment::BackendRole, evidence),
        403 => found(Ailment::BackendForbids, evidence),
        405 | 501 => found(Ailment::BackendVerb, evidence),
        200 => match ssl_state(&answer.body).filter(|state| *state != "0") {
            Some(state) => found(Ailment::HttpsMode, format!("{evidence}, SSLState {state}")),
            None => Vec::new(),
        },
        _ => Vec::new(),
    }
}

/// The value of the property SSLState in a list of management points.
fn ssl_state(list: &str) -> Option<&str> {
    let (_, after) = list.split_once("\"SSLState\"")?;
    let tag = after.split('>').next()?;
    tag.split_once("Value=\"")?.1.split('"').next()
}

/// Sends an empty message, which is invalid: the management point rejects it, unless the verb is
/// rejected before.
async fn message(to: AskTarget, about: String) -> Vec<Finding> {
    let path = "/CCM_System/request";
    let length = [("Content-Length", "0")];
    let Some(answer) = answer(&to, "CCM_POST", path, &length).await else { return Vec::new() };
    refused_verb(&answer, about, format!("CCM_POST {path}: {}", answer.status))
}

async fn listing(to: AskTarget, about: String) -> Vec<Finding> {
    let path = "/SMS_DP_SMSPKG$/";
    let more = [("Depth", "0"), ("Content-Length", "0")];
    let Some(answer) = answer(&to, "PROPFIND", path, &more).await else { return Vec::new() };
    refused_verb(&answer, about, format!("PROPFIND {path}: {}", answer.status))
}

fn refused_verb(answer: &AskAnswer, about: String, evidence: String) -> Vec<Finding> {
    match answer.status {
        405 | 501 => vec![Finding::new(Ailment::BackendVerb, about, evidence)],
        _ => Vec::new(),
    }
}

async fn ranges(to: AskTarget, about: String) -> Vec<Finding> {
    let range = [("Range", "bytes=0-0")];
    let Some(answer) = answer(&to, "GET", PACKAGE, &range).await else { return Vec::new() };
    match answer.status {
        200 => vec![Finding::new(
            Ailment::BackendRanges,
            about,
            format!("GET {PACKAGE} with Range: bytes=0-0 is answered with 200, not 206"),
        )],
        _ => Vec::new(),
    }
}

async fn windows_auth(to: AskTarget, about: String) -> Vec<Finding> {
    let path = "/CCM_System_WindowsAuth/request";
    let Some(answer) = answer(&to, "GET", path, &[]).await else { return Vec::new() };
    let offers = |value: &str| {
        let value = value.to_ascii_lowercase();
        value.starts_with("negotiate") || value.starts_with("ntlm")
    };
    let challenges =
        answer.fields.iter().filter(|(n, _)| n.eq_ignore_ascii_case("www-authenticate"));
    let offered = challenges.clone().any(|(_, value)| offers(value));
    if offered {
        Vec::new()
    } else {
        vec![Finding::new(
            Ailment::BackendWindowsAuth,
            about,
            format!("GET {path}: {} without Negotiate or NTLM", answer.status),
        )]
    }
}

/// A distribution point with anonymous access answers that there is no such package; one that
/// requires authentication asks for it first.
async fn content(to: AskTarget, about: String, translated: bool) -> Vec<Finding> {
    let has_account = to.authorization.is_some();
    let to = AskTarget { authorization: None, ..to };
    let Some(answer) = answer(&to, "GET", NO_PACKAGE, &[]).await else { return Vec::new() };
    let evidence = format!("GET {NO_PACKAGE} without credentials: {}", answer.status);
    match answer.status {
        403 => vec![Finding::new(Ailment::BackendForbids, about, evidence)],
        // A translating site system needs anonymous access: its backend does not know tokens.
        200..=299 | 404 if has_account || !translated => {
            vec![Finding::new(Ailment::ContentAnonymous, about, evidence)]
        }
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_state_of_a_management_point_is_read_out_of_its_list() {
        let list = "<MP><Property Name=\"SSLState\" Value=\"63\"/><Property Value=\"1\"/></MP>";
        assert_eq!(ssl_state(list), Some("63"));
        assert_eq!(ssl_state("<MPList/>"), None);
    }
}
