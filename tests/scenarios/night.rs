//! What an administrator can still do while the file has a mistake, or is gone, and the gateway works.

use crate::support::{DEVICE, Gateway, Nginx, Plan, eventually};

type Spoil = fn(&Gateway);

/// What is done to the files of a gateway that works.
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
fn tools_work_while_the_file_is_broken_and_say_what_is_wrong_with_it() {
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
