//! Certificate commands, a first configuration, and the installed packages.

use std::process::{Command, Output};

use serde_json::Value;
use sitegate::clock::Clock;
use sitegate_forge::{Order, Pki, Protection, pfx};

use crate::support::{BINARY, Gateway, Plan};

fn said(out: &Output) -> String {
    String::from_utf8_lossy(&[out.stdout.clone(), out.stderr.clone()].concat()).into_owned()
}

fn rows(gateway: &Gateway, args: &[&str]) -> (Option<i32>, Value) {
    let out = gateway.command(&[args, &["--format", "json"]].concat()).output().unwrap();
    let json = serde_json::from_slice(&out.stdout);
    (out.status.code(), json.unwrap_or_else(|_| panic!("{}", said(&out))))
}

#[test]
fn cert_list_and_what_if_read_files_and_write_nothing() {
    let now = Clock::system().now();
    let pki = Pki::new("Corporate", now).unwrap();
    let gateway = Gateway::prepare(Plan::to("http://127.0.0.1:1"));
    let made = pki.issue(&Order::fit(&[Gateway::HOST], now)).unwrap();
    gateway.write_pki(&made.chain, &made.key, pki.root());
    let (exit, json) = rows(&gateway, &["cert", "list"]);
    assert_eq!((exit, &json[0]["certificate"]["source"]), (Some(0), &Value::from("pki")));
    let late = (now + jiff::SignedDuration::from_hours(24 * 91)).to_string();
    let (exit, json) = rows(&gateway, &["cert", "what-if", "--at", &late]);
    assert_eq!((exit, &json[0]["certificate"]), (Some(1), &Value::Null));
    let wrong = json[0]["wrong"][0].as_str().unwrap();
    assert!(wrong.contains("certificate.expired"), "{wrong}");
    assert!(json[0]["notes"][0].as_str().unwrap().contains("a site-issued certificate"));
    let now = now.to_string();
    let (exit, json) = rows(&gateway, &["cert", "what-if", "--at", &now, "--without", "pki"]);
    assert_eq!((exit, &json[0]["certificate"]), (Some(0), &Value::Null));
    assert!(!gateway.path("state").exists(), "a look makes no state");
}

#[test]
fn a_file_is_shown_and_a_fit_pfx_is_imported_and_no_other() {
    use std::os::unix::fs::PermissionsExt;
    let now = Clock::system().now();
    let pki = Pki::new("Corporate", now).unwrap();
    let gateway = Gateway::prepare(
        Plan::to("http://127.0.0.1:1").site_system("pki_password = \"env:PFX_PASSWORD\""),
    );
    let write = |name: &str, hosts: &[&str]| {
        let made = pki.issue(&Order::fit(hosts, now)).unwrap();
        let chain = format!("{}{}", made.chain, pki.root());
        let bytes = pfx((&chain, &made.key), "secret", Protection::Modern, 2048).unwrap();
        std::fs::write(gateway.path(name), &bytes).unwrap();
        gateway.path(name).to_str().unwrap().to_owned()
    };
    let good = write("good.pfx", &[Gateway::HOST]);
    let other = write("other.pfx", &["dp09.contoso.com"]);
    let run = |args: &[&str]| gateway.command(args).env("PFX_PASSWORD", "secret").output().unwrap();

    let shown = said(&run(&["cert", "show", &good, "--password", "env:PFX_PASSWORD"]));
    for wanted in ["fit for mp01", "serverAuth", "its key is in the file"] {
        assert!(shown.contains(wanted), "'{wanted}' is not in\n{shown}");
    }
    assert!(shown.lines().all(|line| line.chars().count() <= 80), "{shown}");
    let shown = said(&run(&["cert", "show", &other, "--password", "env:PFX_PASSWORD"]));
    assert!(shown.contains("NOT fit for mp01") && shown.contains("certificate.name_mismatch"));

    let refused = run(&["cert", "import", &other, "--site-system", "mp01"]);
    assert_eq!(refused.status.code(), Some(1), "{}", said(&refused));
    assert_eq!(std::fs::read_dir(gateway.path("pki")).unwrap().count(), 0);
    let done = run(&["cert", "import", &good, "--site-system", "mp01"]);
    assert_eq!(done.status.code(), Some(0), "{}", said(&done));
    let file = std::fs::read_dir(gateway.path("pki")).unwrap().next().unwrap().unwrap();
    assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    let listed = said(&run(&["cert", "list"]));
    assert!(listed.contains("mp01: serves pki"), "{listed}");

    // The command imports no PEM file, which the configuration names itself, and no more PFX files
    // than are examined.
    let made = pki.issue(&Order::fit(&[Gateway::HOST], now)).unwrap();
    let pem = gateway.path("both.pem");
    std::fs::write(&pem, format!("{}{}{}", made.chain, pki.root(), *made.key)).unwrap();
    let into = |file: &str| run(&["cert", "import", file, "--site-system", "mp01"]);
    let refused = into(pem.to_str().unwrap());
    assert!(said(&refused).contains("this is for PFX files"), "{}", said(&refused));
    for n in 1..16 {
        std::fs::write(gateway.path("pki").join(format!("{n}.pfx")), "").unwrap();
    }
    assert!(into(&good).status.success(), "it is one of them");
    let refused = into(&write("newer.pfx", &[Gateway::HOST]));
    assert!(said(&refused).contains("holds 16 PFX files"), "{}", said(&refused));
    assert_eq!(std::fs::read_dir(gateway.path("pki")).unwrap().count(), 16);
}

