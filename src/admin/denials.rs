//! Filters the recent denials for the page and the JSON API.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::log::RecentDenial;

/// The filter: each non-empty field must match exactly. An empty field matches everything.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Filter {
    pub(super) reason: String,
    pub(super) site_system: String,
    pub(super) route: String,
    /// For the page only: whether it shows all matches, and not only the newest.
    pub(super) all: String,
    /// For the page only: `off` disables the automatic refresh.
    pub(super) refresh: String,
}

impl Filter {
    pub(super) fn takes(&self, denial: &RecentDenial) -> bool {
        let is = |wanted: &str, value: &str| wanted.is_empty() || wanted == value;
        is(&self.reason, &denial.reason)
            && is(&self.site_system, &denial.site_system)
            && is(&self.route, denial.route.as_deref().unwrap_or("none"))
    }

    /// The filter as a query string, with one field replaced.
    pub(super) fn query(&self, instead: Option<(&str, &str)>) -> String {
        let mut query = form_urlencoded::Serializer::new(String::new());
        for (name, own) in [
            ("reason", &self.reason),
            ("site_system", &self.site_system),
            ("route", &self.route),
            ("all", &self.all),
            ("refresh", &self.refresh),
        ] {
            let value = instead.filter(|(other, _)| *other == name).map_or(own.as_str(), |i| i.1);
            if !value.is_empty() {
                query.append_pair(name, value);
            }
        }
        query.finish()
    }
}

/// The recent denials, as JSON.
#[derive(Debug, Serialize)]
pub(super) struct Denials {
    /// How many are stored now; older ones are in the access log.
    kept: usize,
    /// The matching ones, the newest first.
    denials: Vec<Arc<RecentDenial>>,
}

impl Denials {
    pub(super) fn of(all: Vec<Arc<RecentDenial>>, filter: &Filter) -> Self {
        let kept = all.len();
        Denials { kept, denials: all.into_iter().filter(|denial| filter.takes(denial)).collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_is_encoded_whole_and_one_term_is_replaceable() {
        let filter =
            Filter { reason: "token.missing".into(), route: "a&b=<c>".into(), ..Filter::default() };
        assert_eq!(filter.query(None), "reason=token.missing&route=a%26b%3D%3Cc%3E");
        let off = filter.query(Some(("refresh", "off")));
        assert_eq!(off, "reason=token.missing&route=a%26b%3D%3Cc%3E&refresh=off");
    }
}
