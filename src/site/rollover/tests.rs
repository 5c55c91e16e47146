//! The objections to rollover steps.

use super::*;
use crate::clock::second;

const NOW: i64 = 1_800_000_000;

fn steady() -> Ring {
    Ring::default()
}

fn published() -> Ring {
    Ring { current: 1, next: Some(2), old: None, since: Some(second(NOW)) }
}

fn switched() -> Ring {
    Ring { current: 2, next: None, old: Some(1), since: Some(second(NOW)) }
}

fn found() -> RolloverFacts {
    RolloverFacts { exists: true, ..RolloverFacts::default() }
}

fn check(
    thing: Thing,
    ring: &Ring,
    step: RolloverStep,
    terms: &Terms<'_>,
    at: i64,
) -> Vec<StepRefusal> {
    let refused = refusals(thing, ring, step, terms, &found(), second(at));
    refused.into_iter().map(|refused| refused.refusal).collect()
}

#[test]
fn what_is_not_there_cannot_be_rolled_over() {
    for step in [RolloverStep::Publish, RolloverStep::Switch, RolloverStep::Retire] {
        let (terms, found) = (Terms::default(), RolloverFacts::default());
        let refused = refusals(Thing::Root, &steady(), step, &terms, &found, second(NOW));
        assert_eq!(refused[0].refusal, StepRefusal::Missing);
    }
}

#[test]
fn no_step_is_skipped_or_repeated() {
    let far = NOW + 365 * 86_400;
    let terms = Terms { clients_have_it: true, ..Terms::default() };
    for thing in Thing::ALL.iter().copied() {
        for (ring, step, refusal) in [
            (published(), RolloverStep::Publish, StepRefusal::PublishedAlready),
            (switched(), RolloverStep::Publish, StepRefusal::NotRetired),
            (steady(), RolloverStep::Switch, StepRefusal::NotPublished),
            (switched(), RolloverStep::Switch, StepRefusal::SwitchedAlready),
            (published(), RolloverStep::Retire, StepRefusal::NotSwitched),
            (steady(), RolloverStep::Retire, StepRefusal::NothingToRetire),
        ] {
            assert_eq!(check(thing, &ring, step, &terms, far), [refusal], "{thing:?} {step:?}");
        }
        for ring in [steady(), published(), switched()] {
            let step = RolloverStep::after(ring.stage());
            assert_eq!(check(thing, &ring, step, &terms, far), [], "{thing:?} {step:?}");
        }
    }
}

#[test]
fn nothing_is_switched_while_a_gateway_lacks_what_was_published() {
    let laggards = ["gw02".to_owned()];
    let terms = Terms { laggards: &laggards, clients_have_it: true, ..Terms::default() };
    for thing in Thing::ALL.iter().copied() {
        let refused = check(thing, &published(), RolloverStep::Switch, &terms, NOW + 86_400);
        assert_eq!(refused, [StepRefusal::GatewaysLack], "{thing:?}");
    }
}

#[test]
fn a_token_key_is_switched_to_when_no_cache_is_without_it() {
    let at = |at| check(Thing::TokenKey, &published(), RolloverStep::Switch, &Terms::default(), at);
    assert_eq!(at(NOW - 3_600), [StepRefusal::TooEarly], "the clock was set back");
    assert_eq!(at(NOW + JWKS_CACHED_S - 1), [StepRefusal::TooEarly]);
    assert_eq!(at(NOW + JWKS_CACHED_S), []);
}

#[test]
fn a_root_switch_needs_confirmation_that_clients_have_it() {
    let check = |terms| check(Thing::Root, &published(), RolloverStep::Switch, &terms, NOW);
    assert_eq!(check(Terms::default()), [StepRefusal::ClientsUnconfirmed]);
    assert_eq!(check(Terms { clients_have_it: true, ..Terms::default() }), []);
}

#[test]
fn a_token_key_retires_after_its_last_token_unless_forced() {
    let check = |at, terms| check(Thing::TokenKey, &switched(), RolloverStep::Retire, &terms, at);
    assert_eq!(check(NOW + LIFETIME_MAX_S - 1, Terms::default()), [StepRefusal::TokensValid]);
    assert_eq!(check(NOW + LIFETIME_MAX_S, Terms::default()), []);
    assert_eq!(check(NOW, Terms { tokens_end_now: true, ..Terms::default() }), []);
}

#[test]
fn root_and_role_authority_stay_while_a_leaf_hangs_from_them() {
    for thing in [Thing::Root, Thing::Intermediate] {
        let found = RolloverFacts { leaves: vec!["leaf/mp01.crt".to_owned()], ..found() };
        let ring = switched();
        let refused =
            refusals(thing, &ring, RolloverStep::Retire, &Terms::default(), &found, second(NOW));
        assert_eq!(refused[0].refusal, StepRefusal::LeavesChain);
        assert!(refused[0].to_string().contains("leaf/mp01.crt"), "{}", refused[0]);
    }
}

#[test]
fn root_and_role_authority_are_rolled_over_one_after_the_other() {
    let under_way = |thing, step, other, stage| {
        let found = RolloverFacts { other: Some((other, stage)), ..found() };
        let ring = if step == RolloverStep::Retire { switched() } else { steady() };
        let refused = refusals(thing, &ring, step, &Terms::default(), &found, second(NOW));
        refused.first().map(|refused| refused.refusal)
    };
    for stage in [Stage::Published, Stage::Switched] {
        for (thing, other) in
            [(Thing::Root, Thing::Intermediate), (Thing::Intermediate, Thing::Root)]
        {
            let refused = under_way(thing, RolloverStep::Publish, other, stage);
            assert_eq!(refused, Some(StepRefusal::OtherUnderWay), "{thing:?} {stage:?}");
        }
    }
    let with_the_root =
        under_way(Thing::Intermediate, RolloverStep::Retire, Thing::Root, Stage::Switched);
    assert_eq!(with_the_root, Some(StepRefusal::OtherUnderWay));
    let the_root_itself =
        under_way(Thing::Root, RolloverStep::Retire, Thing::Intermediate, Stage::Switched);
    assert_eq!(the_root_itself, None);
}

#[test]
fn the_longest_life_is_that_of_the_longest_lived_token() {
    use crate::purpose::Purpose;
    use crate::token::lifetime_s;
    let purposes = [
        Purpose::Registration,
        Purpose::Client,
        Purpose::Content,
        Purpose::Media,
        Purpose::TaskSequence,
    ];
    let longest = purposes.into_iter().flat_map(|p| [lifetime_s(p, true), lifetime_s(p, false)]);
    assert_eq!(longest.map(|(_, max)| max).max(), Some(LIFETIME_MAX_S));
}
