//! HTTPS client for the site servers: mutual TLS with the gateway's own certificate, failover from
//! one server to the next.
//!
//! Follows no redirect, uses no proxy, and trusts only the site's roots.

use std::time::Duration;

use jiff::Timestamp;
use reqwest::{Client, Method, Response, StatusCode, header, redirect};
use rustls::ClientConfig;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::super::fetch::of_tls;
use crate::gzip;
use crate::site::server::{JoinAnswer, JoinRequest, PATH};
use crate::token::BUNDLE_BYTES_MAX;

const CONNECT_TIME: Duration = Duration::from_secs(3);
/// The timeout of everything but a poll.
const ANSWER_TIME: Duration = Duration::from_secs(20);
/// Longer than a site server holds a poll open.
const POLL_TIME: Duration = Duration::from_secs(60);
const ANSWER_BYTES_MAX: usize = 1024 * 1024;

/// Why a request to the site servers failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LinkError {
    /// No site server answers.
    #[error("no site server answers: {0}")]
    Away(String),
    /// A server's identity is not the expected one.
    #[error(
        "{0} is not a site server of this site: its root key is not the one that this gateway \
         trusts"
    )]
    Stranger(String),
    /// Its certificate has expired, or one of the two clocks is wrong.
    #[error(
        "{0} shows a certificate that is not valid at this machine's time ({1}): compare the clocks \
         (timedatectl)"
    )]
    Clock(String, &'static str),
    /// There is no join token.
    #[error("this gateway has no join token for the site: {0}")]
    JoinToken(String),
    /// The site server refuses the request.
    #[error("the site server refuses ({code}): {words}")]
    Refused {
        /// The refusal code.
        code: String,
        /// The text of the refusal.
        words: String,
    },
    /// The response is not valid.
    #[error("the site server's response is not valid: {0}")]
    Malformed(&'static str),
}

/// The bundle that a gateway has, for a poll.
#[derive(Clone, Copy, Debug)]
pub struct HeldBundle<'a> {
    /// Its version; 0 for none.
    pub version: u64,
    /// The link of the chain there.
    pub chain: &'a str,
    /// Whether a whole bundle with its deltas is asked for, at once.
    pub asks_whole: bool,
}

/// A client for the first of the site's servers that answers.
#[derive(Clone)]
pub struct Link {
    client: Client,
    servers: Vec<String>,
}

