//! `config explain`: what roles open.

use std::process::ExitCode;
use std::sync::Arc;

use anyhow::bail;
use rustls::crypto::CryptoProvider;
use serde::Serialize;

use super::Format;
use crate::route::{Role, Route, TokenHandling, Translation, preset};

/// `config`
#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Show what a role opens, to which clients, and why.
    Explain(Args),
    /// Show what another file would change, and which changes need a restart.
    Diff(super::diff::Args),
}

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The role, as in the configuration's `roles` [default: all].
    #[arg(value_name = "ROLE")]
    role: Option<String>,
    /// How it is written.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// A route as JSON.
#[derive(Serialize)]
struct ExplainedRole {
    role: &'static str,
    name: String,
    path: String,
    methods: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    queries: Option<Vec<String>>,
    /// The queries that are for the networks of `alt_auth`.
    #[serde(skip_serializing_if = "Option::is_none")]
    media_queries: Option<&'static [&'static str]>,
    require: &'static str,
    purposes: Vec<&'static str>,
    token: &'static str,
    body_bytes: Option<u64>,
    /// What the namespace becomes with `upstream = "translate"`.
    #[serde(skip_serializing_if = "Option::is_none")]
    translated: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    answer_seconds: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    requests_per_minute: Option<u32>,
    reason: String,
}

impl ExplainedRole {
    fn of(role: Role, route: &Route) -> Self {
        ExplainedRole {
            role: role.as_str(),
            name: route.name.to_string(),
            path: route.pattern.to_string(),
            methods: route.methods.iter().map(ToString::to_string).collect(),
            queries: route
                .queries
                .as_ref()
                .map(|queries| queries.open.iter().map(ToString::to_string).collect()),
            media_queries: route.queries.as_ref().map(|queries| queries.media),
            require: route.requirement.as_str(),
            purposes: route.purposes.iter().map(|purpose| purpose.as_str()).collect(),
            token: match route.token {
                TokenHandling::Strip => "strip",
                TokenHandling::Forward => "forward",
            },
            body_bytes: route.body_bytes,
            translated: Translation::of(&route.pattern).map(Translation::namespace),
            answer_seconds: route.answer_time.map(|time| time.as_secs()),
            requests_per_minute: route.requests_per_minute.map(Into::into),
            reason: route.reason.to_string(),
        }
    }
}

pub(super) fn run(command: Command, provider: Arc<CryptoProvider>) -> anyhow::Result<ExitCode> {
    let args = match command {
        Command::Explain(args) => args,
        Command::Diff(args) => return super::diff::run(&args, provider),
    };
    let roles = match args.role.as_deref() {
        None => Role::ALL.to_vec(),
        Some(name) => match Role::from_name(name) {
            Some(role) => vec![role],
            None => bail!(
                "there is no role '{name}'; known: {}",
                Role::ALL.map(Role::as_str).join(", ")
            ),
        },
    };
    let routes: Vec<(Role, Route)> = roles
        .iter()
        .flat_map(|role| preset(*role).into_iter().map(|route| (*role, route)))
        .collect();
    match args.format {
        Format::Json => {
            let all: Vec<_> =
                routes.iter().map(|(role, route)| ExplainedRole::of(*role, route)).collect();
            super::print_json(&all)?;
        }
        Format::Text => super::print(&text(&roles, &routes))?,
    }
    Ok(ExitCode::SUCCESS)
}

fn text(roles: &[Role], routes: &[(Role, Route)]) -> String {
    let mut text = String::new();
    for role in roles {
        if roles.len() > 1 {
            text.push_str(&format!("# {}\n\n", role.as_str()));
        }
        for (_, route) in routes.iter().filter(|(of, _)| of == role) {
            text.push_str(&format!("{route}\n"));
        }
    }
    text.push_str("Every other path is denied.\n");
    text
}
