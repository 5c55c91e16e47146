//! The decision rules of registration and approval, as tables.

use jiff::Timestamp;

use super::super::token::TokenRef;
use super::*;

const ID: &str = "GUID:00000000-0000-4000-8000-000000000001";

fn key(thumbprint: &str, active: bool, origin: Option<DeviceOrigin>) -> DeviceKey {
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

/// Registered with a bulk token, from an address.
fn bulk(token: &str, address: &str) -> Option<DeviceOrigin> {
    Some(DeviceOrigin {
        via: Via::BulkToken,
        token: Some(("site".into(), token.into())),
        entra: None,
        certificate: None,
        address: Some(address.parse().unwrap()),
        client: None,
    })
}

fn entra(id: &str) -> Option<DeviceOrigin> {
    let origin = bulk("-", "192.0.2.99").unwrap();
    Some(DeviceOrigin { via: Via::Entra, token: None, entra: Some(id.into()), ..origin })
}

fn certificate(thumbprint: &str) -> Option<DeviceOrigin> {
    let origin = bulk("-", "192.0.2.99").unwrap();
    let via = Via::Certificate;
    Some(DeviceOrigin { via, token: None, certificate: Some(thumbprint.into()), ..origin })
}

/// A registration of a key with this origin.
fn registration<'a>(
    claimed: Option<&'a str>,
    origin: &'a Option<DeviceOrigin>,
) -> Registration<'a> {
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

/// The plan as text: `waits`, `waits for KEY` (replaces it), `active`, `made`, `made, waits`,
/// `refused`, `crowded`.
fn told(plan: RegistrationPlan) -> String {
    let of = |word: &str, replaces: Option<String>| match replaces {
        Some(key) => format!("{word} for {key}"),
        None => word.to_owned(),
    };
    match plan {
        RegistrationPlan::Keep { activate, replaces, .. } => {
            of(if activate { "activated" } else { "kept" }, replaces)
        }
        RegistrationPlan::Add { active, replaces, .. } => {
            of(if active { "active" } else { "waits" }, replaces)
        }
        RegistrationPlan::Make { approved: true, .. } => "made".into(),
        RegistrationPlan::Make { approved: false, .. } => "made, waits".into(),
        RegistrationPlan::Refuse => "refused".into(),
        RegistrationPlan::Crowded => "crowded".into(),
    }
}

fn line(origins: Vec<Option<DeviceOrigin>>) -> Vec<DeviceKey> {
    let keys = origins.into_iter().enumerate();
    keys.map(|(n, origin)| key(&format!("w{n}"), false, origin)).collect()
}

/// Keys that already wait.
fn crowd(kind: &str) -> Vec<DeviceKey> {
    let many = |of: &dyn Fn(usize) -> Option<DeviceOrigin>, n| (0..n).map(of).collect::<Vec<_>>();
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
fn an_unproven_key_displaces_no_other_in_line() {
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
        let found = RegisteredSoFar {
            by_claim: Some(known.clone()),
            by_certificate,
            ..RegisteredSoFar::default()
        };
        assert_eq!(told(decide(&r, &found)), wanted, "{waiting}, then {origin:?}");
        // A proven key does not wait.
        let proven = Registration { proven_by: Some("k"), ..r };
        assert_eq!(told(decide(&proven, &found)), "active", "{waiting}, then {origin:?}");
    }
}

#[test]
fn a_certificate_of_several_machines_displaces_no_device() {
    let shown =
        |token| Some(DeviceOrigin { certificate: Some("c".into()), ..bulk(token, "::1").unwrap() });
    let waits = || line(vec![certificate("c"), shown("t")]);
    let known = || device(true, [vec![key("k", true, None)], waits()].concat());
    let other = || Device { id: "GUID:OTHER".into(), ..device(true, Vec::new()) };
    let cases = [
        // With the device's own certificate, regardless of the voucher.
        (shown("t"), vec![known()], "waits for w0"),
        (certificate("c"), vec![known()], "waits for w0"),
        // With another device's certificate, or an unknown one, only a registration by certificate
        // stands for its machine.
        (certificate("c"), vec![other()], "waits for w0"),
        (shown("t"), vec![other()], "waits"),
        (shown("t"), vec![], "waits"),
        // With a certificate that both this and another device have.
        (certificate("c"), vec![known(), other()], "waits"),
        (shown("t"), vec![known(), other()], "waits"),
    ];
    for (origin, by_certificate, wanted) in cases {
        let found = RegisteredSoFar {
            by_claim: Some(known()),
            by_certificate,
            ..RegisteredSoFar::default()
        };
        let told = told(decide(&registration(Some(ID), &origin), &found));
        assert_eq!(told, wanted, "{origin:?}");
    }
}

#[test]
fn an_unapproved_device_proves_nothing() {
    let waits = Device { entra: Some("e".into()), ..device(false, line(vec![entra("e")])) };
    let found = || RegisteredSoFar { by_claim: Some(waits.clone()), ..RegisteredSoFar::default() };
    let origin = bulk("t", "192.0.2.9");
    let r = Registration { proven_by: Some("w0"), ..registration(Some(ID), &origin) };
    assert_eq!(told(decide(&r, &found())), "waits");
    let origin = entra("e");
    let found = RegisteredSoFar { by_entra: Some(waits.clone()), ..found() };
    assert_eq!(told(decide(&registration(None, &origin), &found)), "waits for w0");
    // A certificate from an unproven claim is not the device's own, either.
    let origin = certificate("c");
    let crowded = device(false, crowd("sixteen by certificates"));
    let by_certificate = vec![crowded.clone()];
    let found =
        RegisteredSoFar { by_claim: Some(crowded), by_certificate, ..RegisteredSoFar::default() };
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
        let found = RegisteredSoFar { by_certificate, ..RegisteredSoFar::default() };
        assert_eq!(told(decide(&r, &found)), wanted, "{claimed:?}");
    }
    // A bulk token is for as many machines as it has uses, regardless of their certificates.
    let origin = Some(DeviceOrigin { certificate: Some("c".into()), ..bulk("t", "::1").unwrap() });
    let found = RegisteredSoFar { by_certificate: vec![own()], ..RegisteredSoFar::default() };
    assert_eq!(told(decide(&registration(None, &origin), &found)), "made");
}

#[test]
fn a_ninth_active_key_replaces_the_oldest() {
    let eight = || (0..KEYS_MAX).map(|n| key(&format!("k{n}"), true, None));
    let keys = line(vec![None]).into_iter().chain(eight()).collect();
    let known = device(true, keys);
    let found = RegisteredSoFar { by_claim: Some(known.clone()), ..RegisteredSoFar::default() };
    let origin = bulk("t", "192.0.2.9");
    let r = Registration { proven_by: Some("k3"), ..registration(Some(ID), &origin) };
    assert_eq!(told(decide(&r, &found)), "active for k0");
    let found = RegisteredSoFar { by_key: Some(known), ..RegisteredSoFar::default() };
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
            ApprovalVerdict::Approve { key, retired } => {
                format!("{}, retired {}", key.thumbprint, retired.join(" "))
            }
            ApprovalVerdict::Not(why) => format!("{why:?}"),
        };
        assert_eq!(told, wanted, "{approval:?}");
    }
}