impl Link {
    /// A client for these servers, in this order.
    ///
    /// # Errors
    /// If the client cannot be built.
    pub fn new(servers: Vec<String>, tls: ClientConfig) -> Result<Self, LinkError> {
        let client = Client::builder()
            .tls_backend_preconfigured(tls)
            .https_only(true)
            .redirect(redirect::Policy::none())
            .no_proxy()
            .http1_only()
            .referer(false)
            .connect_timeout(CONNECT_TIME)
            .tcp_keepalive(Duration::from_secs(15))
            .pool_idle_timeout(Duration::from_secs(30))
            .user_agent(concat!("sitegate/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| LinkError::Away(error.to_string()))?;
        Ok(Link { client, servers })
    }

    /// The servers, the one that answered last first.
    pub fn servers(&self) -> &[String] {
        &self.servers
    }

    /// Polls for the documents after a version, one in each line: `None` if there was none before
    /// the poll ended. `said` receives the site server's time, whatever the response.
    ///
    /// # Errors
    /// Why the poll failed.
    pub async fn bundle(
        &mut self,
        asked: &HeldBundle<'_>,
        len_max: usize,
        said: impl FnOnce(Timestamp),
    ) -> Result<Option<String>, LinkError> {
        let HeldBundle { version, chain, asks_whole } = asked;
        let path = format!("{PATH}/bundle?held={version}&chain={chain}&whole={asks_whole}");
        let asked = |client: &Client, url| {
            client.get(url).timeout(POLL_TIME).header(header::ACCEPT_ENCODING, "gzip")
        };
        let answer = self.first(asked, &path).await?;
        if let Some(time) = time_of(&answer) {
            said(time);
        }
        if answer.status() == StatusCode::NOT_MODIFIED {
            return Ok(None);
        }
        let encoding = answer.headers().get(header::CONTENT_ENCODING).cloned();
        let body = good(answer, len_max).await?;
        let body = match encoding.as_ref().map(|name| name.as_bytes()) {
            None => body,
            Some(b"gzip") => {
                let content = gzip::decompress(&body, len_max);
                let content = content
                    .map_err(|_| LinkError::Malformed("the compressed content is damaged"))?;
                content.ok_or(LinkError::Malformed("it is too large"))?
            }
            Some(_) => {
                return Err(LinkError::Malformed("another content coding than was asked for"));
            }
        };
        String::from_utf8(body).map(Some).map_err(|_| LinkError::Malformed("no text"))
    }

    /// Sends a request and reads the response.
    ///
    /// # Errors
    /// Why it failed.
    pub async fn ask<Q: Serialize, A: DeserializeOwned>(
        &mut self,
        what: &str,
        question: &Q,
    ) -> Result<A, LinkError> {
        let body = self.post(what, question, ANSWER_BYTES_MAX).await?;
        serde_json::from_slice(&body).map_err(|_| LinkError::Malformed("not the JSON expected"))
    }

    /// Joins the site.
    ///
    /// # Errors
    /// Why it failed.
    pub async fn join(&mut self, question: &JoinRequest) -> Result<JoinAnswer, LinkError> {
        // The bundle as text in JSON, where no character of it is escaped.
        let body = self.post("join", question, BUNDLE_BYTES_MAX + 1024).await?;
        serde_json::from_slice(&body).map_err(|_| LinkError::Malformed("not the JSON expected"))
    }

    /// Sends a message that has no response body.
    ///
    /// # Errors
    /// Why it was not accepted.
    pub async fn tell<Q: Serialize>(&mut self, what: &str, told: &Q) -> Result<(), LinkError> {
        self.post(what, told, ANSWER_BYTES_MAX).await.map(drop)
    }

    /// Sends the bundle in force to a site server that does not know it.
    ///
    /// # Errors
    /// Why it was not accepted.
    pub async fn show(&mut self, held: &HeldBundle<'_>, bundle: &str) -> Result<(), LinkError> {
        let asked = |client: &Client, url: String| {
            let request = client.post(url).timeout(POLL_TIME);
            request.header(header::CONTENT_TYPE, "application/jose").body(bundle.to_owned())
        };
        let path = format!("{PATH}/held?held={}&chain={}", held.version, held.chain);
        let answer = self.first(asked, &path).await?;
        good(answer, ANSWER_BYTES_MAX).await.map(drop)
    }

    async fn post<Q: Serialize>(
        &mut self,
        what: &str,
        said: &Q,
        len_max: usize,
    ) -> Result<Vec<u8>, LinkError> {
        let body = serde_json::to_vec(said).map_err(|_| LinkError::Malformed("not sent"))?;
        let asked = |client: &Client, url: String| {
            let request = client.post(url).timeout(ANSWER_TIME);
            request.header(header::CONTENT_TYPE, "application/json").body(body.clone())
        };
        let answer = self.first(asked, &format!("{PATH}/{what}")).await?;
        good(answer, len_max).await
    }

    /// Forwards a client's request to the token service and returns its response.
    ///
    /// # Errors
    /// [`LinkError::Away`] if no server answers.
    pub async fn forward(
        &self,
        method: Method,
        endpoint: &str,
        fields: header::HeaderMap,
        body: Vec<u8>,
    ) -> Result<Response, LinkError> {
        let asked = |client: &Client, url: String| {
            let request = client.request(method.clone(), url).timeout(ANSWER_TIME);
            request.headers(fields.clone()).body(body.clone())
        };
        self.clone().first(asked, &format!("{PATH}/token-service/{endpoint}")).await
    }

    /// The response of the first server that answers. A server that fails moves to the end of the
    /// list.
    async fn first(
        &mut self,
        asked: impl Fn(&Client, String) -> reqwest::RequestBuilder,
        path: &str,
    ) -> Result<Response, LinkError> {
        let mut last = LinkError::Away("there is none".to_owned());
        for _ in 0..self.servers.len() {
            let Some(server) = self.servers.first().cloned() else { break };
            match asked(&self.client, format!("{server}{path}")).send().await {
                // A server without its store, or one that is shutting down, knows nothing that
                // another would not.
                Ok(answer) if is_away(&answer) => {
                    last = LinkError::Away(format!("{server} answers {}", answer.status()));
                }
                Ok(answer) => return Ok(answer),
                Err(error) => last = judge(&server, &error),
            }
            self.servers.rotate_left(1);
        }
        Err(last)
    }
}

/// The server's time of a response, from its `Date` header (RFC 9110 §6.6.1).
fn time_of(answer: &Response) -> Option<Timestamp> {
    let date = answer.headers().get(header::DATE)?.to_str().ok()?;
    Some(jiff::fmt::rfc2822::parse(date).ok()?.timestamp())
}

fn is_away(answer: &Response) -> bool {
    let status = answer.status();
    status.is_server_error() && status != StatusCode::NOT_IMPLEMENTED
}

async fn good(answer: Response, len_max: usize) -> Result<Vec<u8>, LinkError> {
    let status = answer.status();
    let limit = if status.is_success() { len_max } else { 16 * 1024 };
    let body = bounded(answer, limit).await?;
    if status.is_success() {
        return Ok(body);
    }
    let said: serde_json::Value = serde_json::from_slice(&body).unwrap_or_default();
    let text = |name: &str| {
        let text = said.get(name).and_then(|value| value.as_str()).unwrap_or_default();
        text.chars().take(200).filter(|c| (' '..='~').contains(c)).collect::<String>()
    };
    Err(LinkError::Refused {
        code: Some(text("code")).filter(|c| !c.is_empty()).unwrap_or_else(|| status.to_string()),
        words: text("error_description"),
    })
}

/// A whole body of at most so many bytes.
pub(super) async fn bounded(mut answer: Response, len_max: usize) -> Result<Vec<u8>, LinkError> {
    let mut body = Vec::new();
    let cut = |error: reqwest::Error| LinkError::Away(error.to_string());
    while let Some(chunk) = answer.chunk().await.map_err(cut)? {
        if body.len() + chunk.len() > len_max {
            return Err(LinkError::Malformed("it is too large"));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

fn judge(server: &str, error: &reqwest::Error) -> LinkError {
    use std::error::Error as _;
    let (mut cause, mut told) = (error.source(), error.to_string());
    while let Some(error) = cause {
        use rustls::CertificateError::{Expired, ExpiredContext, NotValidYet, NotValidYetContext};
        match of_tls(error) {
            Some(rustls::Error::InvalidCertificate(Expired | ExpiredContext { .. })) => {
                return LinkError::Clock(server.to_owned(), "expired");
            }
            Some(rustls::Error::InvalidCertificate(NotValidYet | NotValidYetContext { .. })) => {
                return LinkError::Clock(server.to_owned(), "not valid yet");
            }
            Some(rustls::Error::InvalidCertificate(_)) => {
                return LinkError::Stranger(server.to_owned());
            }
            _ => {}
        }
        told = error.to_string();
        cause = error.source();
    }
    LinkError::Away(format!("{server}: {told}"))
}
