//! Steps about the configuration and the numbers: what is changed, and what stays.

use std::collections::BTreeMap;

use anyhow::Context;
use sitegate::secret::write_public;

use super::demo_site::{DemoSite, MP};
use super::requests::code_of;
use super::step::{StepOutcome, StepText, until};
use crate::SimRequest;

const REPORTS: &str = "/reports/daily.html";
const ROUTE: &str = "
[[site_system.route]]
path = \"/reports/\"
require = \"anonymous\"
rewrite_links = true
";
const RELOADED: &str = "sitegate_config_last_reload_successful";

pub(super) const RELOAD: StepText = StepText {
    title: "a changed configuration",
    does: "add a route for /reports/ to gateway.toml while a connection stands idle",
    expected: "403 route.unknown before, 200 after, on one and the same connection",
    remark: "What no route names is denied. The file is watched; a reload closes no connection, and \
             the next request on it is judged by the new configuration.",
};

pub(super) async fn reload(stage: &mut DemoSite) -> anyhow::Result<StepOutcome> {
    let mut idle = stage.client(MP)?;
    let before = idle.fetch(&SimRequest::get(REPORTS)).await?;
    let text = read_config(stage)?;
    write_config(stage, &format!("{text}{ROUTE}"))?;
    let mut other = stage.client(MP)?;
    until("the new route", async || {
        let answer = other.fetch(&SimRequest::get(REPORTS)).await?;
        Ok((answer.status == 200).then_some(()))
    })
    .await?;
    let after = idle.fetch(&SimRequest::get(REPORTS)).await?;
    let code = code_of(&before);
    let seen = format!(
        "{} {code}, then {} on {} connection",
        before.status,
        after.line(),
        if after.reused { "the same" } else { "ANOTHER" }
    );
    Ok(StepOutcome { seen, ok: code == "route.unknown" && after.status == 200 && after.reused })
}

pub(super) const BROKEN: StepText = StepText {
    title: "a broken configuration",
    does: "misspell hosts in gateway.toml, look, and mend it",
    expected: "the old one stays in force; status names line and column; the metric says 0, and 1 \
               when it is mended",
    remark: "'sitegate check' says the same before you save. sitegate_config_last_reload_successful \
             == 0 is worth an alert: a restart would not come up with such a file.",
};

pub(super) async fn broken(stage: &mut DemoSite) -> anyhow::Result<StepOutcome> {
    let text = read_config(stage)?;
    let place = text.rfind("hosts =").context("the configuration has no hosts")?;
    let (good, rest) = text.split_at(place);
    let line = good.matches('\n').count() + 1;
    write_config(stage, &format!("{good}{}", rest.replacen("hosts", "hots", 1)))?;
    let error = until("the error", async || Ok(stage.status()?.config.error)).await?;
    let metric = gauge(&stage.scrape()?, RELOADED);
    let still = stage.client(MP)?.fetch(&SimRequest::get(REPORTS)).await?;
    write_config(stage, &text)?;
    until("the mended one", async || Ok(stage.status()?.config.current.then_some(()))).await?;
    let mended = gauge(&stage.scrape()?, RELOADED);
    // Every error of the file is told; the one about the misspelt word is ours.
    let ours = error.lines().find(|line| line.contains("'hots'")).unwrap_or(&error);
    let told = ours.rsplit('/').next().unwrap_or(ours);
    let seen = format!(
        "{told}; metric {}; requests go on ({}); mended: metric {}",
        shown(metric),
        still.status,
        shown(mended)
    );
    let placed = told.starts_with(&format!("gateway.toml:{line}:1: "));
    let metrics = metric == Some(0.0) && mended == Some(1.0);
    Ok(StepOutcome { seen, ok: placed && metrics && still.status == 200 })
}

pub(super) const METRICS: StepText = StepText {
    title: "what was counted",
    does: "scrape /metrics",
    expected: "the refusals of this walk by reason, and the changes of certificate",
    remark: "Labels come from closed lists and from your configuration, never from a client.",
};

pub(super) async fn metrics(stage: &mut DemoSite) -> anyhow::Result<StepOutcome> {
    let text = stage.scrape()?;
    let denials = sums(&text, "sitegate_denials_total", "reason");
    let swaps = sums(&text, "sitegate_certificate_swaps_total", "cause");
    let wanted = ["token.missing", "token.expired", "token.issuer", "user.token_required"];
    let told = |sums: &BTreeMap<String, f64>| {
        let each: Vec<_> = sums.iter().map(|(name, count)| format!("{name} {count}")).collect();
        each.join(", ")
    };
    let seen = format!("refused: {}; certificates: {}", told(&denials), told(&swaps));
    let counted = wanted.iter().all(|reason| denials.get(*reason).is_some_and(|n| *n >= 1.0));
    let swapped = ["pki-fit", "site-issued-no-pki"].iter().all(|cause| swaps.contains_key(*cause));
    Ok(StepOutcome { seen, ok: counted && swapped })
}

fn read_config(stage: &DemoSite) -> anyhow::Result<String> {
    Ok(std::fs::read_to_string(stage.path("gateway.toml"))?)
}

fn write_config(stage: &DemoSite, text: &str) -> std::io::Result<()> {
    write_public(&stage.path("gateway.toml"), text.as_bytes())
}

fn gauge(scrape: &str, name: &str) -> Option<f64> {
    let found = scrape.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    found.and_then(|value| value.parse().ok())
}

fn shown(value: Option<f64>) -> String {
    value.map_or("missing".to_owned(), |value| value.to_string())
}

/// The sums of a counter by one of its labels; what is zero is left out.
fn sums(scrape: &str, name: &str, label: &str) -> BTreeMap<String, f64> {
    let mut sums = BTreeMap::new();
    let start = format!("{label}=\"");
    for line in scrape.lines().filter_map(|line| line.strip_prefix(name)) {
        let Some((labels, value)) = line.rsplit_once(' ') else { continue };
        let named = labels.split_once(start.as_str()).and_then(|(_, rest)| rest.split_once('"'));
        if let (Some((which, _)), Ok(value)) = (named, value.parse::<f64>())
            && value > 0.0
        {
            *sums.entry(which.to_owned()).or_insert(0.0) += value;
        }
    }
    sums
}
