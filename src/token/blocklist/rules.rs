//! The rules of a blocklist: fingerprints with their times, sorted, in shards that lists share.
//!
//! A changed list shares all shards but the changed ones with the list before it, so that a change
//! costs the same whatever else is in the list.

use std::sync::Arc;

/// The number of shards: a list of 500,000 rules has some 500 in each, 16 KB.
const SHARDS: usize = 1 << SHARD_BITS;
const SHARD_BITS: u32 = 10;

/// A fingerprint, and the second before which tokens were issued that the rule blocks.
pub(super) type Rule = (u128, i64);

type Shard = Arc<[Rule]>;

/// The rules, by fingerprint.
#[derive(Clone, Default)]
pub(super) struct Rules {
    /// None at all, or [`SHARDS`], by the highest bits of the fingerprint.
    shards: Box<[Shard]>,
    len: usize,
}

impl Rules {
    /// Of several rules with the same fingerprint the latest time counts.
    pub(super) fn of(mut rules: Vec<Rule>) -> Self {
        // The latest time first, which is the one that stays.
        rules.sort_unstable_by(|a, b| a.0.cmp(&b.0).then(b.1.cmp(&a.1)));
        rules.dedup_by_key(|rule| rule.0);
        if rules.is_empty() {
            return Rules::default();
        }
        let (none, len): (Shard, _) = (Arc::default(), rules.len());
        let mut shards = vec![none; SHARDS];
        for of_shard in rules.chunk_by(|a, b| shard(a.0) == shard(b.0)) {
            let number = of_shard.first().map_or(0, |rule| shard(rule.0));
            if let Some(place) = shards.get_mut(number) {
                *place = of_shard.into();
            }
        }
        Rules { shards: shards.into(), len }
    }

    pub(super) fn get(&self, fingerprint: u128) -> Option<i64> {
        let rules = self.shards.get(shard(fingerprint))?;
        let at = rules.binary_search_by_key(&fingerprint, |rule| rule.0).ok()?;
        rules.get(at).map(|rule| rule.1)
    }

    /// The rules after a change: these set, whatever time they had before, and those removed.
    pub(super) fn changed(&self, set: &[Rule], removed: &[u128]) -> Self {
        let mut changed = self.clone();
        if changed.shards.is_empty() && !set.is_empty() {
            changed.shards = vec![Shard::default(); SHARDS].into();
        }
        let mut all: Vec<(u128, Option<i64>)> = removed.iter().map(|of| (*of, None)).collect();
        all.extend(set.iter().map(|rule| (rule.0, Some(rule.1))));
        // Stable: what is removed and set again is set.
        all.sort_by_key(|change| change.0);
        for of_shard in all.chunk_by(|a, b| shard(a.0) == shard(b.0)) {
            let number = of_shard.first().map_or(0, |change| shard(change.0));
            let Some(place) = changed.shards.get_mut(number) else { continue };
            let mut rules = place.to_vec();
            for (fingerprint, before) in of_shard {
                match (rules.binary_search_by_key(fingerprint, |rule| rule.0), before) {
                    (Ok(at), None) => drop(rules.remove(at)),
                    (Ok(at), Some(before)) => {
                        if let Some(rule) = rules.get_mut(at) {
                            rule.1 = *before;
                        }
                    }
                    (Err(at), Some(before)) => rules.insert(at, (*fingerprint, *before)),
                    (Err(_), None) => {}
                }
            }
            changed.len = (changed.len + rules.len()).saturating_sub(place.len());
            *place = rules.into();
        }
        changed
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// The memory, in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.len * size_of::<Rule>() + self.shards.len() * size_of::<Shard>()
    }
}

/// The shard of a fingerprint.
fn shard(fingerprint: u128) -> usize {
    usize::try_from(fingerprint >> (u128::BITS - SHARD_BITS)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    /// Few fingerprints in few shards, so that changes meet each other.
    fn fingerprint() -> impl Strategy<Value = u128> {
        (0_u128..4, 0_u128..6).prop_map(|(high, low)| high << 118 | low)
    }

    proptest! {
        #[test]
        fn changed_rules_equal_a_map_with_the_same_changes(
            first in prop::collection::vec((fingerprint(), 0_i64..9), 0..20),
            changes in prop::collection::vec(
                (
                    prop::collection::vec((fingerprint(), 0_i64..9), 0..6),
                    prop::collection::vec(fingerprint(), 0..6),
                ),
                0..8,
            ),
        ) {
            let mut map = BTreeMap::new();
            for (fingerprint, before) in &first {
                let latest = map.entry(*fingerprint).or_insert(*before);
                *latest = (*before).max(*latest);
            }
            let mut rules = Rules::of(first);
            for (set, removed) in changes {
                rules = rules.changed(&set, &removed);
                map.retain(|of, _| !removed.contains(of));
                map.extend(set);
            }
            prop_assert_eq!(rules.len(), map.len());
            for high in 0..4 {
                for low in 0..6 {
                    let fingerprint = high << 118 | low;
                    prop_assert_eq!(rules.get(fingerprint), map.get(&fingerprint).copied());
                }
            }
        }
    }

    #[test]
    fn a_change_copies_one_shard_of_many() {
        let every = u128::MAX / 10_000;
        let rules = Rules::of((0..10_000).map(|n| (n * every, 1)).collect());
        let changed = rules.changed(&[(5, 2)], &[]);
        let pairs = || rules.shards.iter().zip(&changed.shards);
        assert_eq!(pairs().filter(|(a, b)| !Arc::ptr_eq(a, b)).count(), 1);
        assert_eq!((rules.get(5), changed.get(5), changed.len()), (None, Some(2), 10_001));
    }
}
