//! The parts of RFC 5280 that webpki does not process: most clients accept a chain that is refused
//! for one of them, and the log says so.
//!
//! Only texts. No verdict depends on them.

use webpki::Error;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::FromDer;

use super::{Anchors, Credential, Facts};

/// Policy extensions (RFC 5280 §4.2.1.4, §4.2.1.5, §4.2.1.11 and §4.2.1.14), which may be critical.
const POLICIES: [(&str, &str); 4] = [
    ("2.5.29.32", "certificatePolicies"),
    ("2.5.29.33", "policyMappings"),
    ("2.5.29.36", "policyConstraints"),
    ("2.5.29.54", "inhibitAnyPolicy"),
];

/// The critical extensions that are not processed, with the names of those that other clients know.
pub(super) fn extensions(facts: &Facts) -> String {
    let named = |oid: &String| match POLICIES.iter().find(|(known, _)| known == oid) {
        Some((_, name)) => format!("{name} ({oid})"),
        None => oid.clone(),
    };
    facts.critical_unknown.iter().map(named).collect::<Vec<_>>().join(", ")
}

/// The limitation of sitegate that a chain has met, if the error comes from one.
pub(super) fn told(credential: &Credential, anchors: &Anchors, error: &Error) -> Option<String> {
    match error {
        Error::UnsupportedCriticalExtension => {
            let mut chain = std::iter::once(credential.facts()).chain(credential.issuers());
            let facts = chain.find(|facts| !facts.critical_unknown.is_empty())?;
            Some(format!(
                "sitegate does not process the critical extension {} of {}, though other TLS \
                 software may",
                extensions(facts),
                facts.subject
            ))
        }
        Error::NameConstraintViolation => {
            let roots = anchors.iter().map(|anchor| anchor.der());
            let mut above = credential.chain().iter().skip(1).chain(roots);
            let constrained = above.find_map(|der| constrains_directories(der))?;
            Some(format!(
                "sitegate does not process name constraints for directory names, which \
                 {constrained} has, though other TLS software may"
            ))
        }
        Error::MaximumPathDepthExceeded => {
            Some("sitegate follows chains of at most six intermediates".to_owned())
        }
        _ => None,
    }
}

/// The name of a CA with constraints on directory names.
fn constrains_directories(der: &[u8]) -> Option<String> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    let found = certificate.extensions().iter().any(|extension| {
        let ParsedExtension::NameConstraints(names) = extension.parsed_extension() else {
            return false;
        };
        let subtrees = [&names.permitted_subtrees, &names.excluded_subtrees];
        let mut bases = subtrees.into_iter().flatten().flatten().map(|subtree| &subtree.base);
        bases.any(|base| matches!(base, GeneralName::DirectoryName(_)))
    });
    found.then(|| certificate.subject().to_string())
}

#[cfg(test)]
mod tests {
    use rcgen::{
        BasicConstraints, CertificateParams, CustomExtension, DistinguishedName, DnType,
        ExtendedKeyUsagePurpose, GeneralSubtree, IsCa, Issuer, KeyPair, NameConstraints,
    };
    use rustls_pki_types::ServerName;

    use super::*;
    use crate::cert::{Expectation, Source, check};
    use crate::unfit::Unfit;

    fn authority(name: &str) -> CertificateParams {
        let mut params = CertificateParams::default();
        let mut subject = DistinguishedName::new();
        subject.push(DnType::CommonName, name);
        params.distinguished_name = subject;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params
    }

    fn fault(
        between: usize,
        change: impl Fn(&mut CertificateParams),
        leaf: impl Fn(&mut CertificateParams),
    ) -> Option<(Unfit, String)> {
        judged(false, between, change, leaf)
    }

