//! `explain --request`: a captured request through the rooms that judge it on the wire.
//!
//! Shows a token by its fingerprint and claims, never as it is.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io::Read as _;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, bail, ensure};
use jiff::Timestamp;
use rustls::crypto::CryptoProvider;
use rustls_pki_types::CertificateDer;
use serde::Serialize;
use serde_json::Value;

use crate::app::{bindings, policy_of};
use crate::cli::wrap::{hanging, when};
use crate::cli::{ConfigArg, FAILED, Format, load, print, print_json};
use crate::clock::Clock;
use crate::config::{Config, SiteSystem};
use crate::gateway::{Becomes, Captured, Forwarded, Replay, replay};
use crate::route::Destination;
use crate::secret::read_bounded;
use crate::token::{Blocklist, inspect};

/// More than any head that a configuration can allow.
const REQUEST_BYTES_MAX: u64 = 4 * 1024 * 1024;
const CERTIFICATE_BYTES_MAX: u64 = 1024 * 1024;
/// How far a text stands from the left that belongs to a room.
const INDENT: usize = 13;

/// What is known of the connection.
#[derive(Debug, clap::Args)]
pub(super) struct Capture {
    /// Replay a captured request instead: a file with its head and optionally its body; - is
    /// standard input.
    #[arg(long, value_name = "FILE", conflicts_with = "code")]
    request: Option<PathBuf>,
    /// The time of the request [default: now].
    #[arg(long, value_name = "TIME", requires = "request")]
    now: Option<Timestamp>,
    /// The site system whose address received the connection.
    #[arg(long, value_name = "NAME", requires = "request")]
    site_system: Option<String>,
    /// The server name (SNI) of the TLS handshake, "" for none [default: the request's Host].
    #[arg(long, value_name = "NAME", requires = "request")]
    server_name: Option<String>,
    /// The request came over plain HTTP, to the site system's plain HTTP address.
    #[arg(long, requires = "request", conflicts_with = "server_name")]
    clear: bool,
    /// The client's address.
    #[arg(long, value_name = "ADDRESS", requires = "request")]
    #[arg(default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST))]
    client: IpAddr,
    /// The certificate that the client sent, in PEM, leaf first.
    #[arg(long, value_name = "FILE", requires = "request")]
    certificate: Option<PathBuf>,
    #[command(flatten)]
    config: ConfigArg,
}

impl Capture {
    pub(super) fn is_meant(&self) -> bool {
        self.request.is_some()
    }
}

#[derive(Serialize)]
struct RequestReport {
    site_system: String,
    at: Timestamp,
    notes: Vec<String>,
    steps: Vec<(&'static str, String)>,
    claims: Option<Value>,
    decision: &'static str,
    code: Option<&'static str>,
    status: Option<u16>,
    detail: Option<String>,
    forwarded_to: Option<String>,
    method: Option<String>,
    target: Option<String>,
    removed: Vec<String>,
    added: Vec<(&'static str, String)>,
}

pub(super) fn run(
    args: &Capture,
    format: Format,
    provider: Arc<CryptoProvider>,
) -> anyhow::Result<ExitCode> {
    let config = match load(&args.config) {
        Ok(loaded) => loaded.config,
        Err(code) => return Ok(code),
    };
    let now = args.now.unwrap_or_else(|| Clock::system().now());
    let (clock, _) = Clock::manual(now);
    let bytes = read(args.request.as_deref().unwrap_or(Path::new("-")))?;
    let mut notes = Vec::new();
    let (head, body) = parts(&bytes, &mut notes);
    let certificate = certificates(args.certificate.as_deref())?;
    let name = match &args.server_name {
        Some(name) => name.clone(),
        None => host_of(&head).unwrap_or_default(),
    };
    let (system, by_default) = if args.clear {
        let host = host_of(&head).unwrap_or_default();
        (picked_in_clear(&config, args.site_system.as_deref(), &host)?, true)
    } else {
        picked(&config, args.site_system.as_deref(), &name)?
    };
    if certificate.is_empty() != args.certificate.is_none() {
        bail!("the client's certificate file holds no certificate");
    }
    if system.clients.is_none() && !certificate.is_empty() {
        notes.push(format!(
            "{} does not request client certificates: this one is ignored",
            system.name
        ));
    }
    if system.token_service {
        notes.push("blocks in the site's store are not checked".to_owned());
    }
    let policy = Arc::new(policy_of(&config, &clock, &provider)?);
    let clear = system.plain_http.as_ref().filter(|_| args.clear).map(|plain| plain.listen);
    let captured = Captured {
        site: &system.name,
        by_default,
        client: args.client,
        local: clear.unwrap_or(system.listen),
        clear,
        certificate: &certificate,
        head: &head,
        body,
    };
    let replayed = replay(&policy, &captured, now);
    let good = matches!(replayed.outcome, Becomes::Forwarded(_));
    let told = told(system, replayed, notes, now);
    match format {
        Format::Json => print_json(&told)?,
        Format::Text => print(&text(&told)?)?,
    }
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::from(FAILED) })
}

fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    if path == Path::new("-") {
        std::io::stdin().take(REQUEST_BYTES_MAX + 1).read_to_end(&mut bytes)?;
        let whole = u64::try_from(bytes.len()).is_ok_and(|len| len <= REQUEST_BYTES_MAX);
        ensure!(whole, "the request is larger than {REQUEST_BYTES_MAX} bytes");
    } else {
        let shown = || path.display().to_string();
        bytes = read_bounded(path, REQUEST_BYTES_MAX).with_context(shown)?.0.to_vec();
    }
    Ok(bytes)
}

/// Head and body. Editors save bare line feeds, which no head may have: they are mended where the
/// first line ends in one, and that is said.
fn parts<'a>(bytes: &'a [u8], notes: &mut Vec<String>) -> (Vec<u8>, &'a [u8]) {
    let at = |mark: &[u8]| bytes.windows(mark.len()).position(|window| window == mark);
    let cut = |end: usize| {
        let (head, body) = bytes.split_at_checked(end).unwrap_or((bytes, &[]));
        (head.to_vec(), body)
    };
    // The first line's end is the head's: a body has its own.
    let first = at(b"\n").and_then(|at| bytes.get(at.checked_sub(1)?));
    if first == Some(&b'\r') {
        return match at(b"\r\n\r\n") {
            Some(at) => cut(at + 4),
            None => (bytes.to_vec(), &[]),
        };
    }
    notes.push(
        "its lines end in bare line feeds, as an editor saves them; they are read as CR LF (on the \
         wire, bare line feeds are refused with framing.head)"
            .to_owned(),
    );
    let (mut head, body) = at(b"\n\n").map_or((bytes.to_vec(), &[][..]), |at| cut(at + 2));
    if !head.ends_with(b"\n\n") {
        let missing: &[u8] = if head.ends_with(b"\n") { b"\n" } else { b"\n\n" };
        head.extend_from_slice(missing);
    }
    let mended = head.iter().flat_map(|byte| match byte {
        b'\n' => b"\r\n".to_vec(),
        byte => vec![*byte],
    });
    (mended.collect(), body)
}

fn certificates(path: Option<&Path>) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let Some(path) = path else { return Ok(Vec::new()) };
    let shown = || path.display().to_string();
    let (pem, _) = read_bounded(path, CERTIFICATE_BYTES_MAX).with_context(shown)?;
    crate::pem::certificates(&pem).with_context(shown)
}

/// The name of the Host field, for want of the handshake.
fn host_of(head: &[u8]) -> Option<String> {
    let line = head
        .split(|b| *b == b'\n')
        .find(|line| line.get(..5).is_some_and(|name| name.eq_ignore_ascii_case(b"host:")))?;
    let value = String::from_utf8_lossy(line.get(5..)?).trim().to_owned();
    if value.starts_with('[') { None } else { value.split(':').next().map(str::to_owned) }
}

fn picked<'c>(
    config: &'c Config,
    site_system: Option<&str>,
    name: &str,
) -> anyhow::Result<(&'c SiteSystem, bool)> {
    let named = |wanted: &str| config.site_systems.iter().find(|system| system.name == wanted);
    let bindings = bindings(config);
    let sni = Some(name).filter(|name| !name.is_empty() && name.parse::<IpAddr>().is_err());
    let binding = match site_system {
        Some(wanted) => {
            let system =
                named(wanted).with_context(|| format!("no site system is named {wanted}"))?;
            bindings.iter().find(|binding| binding.listen == system.listen)
        }
        None => {
            let knows = |pick: crate::front::Picked<'_>| !pick.by_default;
            let by_name = bindings.iter().find(|binding| binding.pick(sni).is_some_and(knows));
            by_name.or_else(|| bindings.first().filter(|_| bindings.len() == 1))
        }
    };
    let binding = binding
        .with_context(|| format!("no site system has the name '{name}': use --site-system"))?;
    let picked = binding.pick(sni).with_context(|| {
        format!(
            "the handshake is refused: no site system on {} has the name '{name}'",
            binding.listen
        )
    })?;
    let system = named(&picked.door.site).context("the site system is not configured")?;
    Ok((system, picked.by_default))
}

