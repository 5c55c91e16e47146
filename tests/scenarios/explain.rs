//! The output of `explain` for a code, and for a captured request.

use std::process::{Command, Output};

use serde_json::{Value, json};
use sitegate_lab::backend::SimulatedBackend;

use crate::messages::{
    LOCATION, POLICY, REGISTERS, REGISTRATION, TYPE, UPDATE_SF, asking, injected_payload, message,
};
use crate::support::{BINARY, Gateway, Plan, connect};

fn explain(args: &[&str]) -> Output {
    Command::new(BINARY).arg("explain").args(args).env("NO_COLOR", "1").output().unwrap()
}

fn said(out: &Output) -> String {
    String::from_utf8([out.stdout.clone(), out.stderr.clone()].concat()).unwrap()
}

#[test]
fn a_code_is_explained_with_its_response_causes_and_remedy() {
    insta::assert_snapshot!(said(&explain(&["token.expired"])));
    let by_phrase = explain(&["EHTTP_Token_Expired"]);
    assert_eq!(said(&by_phrase), said(&explain(&["TOKEN.EXPIRED"])));
}

#[test]
fn a_code_of_two_lists_is_explained_with_both_meanings() {
    let both = said(&explain(&["certificate.expired"]));
    assert!(both.contains("docs/denials.md") && both.contains("docs/certificates.md"), "{both}");
    assert!(both.contains("IIS would log 403.17"), "{both}");
    let thirteen = said(&explain(&["403.13"]));
    for code in ["certificate.revoked\n", "certificate.revocation_unknown\n"] {
        assert!(thirteen.contains(code), "{thirteen}");
    }
}

#[test]
fn a_code_that_is_none_is_a_wrong_usage_with_a_suggestion() {
    let out = explain(&["tokn.expired"]);
    assert_eq!(out.status.code(), Some(2));
    assert!(out.stdout.is_empty());
    insta::assert_snapshot!(
        said(&out),
        @"sitegate: there is no code 'tokn.expired'; did you mean token.expired or join.expired?"
    );
    assert!(said(&explain(&["backend_cert"])).contains("did you mean"), "a key of the file");
}

#[test]
fn all_codes_are_listed_by_family_in_80_columns_without_colours() {
    let out = explain(&[]);
    assert_eq!(out.status.code(), Some(0));
    let text = said(&out);
    assert!(text.lines().all(|line| line.chars().count() <= 80) && !text.contains('\u{1b}'));
    for heading in ["# token (docs/denials.md)", "# upstream (docs/denials.md)"] {
        assert!(text.contains(heading), "{text}");
    }
    let json: Value = serde_json::from_slice(&explain(&["--format", "json"]).stdout).unwrap();
    let missing = |entry: &&Value| entry["code"] == "certificate.missing";
    let missing = json.as_array().unwrap().iter().find(missing).unwrap();
    assert_eq!(missing["substatus"], 7);
}

/// A captured request: head and body.
fn asks(line: &str, fields: &[&str], body: &[u8]) -> Vec<u8> {
    let host = format!("Host: {}", Gateway::HOST);
    let mut head = format!("{line} HTTP/1.1\r\n{host}\r\n");
    for field in fields {
        head.push_str(&format!("{field}\r\n"));
    }
    [head.as_bytes(), b"\r\n", body].concat()
}

fn replay(gateway: &Gateway, request: &[u8], more: &[&str]) -> (Option<i32>, Value) {
    let file = gateway.path("request");
    std::fs::write(&file, request).unwrap();
    let args = [&["explain", "--format", "json", "--request", file.to_str().unwrap()], more];
    let out = gateway.command(&args.concat()).output().unwrap();
    let json = serde_json::from_slice(&out.stdout);
    (out.status.code(), json.unwrap_or_else(|_| panic!("{}", said(&out))))
}

