//! What the demonstration prints: the walk for reading, the table for scripts, and what to try.
//!
//! Returns text; anstream takes the colours out where nobody would see them.

use std::io::IsTerminal;
use std::net::SocketAddr;

use super::demo_site::{DP, DemoSite, MP};
use super::step::DemoStep;

const BOLD: &str = "\x1b[1m";
const GREEN: &str = "\x1b[32m";
const RED: &str = "\x1b[31m";
const DIM: &str = "\x1b[2m";
const RESET: &str = "\x1b[0m";
/// Widths of the table's columns: step, expected, seen.
const WIDTHS: [usize; 3] = [28, 38, 50];
const LINE: usize = 84;

/// What stands where.
pub(super) fn opening(stage: &DemoSite) -> String {
    let at = stage.gateway().map(|at| at.to_string()).unwrap_or_default();
    format!(
        "{BOLD}sitegate-lab demo{RESET}: everything below happens on this machine alone.\n\n  \
         client --HTTPS--> sitegate {at} --HTTP--> simulated site systems, unchanged\n    \
         {MP}  management point    {}\n    \
         {DP}  distribution point  {}\n",
        stage.mp.address(),
        stage.dp.address()
    )
}

/// One step, as it was done.
pub(super) fn step(step: &DemoStep) -> String {
    let mut text =
        format!("\n{BOLD}{:>2}  {}{RESET}  {}\n", step.number, step.title, mark(step.ok));
    for (name, what) in
        [("does", step.does.as_str()), ("expected", &step.expected), ("seen", &step.seen)]
    {
        text.push_str(&paragraph(&format!("    {name:<10}"), what));
    }
    text.push_str(DIM);
    text.push_str(&paragraph("              ", step.remark));
    text.push_str(RESET);
    text
}

/// All steps.
pub(super) fn table(steps: &[DemoStep]) -> String {
    let [title, expected, seen] = WIDTHS;
    let mut text = format!(
        "{:>2}  {:<title$}  {:<expected$}  {:<seen$}  ok\n",
        "#", "step", "expected", "seen"
    );
    for step in steps {
        let cells = [
            wrapped(step.title, title),
            wrapped(&step.expected, expected),
            wrapped(&step.seen, seen),
        ];
        let lines = cells.iter().map(Vec::len).max().unwrap_or(0);
        let cell = |column: usize, line: usize| {
            cells.get(column).and_then(|cell| cell.get(line)).map_or("", String::as_str)
        };
        for line in 0..lines {
            let (number, ok) = match line {
                0 => (step.number.to_string(), mark(step.ok)),
                _ => (String::new(), String::new()),
            };
            let (a, b, c) = (cell(0, line), cell(1, line), cell(2, line));
            let row = format!("{number:>2}  {a:<title$}  {b:<expected$}  {c:<seen$}  {ok}");
            text.push_str(row.trim_end());
            text.push('\n');
        }
    }
    let failed = steps.iter().filter(|step| !step.ok).count();
    text.push_str(&format!("{} steps, {failed} failed\n", steps.len()));
    text
}

/// What to try, now that everything runs.
pub(super) fn closing(stage: &DemoSite, steps: usize, failed: usize) -> String {
    let outcome = match failed {
        0 => format!("{GREEN}All {steps} steps came out as expected.{RESET}"),
        n => format!("{RED}{n} of {steps} steps did not come out as expected.{RESET}"),
    };
    let port = stage.gateway().map(|at| at.port()).unwrap_or_default();
    let dir = stage.path("");
    let dir = dir.display().to_string();
    let dir = dir.trim_end_matches('/');
    let status = status_command(stage.admin());
    let curl = |host: &str, more: &str, path: &str| {
        format!(
            "  curl -i --cacert {dir}/roots.pem --resolve {host}:{port}:127.0.0.1 \\\n       \
             {more}'https://{host}:{port}{path}'\n"
        )
    };
    let with = |token: &str| {
        format!("-H \"Authorization: Bearer $(cat {dir}/tokens/{token})\" \\\n       ")
    };
    let mut text = format!("\n{outcome} Everything goes on running; try:\n\n");
    text.push_str(&format!("{DIM}# open to everyone{RESET}\n"));
    text.push_str(&curl(MP, "", "/SMS_MP/.sms_aut?MPLIST"));
    text.push_str(&format!(
        "{DIM}# refused, and why (HTTP/1.1 shows the reason phrase); then with a token{RESET}\n"
    ));
    text.push_str(&curl(MP, "--http1.1 ", "/SMS_MP/.sms_pol?1"));
    text.push_str(&curl(MP, &with("device"), "/SMS_MP/.sms_pol?1"));
    text.push_str(&format!("{DIM}# other tokens: user, content, expired{RESET}\n"));
    text.push_str(&curl(
        DP,
        &format!("{}-r 0-99 -o /dev/null ", with("content")),
        "/CCMTOKENAUTH_SMS_DP_SMSPKG$/PS100012/3145999.wim",
    ));
    text.push_str(&format!(
        "{DIM}# what is served, and why{RESET}\n  {status}\n\
         {DIM}# numbers{RESET}\n  curl http://{}/metrics\n\
         {DIM}# a PKI certificate: put one there, break it, remove it{RESET}\n  \
         cp {dir}/offer/* {dir}/pki/mp01/\n\
         {DIM}# the configuration is watched; the log of requests grows{RESET}\n  \
         $EDITOR {dir}/gateway.toml\n  tail -f {dir}/access.log\n\n\
         Ctrl-C ends it and removes {dir}.\n",
        stage.metrics(),
    ));
    text
}

/// By the gateway's own program, if it was built too.
fn status_command(admin: SocketAddr) -> String {
    let program = std::env::current_exe().map(|path| path.with_file_name("sitegate"));
    match program.ok().filter(|path| path.is_file()) {
        Some(program) => format!("{} status --address {admin}", program.display()),
        None => format!("curl http://{admin}/api/v1/status"),
    }
}

/// Whether it came out as expected. Signs for people who look, words for everything else.
fn mark(ok: bool) -> String {
    let plain = !std::io::stdout().is_terminal() || std::env::var_os("NO_COLOR").is_some();
    match (ok, plain) {
        (true, true) => "ok".to_owned(),
        (false, true) => "FAILED".to_owned(),
        (true, false) => format!("{GREEN}✓{RESET}"),
        (false, false) => format!("{RED}✗{RESET}"),
    }
}

fn paragraph(name: &str, text: &str) -> String {
    let indent = name.chars().count();
    let mut out = String::new();
    for (n, line) in wrapped(text, LINE).iter().enumerate() {
        match n {
            0 => out.push_str(name),
            _ => out.push_str(&" ".repeat(indent)),
        }
        out.push_str(line);
        out.push('\n');
    }
    out
}

/// Lines of at most `width` characters, broken between words where that is possible.
fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}