    /// The fault of a leaf below intermediates; the highest of them is changed.
    fn judged(
        process_more: bool,
        between: usize,
        change: impl Fn(&mut CertificateParams),
        leaf: impl Fn(&mut CertificateParams),
    ) -> Option<(Unfit, String)> {
        let key = || KeyPair::generate().unwrap();
        let mut issuer = Issuer::new(authority("Root CA"), key());
        let root = authority("Root CA").self_signed(issuer.key()).unwrap().pem();
        let mut chain = String::new();
        for number in 0..between {
            let (mut params, own) = (authority(&format!("CA {number}")), key());
            if number == 0 {
                change(&mut params);
            }
            chain.insert_str(0, &params.signed_by(&own, &issuer).unwrap().pem());
            issuer = Issuer::new(params, own);
        }
        let mut params = CertificateParams::new(vec!["mp01".to_owned()]).unwrap();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        leaf(&mut params);
        let own = key();
        chain.insert_str(0, &params.signed_by(&own, &issuer).unwrap().pem());
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        let key = own.serialize_pem();
        let credential =
            Credential::parse(chain.as_bytes(), Some(key.as_bytes()), Source::Pki, &provider);
        let anchors = Anchors::from_pem(root.as_bytes()).unwrap().processing_more(process_more);
        let hosts = [ServerName::try_from("mp01").unwrap()];
        let expected = Expectation { hosts: &hosts, anchors: &anchors, provider: &provider };
        let fault = check(&credential.unwrap(), &expected, crate::clock::second(1_800_000_000));
        fault.err().map(|fault| (fault.unfit, fault.detail))
    }

    fn critical(oid: &[u64], content: &[u8]) -> CustomExtension {
        let mut extension = CustomExtension::from_oid_content(oid, content.to_vec());
        extension.set_criticality(true);
        extension
    }

