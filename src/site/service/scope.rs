//! What a token is asked for: the whole work of a client, or content, or part of it.
//!
//! A scope can be narrowed and never widened.

use std::collections::BTreeSet;

use super::form::Form;
use super::refused::Refused;
use super::{ServiceParams, Serving};
use crate::grant_denial::GrantDenial;
use crate::token::ContentScope;

/// What a token shall open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    /// A client's work.
    Client,
    /// Content: all of it, or what these entries name.
    Content(BTreeSet<String>),
}

impl Wanted {
    /// Read `scope` (RFC 6749 §3.3): `content` for all content, `package:ID` and `path:/PREFIX` for
    /// some of it, and nothing for a client's work.
    pub(super) fn of(form: &Form) -> Result<Self, Refused> {
        let Some(scope) = form.get("scope") else { return Ok(Wanted::Client) };
        let words: BTreeSet<&str> = scope.split(' ').filter(|word| !word.is_empty()).collect();
        let limited = |word: &&&str| word.starts_with("package:") || word.starts_with("path:");
        let read = |word: &&str| ContentScope::parse(word).map(|limit| limit.to_string());
        let limits = words.iter().filter(limited).map(read).collect::<Option<BTreeSet<_>>>();
        let limits = limits.ok_or(GrantDenial::Scope)?;
        let others = words.len() - limits.len();
        match (others, words.contains("content"), words.contains("client")) {
            (0, ..) if !limits.is_empty() => Ok(Wanted::Content(limits)),
            // Some of all is some.
            (1, true, _) => Ok(Wanted::Content(limits)),
            (1, _, true) if limits.is_empty() => Ok(Wanted::Client),
            _ => Err(GrantDenial::Scope.into()),
        }
    }

    /// As it stands in the token; nothing for what is not limited.
    pub(super) fn claim(&self) -> Option<String> {
        match self {
            Wanted::Content(limits) if !limits.is_empty() => {
                Some(limits.iter().cloned().collect::<Vec<_>>().join(" "))
            }
            _ => None,
        }
    }

    /// As the client is told (RFC 6749 §5.1).
    pub(super) fn told(&self) -> String {
        self.claim().unwrap_or_else(|| match self {
            Wanted::Client => "client".to_owned(),
            Wanted::Content(_) => "content".to_owned(),
        })
    }

    /// Narrow by what a subject token is limited to already: the same if nothing is asked for
    /// beyond it.
    pub(super) fn within(self, held: &[String]) -> Result<Self, Refused> {
        if held.is_empty() {
            return Ok(self);
        }
        match self {
            Wanted::Content(limits) if limits.is_empty() => {
                Ok(Wanted::Content(held.iter().cloned().collect()))
            }
            Wanted::Content(limits) if limits.iter().all(|limit| covered(limit, held)) => {
                Ok(Wanted::Content(limits))
            }
            _ => Err(GrantDenial::Scope.into()),
        }
    }
}

/// Whether a limit lies within what is held.
fn covered(limit: &str, held: &[String]) -> bool {
    let Some(limit) = ContentScope::parse(limit) else { return false };
    held.iter().filter_map(|held| ContentScope::parse(held)).any(|held| held.includes(&limit))
}

/// The audience of a token: the site's, or one site system's (RFC 8707 `resource`, RFC 8693
/// `audience`). However often it is named, it is one: no token is for several site systems.
pub(super) fn audience(serving: &Serving, form: &Form) -> Result<String, Refused> {
    let params = &serving.service.params;
    let Some((first, others)) = form.targets().split_first() else {
        return Ok(params.audience.clone());
    };
    let audience = target(params, first)?;
    for other in others {
        if target(params, other)? != audience {
            return Err(Refused::of(GrantDenial::Target, "a token is for one of them, or for all"));
        }
    }
    Ok(audience)
}

fn target(params: &ServiceParams, named: &str) -> Result<String, Refused> {
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
