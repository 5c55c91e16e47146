//! Shows a token's content and whether it would be accepted, for operators.
//!
//! Trusts nothing in it, and never shows its signature: the output cannot be replayed.

use std::fmt;

use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;

use super::bearer::BearerToken;
use super::blocklist::Blocklist;
use super::cache::Fingerprint;
use super::refusal::Refusal;
use super::text::base64url;
use super::verify::{Trusted, verify};

/// A decoded token. Header and claims are as in the token, unverified.
#[derive(Clone, Debug, Serialize)]
pub struct TokenInspection {
    /// The token's identifier in logs: 8 hex digits of its SHA-256.
    pub fingerprint: String,
    /// Its length in bytes.
    pub len: usize,
    /// The header, if it can be decoded.
    pub header: Option<Value>,
    /// The claims, if they can be decoded.
    pub claims: Option<Value>,
    /// `exp`, `nbf` and `iat` as dates, if they are valid dates.
    pub times: Vec<(&'static str, String)>,
    /// The token's identity, if it would be accepted now.
    pub accepted: Option<Accepted>,
    /// The first reason why it would be refused now: a code of docs/denials.md, and the detail.
    pub refused: Option<InspectRefusal>,
}

/// Why the token would be refused.
#[derive(Clone, Debug, Serialize)]
pub struct InspectRefusal {
    /// The denial's code.
    pub code: &'static str,
    /// The denial as a sentence.
    pub title: &'static str,
    /// The detail that the log would have.
    pub detail: String,
    /// The remedy.
    pub hint: &'static str,
}

/// The identity of an accepted token.
#[derive(Clone, Debug, Serialize)]
pub struct Accepted {
    /// The configured name of the issuer.
    pub issuer: String,
    /// Its purpose.
    pub purpose: &'static str,
    /// The device, if it speaks for one.
    pub device: Option<String>,
    /// The user, if it speaks for one.
    pub user: Option<String>,
    /// The id by which it is blocked.
    pub token_id: Option<String>,
}

/// Inspects the text of a token; surrounding white space is ignored. Without trusted issuers it
/// shows the content and a refusal, because no issuer is trusted.
pub fn inspect(
    text: &[u8],
    trusted: &[Trusted],
    blocklist: &Blocklist,
    now: Timestamp,
) -> TokenInspection {
    let text = text.trim_ascii();
    let judged = BearerToken::parse(text)
        .map_err(|denial| Refusal::new(denial, "its shape is not that of a signed JWT"))
        .and_then(|token| verify(&token, trusted, now))
        .and_then(|verified| {
            blocklist.judge(verified.identity(), verified.issued()).map(|()| verified)
        });
    let mut segments = text.split(|b| *b == b'.').map(object);
    let (header, claims) = (segments.next().flatten(), segments.next().flatten());
    let times = ["exp", "nbf", "iat"].into_iter().filter_map(|name| {
        let seconds = claims.as_ref()?.get(name)?.as_i64()?;
        Some((name, Timestamp::from_second(seconds).ok()?.to_string()))
    });
    TokenInspection {
        fingerprint: Fingerprint::of(text).to_string(),
        len: text.len(),
        times: times.collect(),
        header,
        claims,
        accepted: judged.as_ref().ok().map(|verified| {
            let identity = verified.identity();
            Accepted {
                issuer: identity.issuer.to_string(),
                purpose: identity.purpose.as_str(),
                device: identity.device.clone(),
                user: identity.user.clone(),
                token_id: identity.token_id.clone(),
            }
        }),
        refused: judged.err().map(|refusal| InspectRefusal {
            code: refusal.denial.code(),
            title: refusal.denial.title(),
            detail: refusal.detail.into_owned(),
            hint: refusal.denial.hint(),
        }),
    }
}

/// The JSON object of a segment, parsed leniently: this is for display, not for decisions.
fn object(segment: &[u8]) -> Option<Value> {
    let bytes = base64url(std::str::from_utf8(segment).ok()?)?;
    serde_json::from_slice(&bytes).ok().filter(Value::is_object)
}

impl fmt::Display for TokenInspection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "token     {} ({} bytes)", self.fingerprint, self.len)?;
        for (name, value) in [("header", &self.header), ("claims", &self.claims)] {
            match value {
                Some(value) => writeln!(f, "{name:<9} {}", ascii(&format!("{value:#}")))?,
                None => writeln!(f, "{name:<9} not readable")?,
            }
        }
        for (name, time) in &self.times {
            writeln!(f, "{name:<9} {time}")?;
        }
        if let Some(a) = &self.accepted {
            let none = || "none".to_owned();
            writeln!(f, "accepted  {} token of {}", a.purpose, a.issuer)?;
            writeln!(f, "device    {}", a.device.clone().unwrap_or_else(none))?;
            writeln!(f, "user      {}", a.user.clone().unwrap_or_else(none))?;
            writeln!(f, "token id  {}", a.token_id.clone().unwrap_or_else(none))?;
        }
        if let Some(r) = &self.refused {
            writeln!(f, "refused   {}: {}", r.code, r.title)?;
            writeln!(f, "          {}", r.detail)?;
            writeln!(f, "          {}", r.hint)?;
        }
        Ok(())
    }
}

/// JSON text in ASCII, without control characters for the terminal and without look-alikes.
fn ascii(json: &str) -> String {
    let mut shown = String::with_capacity(json.len());
    for c in json.chars() {
        match c {
            ' '..='~' | '\n' => shown.push(c),
            _ => shown.extend(c.encode_utf16(&mut [0; 2]).iter().map(|u| format!("\\u{u:04x}"))),
        }
    }
    shown
}
