//! The rules of registration and approval as tables.

use jiff::Timestamp;

use super::super::token::TokenRef;
use super::*;

const ID: &str = "GUID:00000000-0000-4000-8000-000000000001";

fn key(thumbprint: &str, active: bool, origin: Option<Origin>) -> DeviceKey {
    let added = Timestamp::UNIX_EPOCH;
    DeviceKey { thumbprint: thumbprint.into(), jwk: "{}".into(), added, active, origin }
}

fn device(approved: bool, keys: Vec<DeviceKey>) -> Device {
    Device {
        id: ID.into(),
        entra: None,
        approved,
        via: Via::BulkToken,
        registered: Timestamp::UNIX_EPOCH,
        renewed: None,
        blocked: None,
        block_reason: None,
        keys,
    }
}

/// By a bulk token, from an address.
fn bulk(token: &str, address: &str) -> Option<Origin> {
    Some(Origin {
        via: Via::BulkToken,
        token: Some(("site".into(), token.into())),
        entra: None,
        certificate: None,
        address: Some(address.parse().unwrap()),
        client: None,
    })
}

fn entra(id: &str) -> Option<Origin> {
    let origin = bulk("-", "192.0.2.99").unwrap();
    Some(Origin { via: Via::Entra, token: None, entra: Some(id.into()), ..origin })
}

fn certificate(thumbprint: &str) -> Option<Origin> {
    let origin = bulk("-", "192.0.2.99").unwrap();
    let via = Via::Certificate;
    Some(Origin { via, token: None, certificate: Some(thumbprint.into()), ..origin })
}

/// The registration of a key that came as an origin says.
fn registration<'a>(claimed: Option<&'a str>, origin: &'a Option<Origin>) -> Registration<'a> {
    let origin = origin.as_ref().unwrap();
    Registration {
        thumbprint: "new",
        jwk: "{}",
        claimed,
        proven_by: None,
        via: origin.via,
        token: origin.token.as_ref().map(|(issuer, id)| TokenRef { issuer, id, issued: None }),
        uses_max: None,
        entra: origin.entra.as_deref(),
        certificate: origin.certificate.as_deref(),
        fresh_id: "fresh",
        approve: true,
        accept_claims: false,
        address: origin.address,
        client: None,
        returning: false,
        now: Timestamp::UNIX_EPOCH,
    }
}

/// `waits`, `waits for KEY` (in its place), `active`, `made`, `made, waits`, `refused`, `crowded`.
fn told(plan: Plan) -> String {
    let of = |word: &str, replaces: Option<String>| match replaces {
        Some(key) => format!("{word} for {key}"),
        None => word.to_owned(),
    };
    match plan {
        Plan::Keep { activate, replaces, .. } => {
            of(if activate { "activated" } else { "kept" }, replaces)
        }
        Plan::Add { active, replaces, .. } => of(if active { "active" } else { "waits" }, replaces),
        Plan::Make { approved: true, .. } => "made".into(),
        Plan::Make { approved: false, .. } => "made, waits".into(),
        Plan::Refuse => "refused".into(),
        Plan::Crowded => "crowded".into(),
    }
}

fn line(origins: Vec<Option<Origin>>) -> Vec<DeviceKey> {
    let keys = origins.into_iter().enumerate();
    keys.map(|(n, origin)| key(&format!("w{n}"), false, origin)).collect()
}

/// Keys that wait already.
fn crowd(kind: &str) -> Vec<DeviceKey> {
    let many = |of: &dyn Fn(usize) -> Option<Origin>, n| (0..n).map(of).collect::<Vec<_>>();
    line(match kind {
        "nobody" => Vec::new(),
        "two from one address" => many(&|_| bulk("t", "2001:db8::1"), 2),
        "four by one token" => many(&|n| bulk("t", &format!("192.0.2.{n}")), 4),
        "sixteen by bulk tokens" => many(&|n| bulk(&format!("t{n}"), "192.0.2.1"), 16),
        "sixteen by certificates" => many(&|n| certificate(&format!("c{n}")), 16),
        "sixteen by Entra" => many(&|n| entra(&format!("e{n}")), 16),
        "from before" => vec![None; 20],
        other => panic!("{other}"),
    })
}

