//! Administration commands that still work while the file has an error or is missing, and the
//! gateway runs.

use crate::support::{DEVICE, Gateway, Nginx, Plan, eventually};

type Spoil = fn(&Gateway);

/// The faults to inject into the files of a running gateway.
const BROKEN: &[(&str, Spoil)] = &[
    ("a key is misspelt", |g| g.write_config(&g.config_text().replace("backend =", "backnd ="))),
    ("the text ends in the middle", |g| {
        let text = g.config_text();
        g.write_config(&text[..text.len() / 2]);
    }),
    ("a section ends too early", |g| g.write_config(&g.config_text().replace("[log]", "[log"))),
    ("the blocklist is broken", |g| {
        std::fs::write(g.path("blocklist.toml"), "[[block]]\ndevise = 1\n").unwrap();
    }),
    ("the file is gone", |g| std::fs::remove_file(g.path("gateway.toml")).unwrap()),
    ("the blocklist is gone", |g| std::fs::remove_file(g.path("blocklist.toml")).unwrap()),
];

fn started() -> (Nginx, Gateway) {
    let nginx = Nginx::start();
    let plan = Plan::to(&nginx.url()).site("blocklist = \"blocklist.toml\"");
    let mut gateway = Gateway::prepare(plan.site_system("token_service = true"));
    std::fs::write(gateway.path("blocklist.toml"), "").unwrap();
    gateway.launch();
    gateway.wait_until_ready();
    (nginx, gateway)
}

#[test]
fn tools_work_while_a_file_is_broken() {
    let (_nginx, gateway) = started();
    let token = gateway.token();
    let policy = "/SMS_MP/.sms_pol?x.1_00";
    let whole = gateway.config_text();
    for (what, spoil) in BROKEN {
        gateway.write_config(&whole);
        std::fs::write(gateway.path("blocklist.toml"), "").unwrap();
        spoil(&gateway);
        for (command, code, said) in [
            (&["status"][..], 0, "ready"),
            (&["health"], 0, "ready"),
            (&["doctor"], 1, "errors, "),
            (&["site", "block", DEVICE, "--reason", "stolen"], 0, "blocked"),
            (&["site", "audit"], 0, DEVICE),
            (&["site", "unblock", DEVICE], 0, ""),
            (&["site", "export-root"], 0, "BEGIN CERTIFICATE"),
            (&["token", "list"], 0, ""),
            (&["check"], 78, ""),
        ] {
            let out = gateway.command(command).output().unwrap();
            let told = String::from_utf8_lossy(&out.stderr);
            let answer = String::from_utf8_lossy(&out.stdout).into_owned() + &told;
            let told_of_file = told.contains("gateway.toml") || told.contains("blocklist.toml");
            assert!(told_of_file, "{what}: {command:?}: {told}");
            assert_eq!(out.status.code(), Some(code), "{what}: {command:?}: {answer}");
            assert!(answer.contains(said), "{what}: {command:?}: {answer}");
            if command.get(1) == Some(&"block") {
                eventually("it is blocked", || gateway.curl_as(&token, policy, &[]).status == 403);
            }
        }
        eventually("it is not blocked any more", || {
            gateway.curl_as(&token, policy, &[]).status == 200
        });
    }
}

#[test]
fn what_was_in_force_of_another_file_is_not_gone_by() {
    let (_nginx, gateway) = started();
    let folder = gateway.path("elsewhere");
    std::fs::create_dir(&folder).unwrap();
    let state = gateway.path("state");
    let text = format!("[site]\nstate = {:?}\ncode = 'PS1", state.display().to_string());
    std::fs::write(folder.join("gateway.toml"), text).unwrap();
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_sitegate"));
    let out = command.args(["token", "list", "--config"]).arg(folder.join("gateway.toml"));
    assert_eq!(out.output().unwrap().status.code(), Some(78));
}