#[test]
fn a_replayed_request_ends_as_the_running_gateway_ends_it() {
    let backend = SimulatedBackend::start().unwrap();
    let gateway = Plan::to(&format!("http://{}", backend.address())).start();
    let token = format!("Authorization: Bearer {}", gateway.token());
    let (signed, signature) = token.rsplit_once('.').unwrap();
    let other = if signature.starts_with('A') { "B" } else { "A" };
    let broken = format!("{signed}.{other}{}", &signature[1..]);
    let registration = asking(REGISTRATION, REGISTERS);
    let policy = message(POLICY, 100);
    let length = |body: &[u8]| format!("Content-Length: {}", body.len());
    let (of_registration, of_policy) = (length(&registration), length(&policy));
    let update = asking(LOCATION, UPDATE_SF);
    let injected = asking(LOCATION, &injected_payload());
    let (of_update, of_injected) = (length(&update), length(&injected));
    let post = "CCM_POST /ccm_system/request";
    let cases: Vec<(Vec<u8>, &str)> = vec![
        (asks("GET /SMS_MP/.sms_aut?MPLIST", &[], b""), ""),
        (asks("GET /CCM_Client/x.cab", &["X-Forwarded-For: 1.2.3.4", "Range: bytes=0-1"], b""), ""),
        (asks("GET /SMS_MP/.sms_pol?x", &[&token], b""), ""),
        (asks(post, &[TYPE, &of_registration], &registration), ""),
        (asks(post, &[TYPE, &of_policy], &policy), "token.missing"),
        (asks(post, &[TYPE, &of_policy, &token], &policy), ""),
        (asks(post, &[TYPE, &of_update], &update), "message.request"),
        (asks(post, &[TYPE, &of_update, &token], &update), ""),
        (asks(post, &[TYPE, &of_injected], &injected), "message.payload"),
        (asks("GET /SMS_MP/.sms_aut?MPKEYINFORMATIONMEDIA", &[], b""), "route.query"),
        (asks("GET /SMS_MP/.sms_aut?MPLIST%31", &[], b""), "path.query"),
        (asks("GET /CCM_Incoming/x", &[&token], b""), "route.method"),
        (asks("GET /SMS_MP/.sms_pol?x", &[], b""), "token.missing"),
        (asks("GET /SMS_MP/.sms_pol?x", &[&broken], b""), "token.signature"),
        (asks("GET /SMS_MP/.sms_pol?x", &[&token, &token], b""), "token.ambiguous"),
        (asks("GET /nowhere", &[], b""), "route.unknown"),
        (asks("DELETE /CCM_Client/x.cab", &[], b""), "route.method"),
        (asks("GET /SMS_MP/%2e%2e/x", &[], b""), "path.ambiguous"),
        (
            asks("GET /x", &["Content-Length: 1", "Transfer-Encoding: chunked"], b""),
            "framing.length_and_coding",
        ),
        (asks("TRACE /CCM_Client/x", &[], b""), "framing.method"),
        (asks("GET /x", &["Host: other"], b""), "host.invalid"),
        (
            asks("CCM_POST /CCM_System_WindowsAuth/request", &["Content-Length: 0"], b""),
            "route.windows_auth",
        ),
        (asks("GET /SMS_MP_AltAuth/.sms_aut?MPLIST", &[], b""), "route.alt_auth"),
        (
            asks("GET /CCM_Client/x", &["Upgrade: h2c", "Connection: upgrade"], b""),
            "framing.upgrade",
        ),
    ];
    for (request, wanted) in cases {
        let shown = String::from_utf8_lossy(&request[..60.min(request.len())]).into_owned();
        let before = backend.count();
        let (exit, told) = replay(&gateway, &request, &[]);
        assert_eq!(backend.count(), before, "a replay leaves no byte at the backend");
        let refused = if wanted.is_empty() { Value::Null } else { json!(wanted) };
        assert_eq!(
            (&told["code"], exit == Some(0)),
            (&refused, wanted.is_empty()),
            "{shown}: {told}"
        );
        let mut wire = connect(&gateway);
        wire.send(&request);
        let (status, body) = wire.read_answer();
        let real: Value = serde_json::from_slice(&body).unwrap_or_default();
        match wanted {
            "" => {
                assert!(status < 400, "{shown}: {status}");
                let seen = backend.last().unwrap();
                assert_eq!(told["target"], seen.target);
                for (name, value) in seen.fields {
                    let same =
                        |added: &&Value| added[0].as_str().unwrap().eq_ignore_ascii_case(&name);
                    let added = told["added"].as_array().unwrap().iter().find(same);
                    assert_eq!(added.unwrap_or_else(|| panic!("{name}: {told}"))[1], value);
                }
            }
            code => assert_eq!(real["code"], code, "{shown}"),
        }
    }
}

#[test]
fn a_replay_explains_each_step_and_never_shows_the_token() {
    let gateway = Plan::to("http://127.0.0.1:1").start();
    let token = gateway.token();
    let request = asks(
        "GET /SMS_MP_TokenAuth/.sms_pol?x",
        &[&format!("Authorization: Bearer {token}"), "Sitegate-Device: GUID:0", "X.Y: z"],
        b"",
    );
    // As saved by an editor.
    let text = String::from_utf8(request).unwrap().replace("\r\n", "\n");
    let file = gateway.path("request.txt");
    std::fs::write(&file, text.trim_end()).unwrap();
    let file = file.to_str().unwrap();
    let out = gateway.command(&["explain", "--request", file]).output().unwrap();
    let told = said(&out);
    let signature = token.rsplit('.').next().unwrap();
    assert!(!told.contains(signature), "{told}");
    for wanted in [
        "bare line feeds",
        "one reading: GET by HTTP/1.1",
        "is a host of mp01",
        "routes see /sms_mp_tokenauth/.sms_pol",
        "aud: urn:sccm:service",
        "exp: ",
        "a client token of site, verified; device",
        "removed      Sitegate-Device, X.Y\n",
        "Sitegate-Device: GUID:11111111",
        "to http://127.0.0.1:1 as GET /SMS_MP_TokenAuth/.sms_pol?x",
    ] {
        assert!(told.contains(wanted), "'{wanted}' is not in\n{told}");
    }
    // Long after the token has expired.
    let late = ["explain", "--now", "2040-01-01T00:00:00Z", "--request", file];
    let out = gateway.command(&late).output().unwrap();
    assert_eq!(out.status.code(), Some(1));
    assert!(said(&out).contains("401 token.expired: The token has expired."), "{}", said(&out));
    let elsewhere = ["explain", "--server-name", "dp09.contoso.com", "--request", file];
    let told = said(&gateway.command(&elsewhere).output().unwrap());
    assert!(told.contains("is a host of mp01"), "the only site system is meant by all names");
}