#[test]
fn a_key_without_proof_takes_nobody_elses_place_in_line() {
    let cases = [
        ("nobody", bulk("t", "192.0.2.9"), "waits"),
        ("two from one address", bulk("t", "2001:db8::2"), "crowded"),
        ("two from one address", bulk("t", "2001:db8:0:1::1"), "waits"),
        ("two from one address", bulk("other", "2001:db8::2"), "waits"),
        ("four by one token", bulk("t", "192.0.2.9"), "crowded"),
        ("four by one token", bulk("other", "192.0.2.9"), "waits"),
        ("sixteen by bulk tokens", bulk("t3", "192.0.2.9"), "crowded"),
        ("sixteen by bulk tokens", bulk("other", "192.0.2.9"), "waits"),
        ("sixteen by bulk tokens", certificate("c"), "waits"),
        ("sixteen by bulk tokens", entra("e"), "waits"),
        ("sixteen by certificates", certificate("c"), "crowded"),
        ("sixteen by certificates", certificate("c3"), "waits for w3"),
        ("sixteen by certificates", certificate("own"), "waits"),
        ("sixteen by certificates", bulk("t", "192.0.2.9"), "waits"),
        ("sixteen by Entra", entra("e"), "crowded"),
        ("sixteen by Entra", entra("e7"), "waits for w7"),
        ("sixteen by Entra", bulk("t", "192.0.2.9"), "waits"),
        ("from before", bulk("t", "192.0.2.9"), "waits"),
    ];
    for (waiting, origin, wanted) in cases {
        let mut keys = vec![key("k", true, None)];
        keys.extend(crowd(waiting));
        let known = device(true, keys);
        let r = registration(Some(ID), &origin);
        let by_certificate = match r.certificate {
            Some("own") => vec![known.clone()],
            _ => Vec::new(),
        };
        let found = Found { by_claim: Some(known.clone()), by_certificate, ..Found::default() };
        assert_eq!(told(decide(&r, &found)), wanted, "{waiting}, then {origin:?}");
        // A proof needs no place in the line.
        let proven = Registration { proven_by: Some("k"), ..r };
        assert_eq!(told(decide(&proven, &found)), "active", "{waiting}, then {origin:?}");
    }
}

#[test]
fn a_certificate_that_several_machines_have_takes_nobodys_place() {
    let shown =
        |token| Some(Origin { certificate: Some("c".into()), ..bulk(token, "::1").unwrap() });
    let waits = || line(vec![certificate("c"), shown("t")]);
    let known = || device(true, [vec![key("k", true, None)], waits()].concat());
    let other = || Device { id: "GUID:OTHER".into(), ..device(true, Vec::new()) };
    let cases = [
        // By the device's own certificate, whatever else vouches.
        (shown("t"), vec![known()], "waits for w0"),
        (certificate("c"), vec![known()], "waits for w0"),
        // By one that is another's, or nobody's, a certificate alone stands for its machine.
        (certificate("c"), vec![other()], "waits for w0"),
        (shown("t"), vec![other()], "waits"),
        (shown("t"), vec![], "waits"),
        // By one that this device has and another too.
        (certificate("c"), vec![known(), other()], "waits"),
        (shown("t"), vec![known(), other()], "waits"),
    ];
    for (origin, by_certificate, wanted) in cases {
        let found = Found { by_claim: Some(known()), by_certificate, ..Found::default() };
        let told = told(decide(&registration(Some(ID), &origin), &found));
        assert_eq!(told, wanted, "{origin:?}");
    }
}

#[test]
fn nothing_proves_a_device_that_nobody_has_approved() {
    let waits = Device { entra: Some("e".into()), ..device(false, line(vec![entra("e")])) };
    let found = || Found { by_claim: Some(waits.clone()), ..Found::default() };
    let origin = bulk("t", "192.0.2.9");
    let r = Registration { proven_by: Some("w0"), ..registration(Some(ID), &origin) };
    assert_eq!(told(decide(&r, &found())), "waits");
    let origin = entra("e");
    let found = Found { by_entra: Some(waits.clone()), ..found() };
    assert_eq!(told(decide(&registration(None, &origin), &found)), "waits for w0");
    // The certificate that somebody brought who claims to be it is not its own either.
    let origin = certificate("c");
    let crowded = device(false, crowd("sixteen by certificates"));
    let by_certificate = vec![crowded.clone()];
    let found = Found { by_claim: Some(crowded), by_certificate, ..Found::default() };
    assert_eq!(told(decide(&registration(Some(ID), &origin), &found)), "crowded");
}

