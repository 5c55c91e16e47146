//! The requested scope of a token: all work of a client, all content, or part of it.
//!
//! A scope can be narrowed but never widened.

use std::collections::BTreeSet;

use super::form::Form;
use super::refused::ServiceRefusal;
use super::{ServiceParams, TokenServing};
use crate::grant_denial::GrantDenial;
use crate::token::ContentScope;

/// The requested scope.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum WantedScope {
    /// A client's work.
    Client,
    /// Content: all of it, or only these scopes.
    Content(BTreeSet<String>),
}

impl WantedScope {
    /// Parses `scope` (RFC 6749 §3.3): `content` for all content, `package:ID` and `path:/PREFIX`
    /// for parts of it, and no scope for a client token.
    pub(super) fn of(form: &Form) -> Result<Self, ServiceRefusal> {
        let Some(scope) = form.get("scope") else { return Ok(WantedScope::Client) };
        let words: BTreeSet<&str> = scope.split(' ').filter(|word| !word.is_empty()).collect();
        let limited = |word: &&&str| word.starts_with("package:") || word.starts_with("path:");
        let read = |word: &&str| ContentScope::parse(word).map(|limit| limit.to_string());
        let limits = words.iter().filter(limited).map(read).collect::<Option<BTreeSet<_>>>();
        let limits = limits.ok_or(GrantDenial::Scope)?;
        let others = words.len() - limits.len();
        match (others, words.contains("content"), words.contains("client")) {
            (0, ..) if !limits.is_empty() => Ok(WantedScope::Content(limits)),
            // `content` with further scopes means only these scopes.
            (1, true, _) => Ok(WantedScope::Content(limits)),
            (1, _, true) if limits.is_empty() => Ok(WantedScope::Client),
            _ => Err(GrantDenial::Scope.into()),
        }
    }

    /// The `scope` claim in the token; `None` if it is not limited.
    pub(super) fn claim(&self) -> Option<String> {
        match self {
            WantedScope::Content(limits) if !limits.is_empty() => {
                Some(limits.iter().cloned().collect::<Vec<_>>().join(" "))
            }
            _ => None,
        }
    }

    /// The `scope` in the response (RFC 6749 §5.1).
    pub(super) fn told(&self) -> String {
        self.claim().unwrap_or_else(|| match self {
            WantedScope::Client => "client".to_owned(),
            WantedScope::Content(_) => "content".to_owned(),
        })
    }

    /// Narrows the request to the scopes of a subject token; without requested scopes the result
    /// has the same ones.
    pub(super) fn within(self, held: &[String]) -> Result<Self, ServiceRefusal> {
        if held.is_empty() {
            return Ok(self);
        }
        match self {
            WantedScope::Content(limits) if limits.is_empty() => {
                Ok(WantedScope::Content(held.iter().cloned().collect()))
            }
            WantedScope::Content(limits) if limits.iter().all(|limit| covered(limit, held)) => {
                Ok(WantedScope::Content(limits))
            }
            _ => Err(GrantDenial::Scope.into()),
        }
    }
}

/// Whether one of the held scopes includes this one.
fn covered(limit: &str, held: &[String]) -> bool {
    let Some(limit) = ContentScope::parse(limit) else { return false };
    held.iter().filter_map(|held| ContentScope::parse(held)).any(|held| held.includes(&limit))
}

/// The audience of a token: the site's, or one site system's (RFC 8707 `resource`, RFC 8693
/// `audience`). It may be named repeatedly but must be the same: no token is for several site
/// systems.
pub(super) fn audience(serving: &TokenServing, form: &Form) -> Result<String, ServiceRefusal> {
    let params = &serving.service.params;
    let Some((first, others)) = form.targets().split_first() else {
        return Ok(params.audience.clone());
    };
    let audience = target(params, first)?;
    for other in others {
        if target(params, other)? != audience {
            return Err(ServiceRefusal::of(
                GrantDenial::Target,
                "a token is for one of them, or for all",
            ));
        }
    }
    Ok(audience)
}

fn target(params: &ServiceParams, named: &str) -> Result<String, ServiceRefusal> {
    if named == params.audience {
        return Ok(params.audience.clone());
    }
    let lower = named.to_ascii_lowercase();
    let origin = lower.strip_prefix("https://").map(|rest| {
        let host = rest.split(['/', '?', '#']).next().unwrap_or(rest);
        format!("https://{}", host.strip_suffix(":443").unwrap_or(host))
    });
    origin
        .filter(|origin| {
            !named.contains('#') && params.origins.peek(|known| known.contains(origin))
        })
        .ok_or_else(|| GrantDenial::Target.into())
}