#[test]
fn a_plain_http_replay_selects_the_site_system_by_host() {
    let plain = |mode: &str| {
        format!("[site_system.plain_http]\nlisten = \"127.0.0.1:80\"\nmode = \"{mode}\"\n")
    };
    let second = format!(
        "{}[[site_system]]\nname = \"dp01\"\nroles = [\"distribution-point\"]\n\
         listen = \"127.0.0.2:443\"\nhosts = [\"dp01.contoso.com\"]\n\
         backend = \"http://127.0.0.1:81\"\n{}",
        plain("pass"),
        plain("refuse")
    );
    let gateway = Gateway::prepare(Plan::to("http://127.0.0.1:1").after(&second));
    let ask = |host: &str, more: &[&str]| {
        let request = format!("GET /SMS_DP_SMSPKG$/x HTTP/1.1\r\nHost: {host}\r\n\r\n");
        let (_, told) = replay(&gateway, request.as_bytes(), &[&["--clear"], more].concat());
        (told["site_system"].as_str().unwrap().to_owned(), told["code"].clone())
    };
    assert_eq!(ask(Gateway::HOST, &[]), ("mp01".to_owned(), Value::Null));
    assert_eq!(ask("DP01.contoso.com.", &[]).0, "dp01");
    assert_eq!(ask("dp01.contoso.com", &["--site-system", "mp01"]).1, "clear.refused");
    assert_eq!(ask("mp01", &["--site-system", "dp01"]), ("mp01".to_owned(), Value::Null));
    assert_eq!(ask("other.example", &[]).1, "host.misdirected");
}

#[test]
fn a_plain_http_message_is_replayed_like_one_over_tls() {
    let plan = Plan::to("http://127.0.0.1:1")
        .unguarded()
        .after("[site_system.plain_http]\nlisten = \"127.0.0.1:80\"\nmode = \"pass\"\n");
    let gateway = Gateway::prepare(plan);
    for (body, code) in [
        (message(POLICY, 100), ""),
        (asking(REGISTRATION, REGISTERS), ""),
        (asking(LOCATION, UPDATE_SF), "message.request"),
        (asking(LOCATION, &injected_payload()), "message.payload"),
        (b"no message".to_vec(), "message.malformed"),
    ] {
        let length = format!("Content-Length: {}", body.len());
        let request = asks("CCM_POST /ccm_system/request", &[TYPE, &length], &body);
        let (_, told) = replay(&gateway, &request, &["--clear"]);
        assert_eq!(told["code"].as_str().unwrap_or_default(), code, "{told}");
    }
}

#[test]
fn a_replayed_body_is_what_the_wire_would_have_of_it() {
    let gateway = Gateway::prepare(Plan::to("http://127.0.0.1:1"));
    let post = "CCM_POST /ccm_system/request";
    let registration = asking(REGISTRATION, REGISTERS);
    let length = |bytes: usize| format!("Content-Length: {bytes}");
    let sent = |field: &str, body: &[u8]| {
        let (_, told) = replay(&gateway, &asks(post, &[TYPE, field], body), &[]);
        let of_message = |step: &&Value| step[0] == "message";
        let says = told["steps"].as_array().unwrap().iter().find(of_message).cloned();
        let says = says.map_or(told["detail"].to_string(), |step| step[1].to_string());
        (told["code"].clone(), says)
    };
    let whole = sent(&length(registration.len()), &registration);
    assert_eq!(whole.0, Value::Null, "{whole:?}");
    // The bytes after a body belong to another request.
    let more = [&registration[..], b"GET / HTTP/1.1\r\n"].concat();
    assert_eq!(sent(&length(registration.len()), &more), whole);
    let (code, says) = sent("Transfer-Encoding: chunked", &registration);
    assert!(code == "token.missing" && says.contains("in chunks"), "{code} {says}");
    let (code, says) = sent(&length(registration.len() + 1), &registration);
    assert!(code == "token.missing" && says.contains("does not have all of it"), "{code} {says}");
    // An empty message is read, and is malformed.
    let (code, says) = sent(&length(0), &registration);
    assert!(code != Value::Null && !says.contains("does not have all of it"), "{code} {says}");
    let (code, says) = sent(&length(48 * 1024 + 1), &registration);
    assert!(code == "token.missing" && says.contains("this large"), "{code} {says}");
}