    #[test]
    fn a_limit_of_sitegate_itself_is_reported_as_such() {
        let policies = |oid: [u64; 4], content: &'static [u8]| {
            move |params: &mut CertificateParams| {
                params.custom_extensions = vec![critical(&oid, content)];
            }
        };
        let nothing = |_: &mut CertificateParams| ();
        let directory = |params: &mut CertificateParams| {
            let mut name = DistinguishedName::new();
            name.push(DnType::OrganizationName, "Contoso");
            let permitted_subtrees = vec![GeneralSubtree::DirectoryName(name)];
            let excluded_subtrees = Vec::new();
            params.name_constraints =
                Some(NameConstraints { permitted_subtrees, excluded_subtrees });
        };
        let of = |oid: &str| {
            format!(
                "in the chain to a root: sitegate does not process the critical extension {oid} of \
                 CN=CA 0, though other TLS software may"
            )
        };
        for (found, unfit, told) in [
            (
                fault(1, policies([2, 5, 29, 36], &[0x30, 3, 0x80, 1, 0]), nothing),
                Unfit::CriticalUnknown,
                of("policyConstraints (2.5.29.36)"),
            ),
            (
                fault(1, policies([2, 5, 29, 54], &[2, 1, 0]), nothing),
                Unfit::CriticalUnknown,
                of("inhibitAnyPolicy (2.5.29.54)"),
            ),
            (
                fault(1, policies([1, 2, 3, 4], &[5, 0]), nothing),
                Unfit::CriticalUnknown,
                of("1.2.3.4"),
            ),
            (
                fault(1, nothing, policies([2, 5, 29, 32], &[0x30, 6, 0x30, 4, 6, 2, 0x2A, 3])),
                Unfit::CriticalUnknown,
                "certificatePolicies (2.5.29.32)".to_owned(),
            ),
            (
                fault(1, directory, nothing),
                Unfit::Constrained,
                "in the chain to a root: sitegate does not process name constraints for directory \
                 names, which CN=CA 0 has, though other TLS software may"
                    .to_owned(),
            ),
            (
                fault(8, nothing, nothing),
                Unfit::Untrusted,
                "in the chain to a root: sitegate follows chains of at most six intermediates"
                    .to_owned(),
            ),
        ] {
            assert_eq!(found, Some((unfit, told)));
        }
        assert_eq!(fault(6, nothing, nothing), None);
    }

    #[test]
    fn extensions_other_clients_process_are_fit_only_if_configured() {
        let constraints = |permitted_subtrees: Vec<GeneralSubtree>, excluded_subtrees| {
            move |params: &mut CertificateParams| {
                params.name_constraints = Some(NameConstraints {
                    permitted_subtrees: permitted_subtrees.clone(),
                    excluded_subtrees: Vec::clone(&excluded_subtrees),
                });
            }
        };
        let directory = || {
            let mut name = DistinguishedName::new();
            name.push(DnType::OrganizationName, "Contoso");
            GeneralSubtree::DirectoryName(name)
        };
        let dns = |name: &str| GeneralSubtree::DnsName(name.to_owned());
        let ext = |oid: [u64; 4], content: &'static [u8]| {
            move |params: &mut CertificateParams| {
                params.custom_extensions = vec![critical(&oid, content)];
            }
        };
        let policy = ext([2, 5, 29, 36], &[0x30, 3, 0x80, 1, 0]);
        let nothing = |_: &mut CertificateParams| ();
        let more = |between, change: &dyn Fn(&mut CertificateParams)| {
            judged(true, between, change, nothing).map(|(unfit, _)| unfit)
        };
        // Fit: extensions that other clients process.
        assert_eq!(more(1, &policy), None);
        assert_eq!(more(2, &ext([2, 5, 29, 54], &[2, 1, 0])), None);
        assert_eq!(more(8, &nothing), None);
        assert_eq!(more(1, &constraints(vec![directory()], vec![])), None);
        assert_eq!(more(1, &constraints(vec![directory(), dns("mp01")], vec![])), None);
        // Still unfit: names outside the constraints, another usage, a path that is too long, an
        // unknown extension.
        let constrained = Some(Unfit::Constrained);
        assert_eq!(
            more(1, &constraints(vec![directory(), dns("contoso.com")], vec![])),
            constrained
        );
        assert_eq!(more(1, &constraints(vec![directory()], vec![dns("mp01")])), constrained);
        assert_eq!(more(1, &ext([1, 2, 3, 4], &[5, 0])), Some(Unfit::CriticalUnknown));
        let with_policy = |change: fn(&mut CertificateParams)| {
            move |params: &mut CertificateParams| {
                params.custom_extensions = vec![critical(&[2, 5, 29, 36], &[0x30, 3, 0x80, 1, 0])];
                change(params);
            }
        };
        for spoilt in [
            with_policy(|params| params.is_ca = IsCa::ExplicitNoCa),
            with_policy(|params| params.is_ca = IsCa::NoCa),
            with_policy(|params| params.key_usages = vec![rcgen::KeyUsagePurpose::CrlSign]),
            with_policy(|params| params.not_after = rcgen::date_time_ymd(2020, 1, 1)),
            with_policy(|params| params.not_before = rcgen::date_time_ymd(2090, 1, 1)),
            with_policy(|params| {
                params.extended_key_usages = vec![ExtendedKeyUsagePurpose::CodeSigning];
            }),
        ] {
            assert!(more(1, &spoilt).is_some());
        }
        let short = with_policy(|params| params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0)));
        assert_eq!((more(1, &short), more(2, &short).is_some()), (None, true));
        // The leaf's own critical extensions are refused by the library of every client of this
        // kind.
        let leaf = ext([2, 5, 29, 32], &[0x30, 6, 0x30, 4, 6, 2, 0x2A, 3]);
        assert_eq!(judged(true, 1, nothing, leaf).unwrap().0, Unfit::CriticalUnknown);
    }

    #[test]
    fn a_chain_to_a_false_root_stays_unfit() {
        let key = || KeyPair::generate().unwrap();
        let params = authority("Root CA");
        let (real, false_root) = (key(), key());
        let root = params.self_signed(&real).unwrap().pem();
        let issuer = Issuer::new(params, false_root);
        let (mut between, own) = (authority("CA 0"), key());
        between.custom_extensions = vec![critical(&[2, 5, 29, 36], &[0x30, 3, 0x80, 1, 0])];
        let above = between.signed_by(&own, &issuer).unwrap().pem();
        let mut leaf = CertificateParams::new(vec!["mp01".to_owned()]).unwrap();
        leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let leaf_key = key();
        let leaf = leaf.signed_by(&leaf_key, &Issuer::new(between, own)).unwrap().pem();
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        let key = leaf_key.serialize_pem();
        let chain = format!("{leaf}{above}");
        let credential =
            Credential::parse(chain.as_bytes(), Some(key.as_bytes()), Source::Pki, &provider);
        let anchors = Anchors::from_pem(root.as_bytes()).unwrap().processing_more(true);
        let hosts = [ServerName::try_from("mp01").unwrap()];
        let expected = Expectation { hosts: &hosts, anchors: &anchors, provider: &provider };
        assert!(
            check(&credential.unwrap(), &expected, crate::clock::second(1_800_000_000)).is_err()
        );
    }
}
