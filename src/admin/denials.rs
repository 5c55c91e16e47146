//! Which of the last refusals are asked for, and how a script is told of them.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::log::RecentDenial;

/// What the refusals are narrowed down to: words that have to be the same. Empty ones ask nothing.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Filter {
    pub(super) reason: String,
    pub(super) site_system: String,
    pub(super) route: String,
    /// For the page alone: whether it shows all that match, and not only the newest.
    pub(super) all: String,
    /// For the page alone: `off` if it is not to load itself again.
    pub(super) refresh: String,
}

impl Filter {
    pub(super) fn takes(&self, denial: &RecentDenial) -> bool {
        let is = |wanted: &str, value: &str| wanted.is_empty() || wanted == value;
        is(&self.reason, &denial.reason)
            && is(&self.site_system, &denial.site_system)
            && is(&self.route, denial.route.as_deref().unwrap_or("none"))
    }

    /// The same question as a query, with another word in place of one of its own.
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

/// The last refusals, as a script gets them.
#[derive(Debug, Serialize)]
pub(super) struct Denials {
    /// How many are kept at present; older ones are in the access log.
    kept: usize,
    /// Those that were asked for, the newest first.
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
    fn a_question_stays_whole_in_a_query_and_one_word_of_it_can_be_another() {
        let filter =
            Filter { reason: "token.missing".into(), route: "a&b=<c>".into(), ..Filter::default() };
        assert_eq!(filter.query(None), "reason=token.missing&route=a%26b%3D%3Cc%3E");
        let off = filter.query(Some(("refresh", "off")));
        assert_eq!(off, "reason=token.missing&route=a%26b%3D%3Cc%3E&refresh=off");
    }
}
