//! Steps about certificates: the site's own, the PKI's, and what happens between them.

use std::time::Duration;

use super::demo_site::{DemoSite, MP};
use super::requests::POLICY;
use super::step::{StepOutcome, StepText, until};
use crate::client::thumbprint;
use crate::{Load, LoadPlan, ServedChain, SimClient, SimRequest};

const KEEPING: usize = 8;
const FRESH: usize = 4;
/// Requests before and after a change, so that it happens under load.
const REQUESTS: u64 = 100;

pub(super) const SITE_ISSUED: StepText = StepText {
    title: "a certificate without a PKI",
    does: "open a TLS connection to the management point, trusting the site's root alone",
    expected: "SMS Issuing stands behind an SMS Role SSL Certificate for mp01.contoso.com, TLS 1.3",
    remark: "Nobody requested this certificate: the site issued it at its first start, and renews \
             it. Clients import the root once ('sitegate site export-root').",
};

pub(super) async fn site_issued(stage: &mut DemoSite) -> anyhow::Result<StepOutcome> {
    let shown = SimClient::new(stage.gateway()?, MP, &stage.site_trust).connect().await?;
    let served = stage.status_of_mp()?;
    let same = served.certificate.is_some_and(|c| c.thumbprint == shown.thumbprint);
    let seen = format!(
        "{}; names {}; thumbprint {}…, {} status; {}",
        chain(&shown),
        shown.names.join(", "),
        short(&shown.thumbprint),
        if same { "as in" } else { "NOT that of" },
        shown.tls
    );
    let ok = is_site_issued(&shown) && same && shown.tls == "TLS 1.3" && shown.names == [MP];
    Ok(StepOutcome { seen, ok })
}

pub(super) const PKI_SWAP: StepText = StepText {
    title: "a PKI certificate, under load",
    does: "rename ca.crt, tls.key and tls.crt into the PKI folder while 12 clients ask for policy, 8 \
           on kept connections and 4 on a new connection for each request",
    expected: "the next handshakes show it; nothing fails, no connection is closed",
    remark: "No restart, no reload, no command: an issuer such as cert-manager or a script puts the \
             files there. PKI goes first as long as it is fit.",
};

pub(super) async fn pki_swap(stage: &mut DemoSite) -> anyhow::Result<StepOutcome> {
    let load = Load::start(LoadPlan {
        address: stage.gateway()?,
        name: MP.to_owned(),
        trust: stage.trust.clone(),
        request: SimRequest::get(POLICY).bearer(&stage.tokens.device),
        keeping: KEEPING,
        fresh: FRESH,
        pause: Duration::from_millis(5),
    })?;
    asked(&load, REQUESTS).await?;
    let forged = stage.issue()?;
    stage.pki_thumbprint = leaf_thumbprint(&forged.leaf)?;
    let renamed = stage.put_pki(&forged)?;
    shows(stage, |shown| shown.thumbprint == stage.pki_thumbprint).await?;
    let took = renamed.elapsed();
    asked(&load, load.counts().requests + REQUESTS).await?;
    let counts = load.stop();
    let seen = format!(
        "shown {} ms after the rename; {} requests and {} handshakes, of which {} and {} failed; \
         {} connections closed{}",
        took.as_millis(),
        counts.requests,
        counts.handshakes,
        counts.requests_failed,
        counts.handshakes_failed,
        counts.reopened,
        counts.failures.first().map(|first| format!(" (first: {first})")).unwrap_or_default()
    );
    let ok = counts.requests_failed + counts.handshakes_failed + counts.reopened == 0;
    Ok(StepOutcome { seen, ok })
}

pub(super) const PKI_BROKEN: StepText = StepText {
    title: "a half-written PKI certificate",
    does: "overwrite tls.crt with the first half of another",
    expected: "the good PKI certificate goes on, and status says why",
    remark: "'sitegate status' shows the reason, its code and what to do; the metric \
             sitegate_certificate_rejected is worth an alert.",
};

pub(super) async fn pki_broken(stage: &mut DemoSite) -> anyhow::Result<StepOutcome> {
    let forged = stage.issue()?;
    let half = forged.leaf.get(..forged.leaf.len() / 2).unwrap_or_default();
    std::fs::write(stage.pki_folder().join("tls.crt"), half)?;
    let (status, rejected) = until("a rejection", async || {
        let status = stage.status_of_mp()?;
        let rejected = status.rejected.iter().find(|r| r.source == "pki").cloned();
        Ok(rejected.map(|rejected| (status, rejected)))
    })
    .await?;
    let shown = stage.client(MP)?.connect().await?;
    let same = shown.thumbprint == stage.pki_thumbprint;
    let seen = format!(
        "{} ({}); status {}: {} ({})",
        if same { "the same certificate" } else { "ANOTHER certificate" },
        short(&shown.thumbprint),
        status.reason,
        rejected.reason,
        rejected.detail
    );
    Ok(StepOutcome { seen, ok: same && status.reason == "pki-kept" })
}

pub(super) const PKI_REMOVED: StepText = StepText {
    title: "the PKI certificate removed",
    does: "empty the PKI folder",
    expected: "the site-issued certificate is served again",
    remark: "An empty folder is taken as what you want; a broken file is not.",
};

pub(super) async fn pki_removed(stage: &mut DemoSite) -> anyhow::Result<StepOutcome> {
    stage.remove_pki()?;
    let shown = shows(stage, is_site_issued).await?;
    let status = stage.status_of_mp()?;
    let seen = format!("{}; status {}", chain(&shown), status.reason);
    Ok(StepOutcome {
        seen,
        ok: status.reason == "site-issued-no-pki" && status.rejected.len() <= 1,
    })
}

/// Open connections until one shows what is wanted.
async fn shows(
    stage: &DemoSite,
    wanted: impl Fn(&ServedChain) -> bool,
) -> anyhow::Result<std::sync::Arc<ServedChain>> {
    until("the certificate", async || {
        let shown = stage.client(MP)?.connect().await?;
        Ok(Some(shown).filter(|shown| wanted(shown)))
    })
    .await
}

async fn asked(load: &Load, requests: u64) -> anyhow::Result<()> {
    until("the load", async || Ok((load.counts().requests >= requests).then_some(()))).await
}

fn is_site_issued(shown: &ServedChain) -> bool {
    shown.path.last().is_some_and(|root| root == "SMS Issuing")
}

fn chain(shown: &ServedChain) -> String {
    let mut path = shown.path.clone();
    path.reverse();
    path.extend(shown.names.first().cloned());
    path.join(" > ")
}

/// The beginning of a thumbprint, enough to compare by eye.
fn short(thumbprint: &str) -> &str {
    thumbprint.get(..8).unwrap_or(thumbprint)
}

fn leaf_thumbprint(pem: &str) -> anyhow::Result<String> {
    use rustls_pki_types::CertificateDer;
    use rustls_pki_types::pem::PemObject;
    let der = CertificateDer::from_pem_slice(pem.as_bytes());
    let der = der.map_err(|error| anyhow::anyhow!("the forged certificate: {error}"))?;
    Ok(thumbprint(&der))
}
