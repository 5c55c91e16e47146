//! Protocol negotiation, session resumption, and trial handshakes.

use rustls::client::Resumption;
use rustls::{ClientConfig, ClientConnection, HandshakeKind, ServerConnection};
use rustls_pki_types::ServerName;
use sitegate_forge::{Forged, Order, Pki};

use crate::cert::{Anchors, Source};
use crate::clock::second;
use crate::tls::{TrialClient, trial};

use super::*;

const NOW: i64 = 1_800_000_000;
const HOST: &str = "mp01.contoso.com";

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

fn credential(forged: &Forged) -> Credential {
    let (chain, key) = (forged.chain.as_bytes(), Some(forged.key.as_bytes()));
    Credential::parse(chain, key, Source::Pki, &provider()).unwrap()
}

fn hosts(names: &[&str]) -> Vec<ServerName<'static>> {
    names.iter().map(|name| ServerName::try_from((*name).to_owned()).unwrap()).collect()
}

fn config(forged: &Forged, http2: bool) -> Arc<ServerConfig> {
    server_config(
        &credential(forged),
        None,
        &TlsOptions { http2, ..TlsOptions::default() },
        provider(),
    )
    .unwrap()
}

fn connect(
    server: &Arc<ServerConfig>,
    client: &Arc<ClientConfig>,
) -> (ClientConnection, ServerConnection) {
    let host = ServerName::try_from(HOST).unwrap();
    let mut client = ClientConnection::new(client.clone(), host).unwrap();
    let mut server = ServerConnection::new(server.clone()).unwrap();
    for _ in 0..8 {
        let mut bytes = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut bytes).unwrap();
        }
        let mut bytes = bytes.as_slice();
        while !bytes.is_empty() {
            server.read_tls(&mut bytes).unwrap();
            server.process_new_packets().unwrap();
        }
        let mut bytes = Vec::new();
        while server.wants_write() {
            server.write_tls(&mut bytes).unwrap();
        }
        let mut bytes = bytes.as_slice();
        while !bytes.is_empty() {
            client.read_tls(&mut bytes).unwrap();
            client.process_new_packets().unwrap();
        }
    }
    (client, server)
}