#[test]
fn one_certificate_registers_one_device() {
    let own = || device(true, vec![key("k", true, certificate("c"))]);
    let waits = || device(false, vec![key("w", false, certificate("c"))]);
    let cases = [
        (vec![], None, "made"),
        (vec![own()], None, "made, waits"),
        (vec![own(), waits()], None, "waits for w"),
        (vec![waits()], None, "waits for w"),
        (vec![], Some("GUID:X"), "made"),
        (vec![own()], Some("GUID:X"), "made, waits"),
        (vec![own(), waits()], Some("GUID:X"), "made, waits"),
        (vec![waits(), own(), waits()], Some("GUID:X"), "crowded"),
    ];
    for (by_certificate, claimed, wanted) in cases {
        let origin = certificate("c");
        let r = registration(claimed, &origin);
        let r = Registration { accept_claims: true, ..r };
        let found = Found { by_certificate, ..Found::default() };
        assert_eq!(told(decide(&r, &found)), wanted, "{claimed:?}");
    }
    // A bulk token speaks for as many machines as it has uses, whatever certificate they show.
    let origin = Some(Origin { certificate: Some("c".into()), ..bulk("t", "::1").unwrap() });
    let found = Found { by_certificate: vec![own()], ..Found::default() };
    assert_eq!(told(decide(&registration(None, &origin), &found)), "made");
}

#[test]
fn an_active_key_beyond_eight_takes_the_place_of_the_oldest_active_one() {
    let eight = || (0..KEYS_MAX).map(|n| key(&format!("k{n}"), true, None));
    let keys = line(vec![None]).into_iter().chain(eight()).collect();
    let known = device(true, keys);
    let found = Found { by_claim: Some(known.clone()), ..Found::default() };
    let origin = bulk("t", "192.0.2.9");
    let r = Registration { proven_by: Some("k3"), ..registration(Some(ID), &origin) };
    assert_eq!(told(decide(&r, &found)), "active for k0");
    let found = Found { by_key: Some(known), ..Found::default() };
    let waiting = Registration { thumbprint: "w0", ..r };
    assert_eq!(told(decide(&waiting, &found)), "activated for k0");
}

#[test]
fn an_approval_lets_in_one_key_and_retires_the_former_ones() {
    let known = || {
        let former = ["k0", "k1"].map(|k| key(k, true, None));
        device(true, former.into_iter().chain(line(vec![None, None])).collect())
    };
    let one = || device(false, line(vec![None]));
    let full = || {
        let eight = (0..KEYS_MAX).map(|n| key(&format!("k{n}"), true, None));
        device(true, eight.chain(line(vec![None])).collect())
    };
    let blocked = Device { blocked: Some(Timestamp::UNIX_EPOCH), ..known() };
    let named = |key| Approval { key, alone: false, keep: false };
    let alone = |key| Approval { alone: true, ..named(key) };
    let keep = |key| Approval { keep: true, ..named(key) };
    let cases = [
        (known(), named("w1"), "w1, retired k0 k1"),
        (known(), keep("w1"), "w1, retired "),
        (full(), keep("w0"), "w0, retired k0"),
        (known(), alone("w1"), "Several"),
        (one(), alone("w0"), "w0, retired "),
        (known(), named("k0"), "AlreadyApproved"),
        (known(), named("w9"), "NotWaiting"),
        (blocked, named("w0"), "Blocked"),
    ];
    for (device, approval, wanted) in cases {
        let told = match approve(&device, &approval) {
            Verdict::Approve { key, retired } => {
                format!("{}, retired {}", key.thumbprint, retired.join(" "))
            }
            Verdict::Not(why) => format!("{why:?}"),
        };
        assert_eq!(told, wanted, "{approval:?}");
    }
}
