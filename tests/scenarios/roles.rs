//! Site systems of every role: where their requests go, and as what.

use std::process::Command;

use crate::support::{BINARY, Plan, Scribe, eventually};

#[test]
fn each_role_may_have_a_backend_of_its_own_on_one_address() {
    let (mp, dp, fsp) = (Scribe::start(), Scribe::start(), Scribe::start());
    let mut plan = Plan::to(&mp.url());
    plan.roles = r#"["management-point", "distribution-point", "fallback-status-point"]"#;
    let more = format!(
        "[[site_system.role_backend]]\nrole = \"distribution-point\"\nbackend = \"{}\"\n\
         [[site_system.role_backend]]\nrole = \"fallback-status-point\"\nbackend = \"{}\"\n\
         [[site_system.route]]\npath = \"/extra/\"\nrequire = \"anonymous\"\n\
         role = \"distribution-point\"\n",
        dp.url(),
        fsp.url()
    );
    let gateway = plan.after(&more).start();
    let token = gateway.token();
    for version in ["--http1.1", "--http2"] {
        for (path, args) in [
            ("/SMS_MP/.sms_aut?MPLIST", &[version][..]),
            ("/SMS_DP_SMSPKG$/PS100001/x", &[version]),
            ("/extra/x", &[version]),
            ("/SMS_FSP/.sms_fsp", &[version, "-d", "x"]),
        ] {
            assert_eq!(gateway.curl_as(&token, path, args).status, 200, "{path}");
        }
    }
    let lines = |scribe: &Scribe| scribe.lines();
    assert_eq!(lines(&mp), ["GET /SMS_MP/.sms_aut?MPLIST HTTP/1.1"; 2]);
    let of_dp = ["GET /SMS_DP_SMSPKG$/PS100001/x HTTP/1.1", "GET /extra/x HTTP/1.1"];
    assert_eq!(lines(&dp), [of_dp, of_dp].concat());
    assert_eq!(lines(&fsp), ["POST /SMS_FSP/.sms_fsp HTTP/1.1"; 2]);
    let status = gateway.status();
    let shown = &status["site_systems"][0]["role_backends"];
    assert_eq!(shown["distribution-point"], dp.url());
    // A reload sends them elsewhere.
    let other = Scribe::start();
    gateway.write_config(&gateway.config_text().replace(&dp.url(), &other.url()));
    eventually("the other backend is asked", || {
        gateway.curl("/extra/x", &[]).status == 200 && !other.lines().is_empty()
    });
}

#[test]
fn a_backend_for_a_role_that_the_site_system_has_not_is_an_error_with_its_place() {
    let gateway = crate::support::Gateway::prepare(Plan::to("http://127.0.0.1:80"));
    let text = gateway.config_text();
    for (more, wanted) in [
        ("role = \"software-update-point\"\nbackend = \"http://127.0.0.1:8530\"", "is no role of"),
        ("role = \"distribution-point\"", "backend of a role_backend is missing"),
        ("backend = \"http://127.0.0.1:8530\"", "role of a role_backend is missing"),
        ("role = \"distribution-point\"\nbackend = \"ftp://x\"", "'ftp://x' is no backend"),
        (
            "role = \"distribution-point\"\nbackend = \"http://dp.contoso.com\"",
            "forwards tokens to http://dp.contoso.com in clear",
        ),
    ] {
        gateway.write_config(&format!("{text}\n[[site_system.role_backend]]\n{more}\n"));
        let out = gateway.command(&["check"]).output().unwrap();
        let told = String::from_utf8_lossy(&out.stderr).into_owned();
        assert_eq!(out.status.code(), Some(78), "{more}: {told}");
        assert!(told.contains(wanted), "{more}: {told}");
    }
}

#[test]
fn a_role_is_explained_in_text_and_in_json() {
    let run = |args: &[&str]| {
        let out = Command::new(BINARY).args(["config", "explain"]).args(args).output().unwrap();
        (out.status.code(), String::from_utf8(out.stdout).unwrap())
    };
    let (code, text) = run(&["software-update-point"]);
    assert_eq!(code, Some(0));
    assert!(text.starts_with("sup-client                   /clientwebservice/\n    anonymous\n"));
    assert!(text.ends_with("Every other path is denied.\n"));
    assert!(text.lines().all(|line| line.len() <= 80), "{text}");
    let (_, json) = run(&["management-point", "--format", "json"]);
    let routes: serde_json::Value = serde_json::from_str(&json).unwrap();
    let poll = routes.as_array().unwrap().iter().find(|r| r["name"] == "mp-notification").unwrap();
    assert_eq!(poll["answer_seconds"], 1200);
    assert_eq!(poll["purposes"], serde_json::json!(["client"]));
    let (_, all) = run(&[]);
    for role in sitegate::route::Role::ALL {
        assert!(all.contains(&format!("# {}\n", role.as_str())), "{role:?}");
    }
    assert_eq!(run(&["management-pont"]).0, Some(1));
}