/// A client that resumes sessions, with a fixed clock.
fn client(pki: &Pki, versions: &[&'static rustls::SupportedProtocolVersion]) -> ClientConfig {
    #[derive(Debug)]
    struct Fixed;
    impl rustls::time_provider::TimeProvider for Fixed {
        fn current_time(&self) -> Option<rustls_pki_types::UnixTime> {
            let since = std::time::Duration::from_secs(NOW as u64);
            Some(rustls_pki_types::UnixTime::since_unix_epoch(since))
        }
    }
    let anchors = Anchors::from_pem(pki.root().as_bytes()).unwrap();
    let mut config = ClientConfig::builder_with_details(provider(), Arc::new(Fixed))
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(anchors.root_store())
        .with_no_client_auth();
    config.resumption = Resumption::in_memory_sessions(8);
    config
}

fn pki_and_leaf() -> (Pki, Forged) {
    let pki = Pki::new("Contoso", second(NOW)).unwrap();
    let forged = pki.issue(&Order::fit(&[HOST, "mp01", "192.0.2.7"], second(NOW))).unwrap();
    (pki, forged)
}

#[test]
fn a_ticket_does_not_resume_into_the_next_configuration() {
    let (pki, forged) = pki_and_leaf();
    for version in [&TLS12, &TLS13] {
        let client = Arc::new(client(&pki, &[version]));
        let (first, second) = (config(&forged, true), config(&forged, true));
        let kind = |server| connect(server, &client).0.handshake_kind().unwrap();
        assert_eq!(kind(&first), HandshakeKind::Full, "{version:?}");
        assert_eq!(kind(&first), HandshakeKind::Resumed, "{version:?}");
        assert_eq!(kind(&second), HandshakeKind::Full, "{version:?}");
    }
}

#[test]
fn the_hybrid_post_quantum_exchange_is_what_both_sides_agree_on() {
    let (pki, forged) = pki_and_leaf();
    let (client, _) = connect(&config(&forged, true), &Arc::new(client(&pki, &[&TLS13])));
    let group = client.negotiated_key_exchange_group().unwrap().name();
    assert_eq!(group, rustls::NamedGroup::X25519MLKEM768);
}

#[test]
fn the_best_protocol_of_those_that_a_client_offers_is_chosen() {
    let (pki, forged) = pki_and_leaf();
    for (http2, offered, expected) in [
        (true, &["http/1.1", "h2"][..], "h2"),
        (false, &["http/1.1", "h2"], "http/1.1"),
        (true, &["http/1.0", "http/1.1"], "http/1.1"),
        (true, &["http/1.0"], "http/1.0"),
        (false, &["http/1.0"], "http/1.0"),
    ] {
        let mut client = client(&pki, &[&TLS13]);
        client.alpn_protocols = offered.iter().map(|name| name.as_bytes().to_vec()).collect();
        let (client, server) = connect(&config(&forged, http2), &Arc::new(client));
        assert_eq!(client.alpn_protocol(), Some(expected.as_bytes()), "{offered:?}");
        assert_eq!(server.alpn_protocol(), Some(expected.as_bytes()), "{offered:?}");
    }
}

#[test]
fn early_data_is_never_offered() {
    let (pki, forged) = pki_and_leaf();
    let mut eager = client(&pki, &[&TLS13]);
    eager.enable_early_data = true;
    let (eager, server) = (Arc::new(eager), config(&forged, true));
    connect(&server, &eager);
    let host = ServerName::try_from(HOST).unwrap();
    let mut again = ClientConnection::new(eager, host).unwrap();
    assert!(again.early_data().is_none());
}

#[test]
fn the_trial_passes_for_every_host() {
    let (pki, forged) = pki_and_leaf();
    let anchors = Anchors::from_pem(pki.root().as_bytes()).unwrap();
    let (hosts, provider) = (hosts(&[HOST, "mp01", "192.0.2.7"]), provider());
    let client = TrialClient { anchors: &anchors, hosts: &hosts, provider: &provider };
    trial(&config(&forged, true), &client, second(NOW)).unwrap();
}

#[test]
fn the_trial_fails_for_another_root_host_or_time() {
    let (pki, forged) = pki_and_leaf();
    let stranger = Pki::new("Fabrikam", second(NOW)).unwrap();
    let cases = [
        (stranger.root(), HOST, NOW),
        (pki.root(), "mp02.contoso.com", NOW),
        (pki.root(), HOST, NOW + 91 * 86_400),
        (pki.root(), HOST, NOW - 86_400),
    ];
    for (root, host, now) in cases {
        let anchors = Anchors::from_pem(root.as_bytes()).unwrap();
        let (hosts, provider) = (hosts(&[host]), provider());
        let client = TrialClient { anchors: &anchors, hosts: &hosts, provider: &provider };
        let fault = trial(&config(&forged, true), &client, second(now)).unwrap_err();
        assert_eq!(fault.unfit, Unfit::HandshakeFailed);
        assert!(fault.detail.contains(host), "{fault}");
    }
}

#[test]
fn a_mismatched_key_makes_no_configuration() {
    let (pki, forged) = pki_and_leaf();
    let other = pki.issue(&Order::fit(&[HOST], second(NOW))).unwrap();
    let mixed = Forged { key: other.key, ..forged };
    let made = server_config(&credential(&mixed), None, &TlsOptions::default(), provider());
    assert_eq!(made.err().map(|fault| fault.unfit), Some(Unfit::KeyMismatch));
}

#[test]
fn a_chain_that_the_library_cannot_follow_is_tried_by_its_leaf() {
    let (_, forged) = pki_and_leaf();
    let stranger = Pki::new("Fabrikam", second(NOW)).unwrap();
    let config = config(&forged, false);
    let anchors = Anchors::from_pem(stranger.root().as_bytes()).unwrap();
    let hosts = hosts(&[HOST, "mp01"]);
    let provider = provider();
    let tried = |anchors: &Anchors, hosts: &[ServerName<'static>]| {
        trial(&config, &TrialClient { anchors, hosts, provider: &provider }, second(NOW)).is_ok()
    };
    assert!(!tried(&anchors.for_trial(&credential(&forged)), &hosts));
    let more = anchors.processing_more(true);
    assert!(tried(&more.for_trial(&credential(&forged)), &hosts));
    let other = pki_and_leaf().1;
    assert!(!tried(&more.for_trial(&credential(&other)), &hosts), "the leaf alone");
    let elsewhere = [ServerName::try_from("other.contoso.com").unwrap()];
    assert!(!tried(&more.for_trial(&credential(&forged)), &elsewhere));
}
