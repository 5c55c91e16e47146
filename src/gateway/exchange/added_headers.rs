//! The fields that only sitegate writes to the backend: the identity of the client, and its
//! connection.
//!
//! A client's fields of these names are removed first; see the rules for header fields.

use crate::front::ConnInfo;
use crate::gateway::judge::hops;
use crate::gateway::judge::verdict::Pass;
use crate::gateway::record::ctx::RequestCtx;
use crate::token::TokenOrigin;

/// Passes each field to `write`, which replaces any of the same name. `host` is the Host field for
/// the backend.
///
/// # Errors
/// The first one of `write`.
pub(in crate::gateway) fn write<E>(
    ctx: &RequestCtx,
    conn: &ConnInfo,
    host: Option<&[u8]>,
    mut write: impl FnMut(&'static str, &[u8]) -> Result<(), E>,
) -> Result<(), E> {
    write("X-Forwarded-For", conn.peer_ip.as_bytes())?;
    write("X-Forwarded-Proto", if ctx.head.plain_http { b"http" } else { b"https" })?;
    if let Some(host) = host {
        write("X-Forwarded-Host", host)?;
    }
    write("X-Request-Id", ctx.id.to_string().as_bytes())?;
    write("traceparent", ctx.traceparent().as_bytes())?;
    write(hops::FIELD, &ctx.hops.and_ours())?;
    if let Some(field) = ctx.credential().and_then(|credential| credential.field()) {
        write("Authorization", field.as_bytes())?;
    }
    let Some(pass) = &ctx.pass else { return Ok(()) };
    // The site's services judge the proven key themselves, under any issuer.
    if let (Some((sha256, _)), true) = (&ctx.certificate, ctx.to_site()) {
        write("Sitegate-Client-Cert-Proven", sha256.as_bytes())?;
    }
    // The site's services must accept no issuer that the site system in front does not.
    if let (Some(site), true) = (&ctx.site, ctx.to_site()) {
        write("Sitegate-Accepted-Issuers", site.tokens.accepted_iss.as_bytes())?;
    }
    let certificate = ctx.certificate.as_ref().filter(|(_, good)| *good);
    for (name, value) in identity(pass, certificate.map(|(sha256, _)| &**sha256)) {
        write(name, value.as_bytes())?;
    }
    Ok(())
}

/// The fields that identify the sender. `certificate` is the thumbprint of the client's
/// certificate, if that is good. An observed request has no such field: it is not authenticated.
fn identity<'a>(
    pass: &'a Pass,
    certificate: Option<&'a str>,
) -> impl Iterator<Item = (&'static str, &'a str)> {
    let who = pass.verified.as_ref().map(|verified| verified.identity());
    let certificate = certificate.filter(|_| pass.observed.is_none());
    let origin = who.and_then(|who| who.origins.first());
    [
        ("Sitegate-Issuer", who.map(|who| &*who.issuer)),
        ("Sitegate-Device", who.and_then(|who| who.device.as_deref())),
        ("Sitegate-User", who.and_then(|who| who.user.as_deref())),
        ("Sitegate-Token-Id", who.and_then(|who| who.token_id.as_deref())),
        ("Sitegate-Origin-Issuer", origin.map(|origin| &*origin.iss)),
        ("Sitegate-Origin-Subject", origin.and_then(TokenOrigin::subject)),
        ("Sitegate-Client-Cert-Sha256", certificate),
    ]
    .into_iter()
    .filter_map(|(name, value)| Some((name, value?)))
}
