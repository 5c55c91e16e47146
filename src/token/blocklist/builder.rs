//! A blocklist that is being made.

use std::collections::BTreeSet;
use std::hash::RandomState;

use super::rules::{Rule, Rules};
use super::{About, Blocklist, IssuerKey, fingerprint};

/// The rules so far.
#[derive(Default)]
pub(super) struct BlocklistBuilder {
    hasher: RandomState,
    rules: Vec<Rule>,
    kinds: u8,
    issuers: BTreeSet<String>,
}

impl BlocklistBuilder {
    pub(super) fn rule(&mut self, issuer: Option<IssuerKey<'_>>, about: About<'_>, before: i64) {
        self.rules.push((fingerprint(&self.hasher, issuer, about), before));
        self.kinds |= about.kind(issuer);
        if let Some(IssuerKey::Name(name)) = issuer
            && !self.issuers.contains(name)
        {
            self.issuers.insert(name.to_owned());
        }
    }

    pub(super) fn build(self) -> Blocklist {
        let BlocklistBuilder { hasher, rules, kinds, issuers } = self;
        let (entries, rules) = (rules.len(), Rules::of(rules));
        Blocklist { rules, hasher, kinds, issuers, entries, ..Blocklist::default() }
    }
}
