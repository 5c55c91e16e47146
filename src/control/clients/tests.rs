//! CA and CRL files that are broken, missing, half-written or expired.

use std::fs;
use std::sync::Mutex;

use sitegate_forge::Pki;

use super::*;
use crate::clock::{Hands, second};
use crate::control::whole_file::SETTLE;

const NOW: i64 = 1_800_000_000;
const DAY: i64 = 86_400;

struct Scene {
    dir: tempfile::TempDir,
    pki: Pki,
    hands: Hands,
    told: Arc<Mutex<Vec<ClientFilesState>>>,
    clients: ClientFiles,
    trust: Live<ClientTrust>,
}

impl Scene {
    fn new() -> Scene {
        let dir = tempfile::tempdir().unwrap();
        let pki = Pki::new("Contoso", second(NOW)).unwrap();
        fs::write(dir.path().join("ca.pem"), pki.root()).unwrap();
        let crl = pki.crl(&[], second(NOW - DAY), second(NOW + DAY)).unwrap();
        fs::write(dir.path().join("a.crl"), crl).unwrap();
        let files = ClientCertificates {
            ca: dir.path().join("ca.pem"),
            crls: vec![dir.path().join("a.crl")],
            expired_crls_count: false,
        };
        let (clock, hands) = Clock::manual(second(NOW));
        let told: Arc<Mutex<Vec<ClientFilesState>>> = Arc::default();
        let on_change = {
            let told = told.clone();
            Arc::new(move |state: &ClientFilesState| told.lock().unwrap().push(state.clone()))
        };
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let (clients, trust) = ClientFiles::start("mp01".into(), files, clock, provider, on_change);
        Scene { dir, pki, hands, told, clients, trust }
    }

    /// Writes it in place and waits until it has settled.
    async fn put(&mut self, name: &str, text: &str) {
        fs::write(self.dir.path().join(name), text).unwrap();
        self.settle().await;
    }

    async fn settle(&mut self) {
        self.clients.look(false);
        tokio::time::advance(SETTLE).await;
        self.clients.look(false);
    }

    fn in_force(&self) -> (usize, usize) {
        self.trust.peek(|trust| (trust.authorities(), trust.crls().map_or(0, |crls| crls.len())))
    }

    fn problems(&self) -> usize {
        self.told.lock().unwrap().last().unwrap().problems.len()
    }
}

#[tokio::test(start_paused = true)]
async fn broken_client_trust_files_keep_the_last_good_ones() {
    let mut scene = Scene::new();
    assert_eq!((scene.in_force(), scene.problems()), ((1, 1), 0));
    let crl = fs::read_to_string(scene.dir.path().join("a.crl")).unwrap();
    for (n, broken) in ["garbage", "", &crl[..crl.len() / 2]].into_iter().enumerate() {
        scene.put("a.crl", broken).await;
        scene.clients.look(false);
        assert_eq!((scene.in_force(), scene.problems()), ((1, 1), 1), "{broken}");
        assert!(scene.told.lock().unwrap().len() <= n + 2, "told once");
    }
    scene.put("a.crl", &crl).await;
    assert_eq!((scene.in_force(), scene.problems()), ((1, 1), 0));
    scene.put("ca.pem", "garbage").await;
    assert_eq!((scene.in_force(), scene.problems()), ((1, 1), 1));
    fs::remove_file(scene.dir.path().join("a.crl")).unwrap();
    scene.settle().await;
    assert_eq!((scene.in_force(), scene.problems()), ((1, 1), 2));
    let both = format!("{}{}", scene.pki.root(), scene.pki.intermediate());
    scene.put("ca.pem", &both).await;
    scene.put("a.crl", &crl).await;
    assert_eq!((scene.in_force(), scene.problems()), ((2, 1), 0));
}

#[tokio::test(start_paused = true)]
async fn a_list_that_expires_is_complained_of_though_no_file_changes() {
    let mut scene = Scene::new();
    let generation = scene.trust.generation();
    scene.hands.advance(2 * DAY);
    scene.clients.look(false);
    assert_eq!((scene.problems(), scene.trust.generation()), (1, generation));
    let crl = scene.pki.crl(&[], second(NOW), second(NOW + 9 * DAY)).unwrap();
    scene.put("a.crl", &crl).await;
    assert_eq!((scene.problems(), scene.trust.generation()), (0, generation + 1));
}
