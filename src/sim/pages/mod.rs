//! What a simulated site system answers to which request, in the manner of IIS.
//!
//! Enough of the real thing for a client to tell that it reached it; no decision about who may.

mod answer;
mod content;
mod messages;
mod multipart;
mod shelf;

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use http::header::{HOST, LOCATION};
use http::request::Parts;
use http::{Response, StatusCode};

pub(super) use answer::{Body, error, set};
use answer::{XML, page};
pub(super) use shelf::Shelf;

/// What is answered.
#[derive(Debug)]
pub(super) struct Site {
    /// Whether there is a management point.
    pub(super) management_point: bool,
    /// Where content comes from, if there is a distribution point.
    pub(super) shelf: Option<Shelf>,
    /// The host where content is, as the management point tells it; its own by default.
    pub(super) content_host: Option<String>,
    /// Packages whose place is not known yet, and how many times it is asked for until it is.
    pub(super) not_ready: Mutex<BTreeMap<String, u32>>,
}

const POLICY_ID: &str = "{00000000-0000-0000-0000-000000000001}.1_00";

impl Site {
    /// The answer to a request whose body was read already. `who` is whom the connection is known
    /// to be of.
    pub(super) fn answer(&self, head: &Parts, body: Bytes, who: Option<&str>) -> Response<Body> {
        // Paths have no case in IIS.
        let path = head.uri.path().to_ascii_lowercase();
        match &self.shelf {
            Some(shelf) if content::is_content(&path) => content::answer(head, shelf),
            _ if self.management_point => self.management_point(head, &path, body, who),
            _ => other(head, &path),
        }
    }

    fn management_point(
        &self,
        head: &Parts,
        path: &str,
        body: Bytes,
        who: Option<&str>,
    ) -> Response<Body> {
        let (first, rest) = path.trim_start_matches('/').split_once('/').unwrap_or((path, ""));
        let namespace = ["_tokenauth", "_altauth", "_windowsauth"]
            .iter()
            .find_map(|suffix| first.strip_suffix(suffix))
            .unwrap_or(first);
        match (head.method.as_str(), namespace, rest) {
            ("GET" | "HEAD", "sms_mp", ".sms_aut") => location(head),
            ("GET" | "HEAD", "sms_mp", ".sms_pol" | ".sms_dcm") => policy(head, who),
            ("CCM_POST", "ccm_system", "request") => self.message(head, body),
            ("GET" | "HEAD", "ccm_client", _) => content::client_package(head, path),
            (_, "ccm_sts", _) => page(
                "application/json",
                "{\"access_token\":\"simulated\",\"token_type\":\"bearer\"}",
            ),
            (_, "cmuserservice", _) => page(XML, "<Applications><Application/></Applications>"),
            ("BITS_POST", "ccm_incoming", _) => {
                let mut accepted = page("text/plain", "");
                set(&mut accepted, http::HeaderName::from_static("bits-packet-type"), "Ack");
                accepted
            }
            // The wait was before.
            (_, "bgb", _) => page(XML, "<BgbResponse/>"),
            (_, "sms_fsp", _) => page("text/plain", ""),
            _ => other(head, path),
        }
    }

    /// How often a package's place is still unknown; one less the next time.
    fn is_not_ready(&self, package: &str) -> bool {
        let mut all = self.not_ready.lock().unwrap_or_else(PoisonError::into_inner);
        match all.get_mut(&package.to_ascii_lowercase()) {
            Some(left) if *left > 0 => {
                *left -= 1;
                true
            }
            _ => false,
        }
    }
}

/// Another application on the same web server, of which no role but reporting's own knows.
fn other(head: &Parts, path: &str) -> Response<Body> {
    match (head.method.as_str(), path) {
        ("GET" | "HEAD", "/reports" | "/reports/") => {
            // As web applications behind IIS do it: absolute, and by the scheme that they see.
            let mut moved = error(StatusCode::FOUND);
            set(&mut moved, LOCATION, &format!("http://{}/Reports/browse/", host(head)));
            moved
        }
        ("GET" | "HEAD", p) if p.starts_with("/reports/") => {
            let link = format!("<a href=\"http://{}/Reports/daily.html\">Daily</a>", host(head));
            page("text/html", &format!("<h1>Reports</h1>{link}"))
        }
        _ => error(StatusCode::NOT_FOUND),
    }
}

fn location(head: &Parts) -> Response<Body> {
    let query = head.uri.query().unwrap_or_default().to_ascii_lowercase();
    let asked = host(head);
    let name = asked.rsplit_once(':').map_or(asked, |(name, _)| name);
    if query.starts_with("mplist") || query.is_empty() {
        let short = name.split('.').next().unwrap_or(name).to_ascii_uppercase();
        let text = format!(
            "<MPList><MP Name=\"{short}\" FQDN=\"{name}\"><Version>9128</Version>\
             <Capabilities SchemaVersion=\"1.0\"><Property Name=\"SSLState\" Value=\"0\"/>\
             </Capabilities></MP></MPList>"
        );
        return page(XML, &text);
    }
    page(XML, "<Location/>")
}

fn policy(head: &Parts, who: Option<&str>) -> Response<Body> {
    let id = head.uri.query().unwrap_or(POLICY_ID);
    let (id, version) = id.split_once('.').unwrap_or((id, "1_00"));
    let id: String =
        id.chars().filter(|c| c.is_ascii_alphanumeric() || "{}-".contains(*c)).collect();
    let version: String = version.chars().filter(char::is_ascii_digit).collect();
    let who = who.map(|who| format!("<Account>{who}</Account>")).unwrap_or_default();
    let text = format!(
        "<?xml version=\"1.0\"?><Policy PolicyType=\"Machine\" PolicyID=\"{id}\" \
         PolicyVersion=\"{version}\"><PolicyRule PolicyRuleID=\"{{1}}\"/>{who}</Policy>"
    );
    page(XML, &text)
}

/// The host that was asked for, as it was asked for.
fn host(head: &Parts) -> &str {
    head.headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or("localhost")
}