/// Reloads that would end service: the change, and the report.
#[test]
fn a_reload_that_cannot_serve_changes_nothing() {
    let nginx = Nginx::start();
    let port = crate::support::free_port();
    let plain =
        format!("[site_system.plain_http]\nlisten = \"0.0.0.0:{port}\"\nmode = \"refuse\"\n");
    let gateway = Plan::to(&nginx.url()).after(&plain).start();
    let good = gateway.config_text();
    let host = format!("\"{}\"", Gateway::HOST);
    let cases = [
        (
            "a host for which the root was not made",
            good.replace(&host, &format!("{host}, \"mp01.fabrikam.com\""))
                .replace("[\"contoso.com\"]", "[\"contoso.com\", \"fabrikam.com\"]"),
            "certificate.outside_root",
        ),
        (
            "a host of no domain",
            good.replace(&host, &format!("{host}, \"mp01.fabrikam.com\"")),
            "mp01.fabrikam.com",
        ),
        (
            "a backend that is the gateway's plain HTTP",
            good.replace(&nginx.url(), &format!("http://127.0.0.1:{port}")),
            "is this gateway: 'mp01' listens on 0.0.0.0:",
        ),
        (
            "a backend that is the gateway's TLS",
            good.replace(&nginx.url(), &format!("https://127.0.0.1:{}", gateway.port)),
            "is this gateway: 'mp01' listens on 127.0.0.1:",
        ),
        (
            "two addresses of one port",
            good.replace(&format!("0.0.0.0:{port}"), &format!("0.0.0.0:{}", gateway.port)),
            "a wildcard takes its port of every address",
        ),
    ];
    for (what, text, said) in cases {
        assert_ne!(text, good, "{what}");
        let next = gateway.path("next.toml");
        std::fs::write(&next, &text).unwrap();
        let mut check = std::process::Command::new(env!("CARGO_BIN_EXE_sitegate"));
        let check = check.args(["check", "--config"]).arg(&next).output().unwrap();
        let all = String::from_utf8([check.stdout, check.stderr].concat()).unwrap();
        assert!(!check.status.success() && all.contains(said), "{what}: {all}");
        let diff = gateway.command(&["config", "diff", next.to_str().unwrap()]).output().unwrap();
        let all = String::from_utf8([diff.stdout, diff.stderr].concat()).unwrap();
        assert!(!diff.status.success() && all.contains(said), "{what}: {all}");
        gateway.write_config(&text);
        eventually("it is refused", || {
            gateway.status()["config"]["error"].as_str().is_some_and(|e| e.contains(said))
                || gateway.status()["config"]["error"]
                    .as_str()
                    .is_some_and(|e| e.contains("[site]"))
        });
        assert_eq!(gateway.curl("/CCM_Client/ccmsetup.cab", &[]).status, 200, "{what}");
        gateway.write_config(&good);
        eventually("all is well again", || gateway.status()["config"]["error"].is_null());
    }
}

#[test]
fn a_host_outside_the_root_keeps_the_served_certificate() {
    // Without domains the root is created for the hosts of the first start.
    let nginx = Nginx::start();
    let mut gateway = Gateway::prepare(Plan::to(&nginx.url()));
    let good = gateway.config_text().replace("domains = [\"contoso.com\"]\n", "");
    gateway.write_config(&good);
    gateway.launch();
    gateway.wait_until_ready();
    let host = format!("\"{}\"", Gateway::HOST);
    let text = good.replace(&host, &format!("{host}, \"mp.contoso.com\""));
    gateway.write_config(&text);
    eventually("it is refused", || {
        gateway.status()["config"]["error"].as_str().is_some_and(|e| {
            e.contains("certificate.outside_root") && e.contains("docs/rollover.md")
        })
    });
    assert_eq!(gateway.curl("/CCM_Client/ccmsetup.cab", &[]).status, 200);
}

#[test]
fn check_reports_an_access_log_without_a_folder() {
    let nginx = Nginx::start();
    let gateway = Gateway::prepare(Plan::to(&nginx.url()));
    let text = gateway.config_text();
    gateway.write_config(&text.replace("\"access.log\"", "\"nowhere/access.log\""));
    let out = gateway.command(&["check"]).output().unwrap();
    let said = String::from_utf8_lossy(&out.stdout);
    assert_eq!(out.status.code(), Some(1));
    assert!(said.contains("WRONG: access: there is no folder"), "{said}");
}