/// By plain HTTP it is for whom Host names among those on its address, else for the default of these:
/// there is no handshake to say so.
fn picked_in_clear<'c>(
    config: &'c Config,
    site_system: Option<&str>,
    host: &str,
) -> anyhow::Result<&'c SiteSystem> {
    let on = |system: &'c SiteSystem| system.plain_http.as_ref().map(|plain| plain.listen);
    let all = || config.site_systems.iter().filter(|system| on(system).is_some());
    let host = host.trim_end_matches('.');
    let answers =
        |system: &&SiteSystem| system.hosts.iter().any(|own| own.eq_ignore_ascii_case(host));
    let came_to = match site_system {
        Some(wanted) => {
            let named = config.site_systems.iter().find(|system| system.name == wanted);
            let named = named.with_context(|| format!("no site system is named {wanted}"))?;
            ensure!(on(named).is_some(), "{wanted} does not listen for plain HTTP");
            on(named)
        }
        None => {
            let addresses: BTreeSet<_> = all().filter_map(on).collect();
            let only = addresses.first().filter(|_| addresses.len() == 1).copied();
            all().find(answers).and_then(on).or(only)
        }
    };
    let here = || all().filter(|system| came_to.is_some() && on(system) == came_to);
    let default = || here().find(|system| system.default).or_else(|| here().next());
    here().find(answers).or_else(default).with_context(|| {
        format!(
            "no site system that listens for plain HTTP has the name '{host}': use --site-system"
        )
    })
}

fn told(
    system: &SiteSystem,
    replayed: Replay,
    notes: Vec<String>,
    now: Timestamp,
) -> RequestReport {
    let text = replayed.token.as_deref();
    let claims =
        text.and_then(|token| inspect(token.as_bytes(), &[], &Blocklist::default(), now).claims);
    let mut told = RequestReport {
        site_system: system.name.clone(),
        at: now,
        notes,
        steps: replayed.steps.into_iter().map(|step| (step.room, step.says)).collect(),
        claims,
        decision: "forwarded",
        code: None,
        status: None,
        detail: None,
        forwarded_to: None,
        method: None,
        target: None,
        removed: Vec::new(),
        added: Vec::new(),
    };
    match replayed.outcome {
        Becomes::Refused { denial, detail } => {
            told.decision = "denied";
            (told.code, told.status) = (Some(denial.code()), Some(denial.status()));
            told.detail = detail;
        }
        Becomes::Forwarded(going) => {
            told.code = going.observed.map(|denial| denial.code());
            told.forwarded_to = Some(place(system, &going));
            told.method = Some(going.method);
            told.target = Some(going.target);
            told.removed = going.removed;
            told.added = going.added;
        }
    }
    told
}

fn place(system: &SiteSystem, going: &Forwarded) -> String {
    match going.destination {
        Destination::Backend => system.backend.url.clone(),
        Destination::TokenService => "the token service".to_owned(),
        Destination::SiteServer => "the site server".to_owned(),
        Destination::Publication => {
            "CRLs and issuer certificates of the site's authority".to_owned()
        }
        Destination::Role(role) => {
            let backend = system.role_backends.iter().find(|(of, _)| *of == role);
            backend.map_or_else(|| system.backend.url.clone(), |(_, backend)| backend.url.clone())
        }
    }
}

fn text(told: &RequestReport) -> Result<String, std::fmt::Error> {
    let mut out = String::new();
    writeln!(out, "{}, at {}", told.site_system, told.at)?;
    for note in &told.notes {
        out.push_str(&hanging("note", note, INDENT));
    }
    for (room, says) in &told.steps {
        out.push_str(&hanging(room, says, INDENT));
        if *room == "token" {
            claims(&mut out, told);
        }
    }
    match (&told.forwarded_to, told.code.and_then(crate::denial::Denial::from_code)) {
        (Some(place), _) => {
            let (method, target) = (told.method.as_deref(), told.target.as_deref());
            let (method, target) = (method.unwrap_or_default(), target.unwrap_or_default());
            out.push_str(&hanging(
                "forwarded",
                &format!("to {place} as {method} {target}"),
                INDENT,
            ));
            if !told.removed.is_empty() {
                out.push_str(&hanging("removed", &told.removed.join(", "), INDENT));
            }
            for (n, (name, value)) in told.added.iter().enumerate() {
                let first = if n == 0 { "added" } else { "" };
                out.push_str(&hanging(first, &format!("{name}: {value}"), INDENT));
            }
        }
        (None, Some(denial)) => {
            let result = format!("{} {}: {}", denial.status(), denial.code(), denial.title());
            out.push_str(&hanging("REFUSED", &result, INDENT));
            if let Some(detail) = &told.detail {
                out.push_str(&hanging("detail", detail, INDENT));
            }
            out.push_str(&hanging("to fix it", denial.hint(), INDENT));
            out.push_str(&hanging("more", &format!("sitegate explain {}", denial.code()), INDENT));
        }
        (None, None) => {}
    }
    Ok(out)
}

/// The claims as the token has them, times with their distance.
fn claims(out: &mut String, told: &RequestReport) {
    let Some(Value::Object(claims)) = &told.claims else { return };
    for (name, value) in claims {
        let time = matches!(name.as_str(), "exp" | "nbf" | "iat");
        let at = value.as_i64().filter(|_| time).and_then(|at| Timestamp::from_second(at).ok());
        let value = match (at, value) {
            (Some(at), _) => when(at, told.at),
            (None, Value::String(text)) => text.clone(),
            (None, other) => other.to_string(),
        };
        let line = format!("{name}: {value}");
        out.push_str(&hanging("", &line, INDENT));
    }
}
