//! The responses of a simulated site system, in the manner of IIS.
//!
//! Enough of the real thing for a client to recognize it; makes no authorization decisions.

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

pub(super) use answer::{SimBody, error, set};
use answer::{XML, page};
pub(super) use shelf::Shelf;

/// The simulated roles and their data.
#[derive(Debug)]
pub(super) struct SimulatedSite {
    /// Whether there is a management point.
    pub(super) management_point: bool,
    /// The source of content, if there is a distribution point.
    pub(super) shelf: Option<Shelf>,
    /// The content host that the management point names; its own by default.
    pub(super) content_host: Option<String>,
    /// Packages without a known location yet, and how many requests until they have one.
    pub(super) not_ready: Mutex<BTreeMap<String, u32>>,
}

const POLICY_ID: &str = "{00000000-0000-0000-0000-000000000001}.1_00";

impl SimulatedSite {
    /// The response to a request with an already read body. `who` is the authenticated user of the
    /// connection.
    pub(super) fn answer(&self, head: &Parts, body: Bytes, who: Option<&str>) -> Response<SimBody> {
        // Paths are case-insensitive in IIS.
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
    ) -> Response<SimBody> {
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
            // The wait has already happened.
            (_, "bgb", _) => page(XML, "<BgbResponse/>"),
            (_, "sms_fsp", _) => page("text/plain", ""),
            _ => other(head, path),
        }
    }

    /// Whether a package's location is still unknown; counts down.
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

/// Another application on the same web server, which only the reporting role knows.
fn other(head: &Parts, path: &str) -> Response<SimBody> {
    match (head.method.as_str(), path) {
        ("GET" | "HEAD", "/reports" | "/reports/") => {
            // As web applications behind IIS do it: absolute, with the scheme that they see.
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

fn location(head: &Parts) -> Response<SimBody> {
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

fn policy(head: &Parts, who: Option<&str>) -> Response<SimBody> {
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

/// The requested host, unchanged.
fn host(head: &Parts) -> &str {
    head.headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or("localhost")
}