#[test]
fn a_first_configuration_passes_check_and_replaces_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("gateway.toml");
    let state = dir.path().join("state");
    let init = |code: &str| {
        let mut command = Command::new(BINARY);
        command.args(["init", "--site-code", code, "--host", "mp01.contoso.com", "--domain"]);
        command.args(["contoso.com", "--role", "management-point", "--role", "distribution-point"]);
        command.arg("--state").arg(&state).arg("--config").arg(&file).output().unwrap()
    };
    let bad = init("TOOLONG");
    assert_eq!(bad.status.code(), Some(2), "{}", said(&bad));
    assert!(!file.exists());
    assert_eq!(init("PS1").status.code(), Some(0));
    let before = std::fs::read_to_string(&file).unwrap();
    assert_eq!(init("PS2").status.code(), Some(1));
    assert_eq!(std::fs::read_to_string(&file).unwrap(), before);
    let check = Command::new(BINARY).args(["check", "--config"]).arg(&file).output().unwrap();
    assert_eq!(check.status.code(), Some(0), "{}", said(&check));
}

#[test]
fn completions_and_the_manual_know_every_command() {
    let run = |args: &[&str]| said(&Command::new(BINARY).args(args).output().unwrap());
    for shell in ["bash", "zsh", "fish", "powershell"] {
        let text = run(&["completions", shell]);
        assert!(text.contains("what-if") && text.contains("rollover"), "{shell}");
    }
    let dir = tempfile::tempdir().unwrap();
    run(&["man", dir.path().to_str().unwrap()]);
    for page in ["sitegate.1", "sitegate-doctor.1", "sitegate-cert-what-if.1"] {
        let text = std::fs::read_to_string(dir.path().join(page)).unwrap();
        assert!(text.contains(".TH"), "{page}");
    }
}

#[test]
fn a_csr_names_all_hosts_and_never_overwrites_its_key() {
    use std::os::unix::fs::PermissionsExt;
    let gateway = Gateway::prepare(Plan::to("http://127.0.0.1:1"));
    let text = gateway.config_text();
    let hosts = format!("hosts = [\"{}\", \"10.1.2.3\"]", Gateway::HOST);
    gateway.write_config(&text.replace(&format!("hosts = [\"{}\"]", Gateway::HOST), &hosts));
    let key = gateway.path("mp01.key");
    for algorithm in ["rsa2048", "p256"] {
        let _ = std::fs::remove_file(&key);
        let file = key.to_str().unwrap();
        let asked = ["--site-system", "mp01", "--algorithm", algorithm, "--key", file];
        let args = [&["cert", "csr"], &asked[..]].concat();
        let run = || gateway.command(&args).output().unwrap();
        let out = run();
        assert!(out.status.success(), "{}", said(&out));
        let mode = std::fs::metadata(&key).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600);
        std::fs::write(gateway.path("mp01.csr"), &out.stdout).unwrap();
        // A second opinion by OpenSSL: the key signed the request, and its names are right.
        let openssl = |args: &[&str]| {
            let mut command = Command::new("openssl");
            said(&command.args(args).current_dir(gateway.dir.path()).output().unwrap())
        };
        let shown = openssl(&["req", "-in", "mp01.csr", "-noout", "-text", "-verify"]);
        for wanted in
            ["verify OK", "DNS:mp01.contoso.com", "IP Address:10.1.2.3", "CN = mp01.contoso.com"]
        {
            assert!(shown.contains(wanted), "{wanted}: {shown}");
        }
        let of_key = openssl(&["pkey", "-in", "mp01.key", "-pubout"]);
        assert_eq!(openssl(&["req", "-in", "mp01.csr", "-noout", "-pubkey"]), of_key);
        let before = std::fs::read(&key).unwrap();
        let again = run();
        assert!(!again.status.success() && said(&again).contains("exists already"));
        assert_eq!(std::fs::read(&key).unwrap(), before);
    }
    let args = ["cert", "csr", "--site-system", "mp01", "--inf", "--template", "Web Server 2"];
    let inf = said(&gateway.command(&args).output().unwrap());
    for wanted in [
        "Subject = \"CN=mp01.contoso.com\"",
        "_continue_ = \"dns=mp01.contoso.com&\"",
        "_continue_ = \"ipaddress=10.1.2.3&\"",
        "OID = 1.3.6.1.5.5.7.3.1",
        "CertificateTemplate = \"Web Server 2\"",
    ] {
        assert!(inf.contains(wanted), "{wanted}: {inf}");
    }
    let args =
        ["cert", "csr", "--site-system", "mp01", "--inf", "--template", "x\"\nExportable = FALSE"];
    assert!(!gateway.command(&args).output().unwrap().status.success());
    let args = ["cert", "csr", "--site-system", "mp01"];
    assert_eq!(gateway.command(&args).output().unwrap().status.code(), Some(2), "no key, no inf");
}
