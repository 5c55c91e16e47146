//! Steps about devices: they register, get tokens of the site's own, and are blocked.

use std::time::{Duration, Instant};

use anyhow::Context;
use sitegate::site::store::{Blocked, Store, StorePlace};
use sitegate::token::SignerKind;

use super::demo_site::{DP, DemoSite, ISSUER, MP, SERVICE};
use super::requests::{POLICY, code_of};
use super::step::{StepOutcome, StepText};
use crate::{DeviceError, SimDevice, SimRequest, exchange};

const CONTENT: &str = "/SMS_DP_SMSPKG$/PS100012/4096.bin";
const OTHER: &str = "/SMS_DP_SMSPKG$/PS100013/4096.bin";

/// Longer than a block may take, so that a slow machine is told apart from a broken one.
const WAIT_MAX: Duration = Duration::from_secs(10);

pub(super) const REGISTRATION: StepText = StepText {
    title: "a device registers",
    does: "send a device's public key with a bulk registration token that opens one registration",
    expected: "201 and an id; a second device with the same token: registration.token_used_up",
    remark: "'sitegate token bulk --uses 1' made the token. The device's private key never leaves \
             it; a registration token opens nothing else.",
};

pub(super) async fn registration(stage: &mut DemoSite) -> anyhow::Result<StepOutcome> {
    let mut client = stage.client(MP)?;
    let mut device = SimDevice::new(SignerKind::P256, ISSUER, SERVICE)?;
    let told = device.register(&mut client, Some(&stage.tokens.bulk), serde_json::Value::Null);
    told.await?;
    let id = device.id().map(str::to_owned);
    let mut second = SimDevice::new(SignerKind::P256, ISSUER, SERVICE)?;
    let again =
        second.register(&mut client, Some(&stage.tokens.bulk), serde_json::Value::Null).await.err();
    let code = again.as_ref().and_then(DeviceError::code).unwrap_or("no refusal").to_owned();
    let seen = format!("201, {}; then {code}", id.as_deref().unwrap_or("no id"));
    stage.device = Some(device);
    Ok(StepOutcome { seen, ok: id.is_some() && code == "registration.token_used_up" })
}

pub(super) const OWN_TOKEN: StepText = StepText {
    title: "a token of the site's own",
    does: "prove the key, get a client token, and fetch a policy with it",
    expected: "200; the site system sees the device",
    remark: "Any OAuth client library can do this: private_key_jwt, RFC 7523. No account, no \
             certificate and no Windows authentication is needed.",
};

pub(super) async fn own_token(stage: &mut DemoSite) -> anyhow::Result<StepOutcome> {
    let mut client = stage.client(MP)?;
    let device = stage.device.as_ref().context("no device has registered")?;
    let token = device.token(&mut client, &[], stage.clock.now()).await?;
    let answer = client.fetch(&SimRequest::get(POLICY).bearer(&token)).await?;
    let reached = stage.mp.last();
    let named = reached.as_ref().and_then(|seen| seen.field("Sitegate-Device"));
    let same = named.is_some() && named == device.id();
    let seen = format!("{}; Sitegate-Device: {}", answer.line(), named.unwrap_or("none"));
    stage.own_token = token;
    Ok(StepOutcome { seen, ok: answer.status == 200 && same })
}

pub(super) const OWN_CONTENT: StepText = StepText {
    title: "exchanged for one package",
    does: "exchange the client token for one that opens package PS100012 alone, and download",
    expected: "200 for that package, 403 token.scope for another",
    remark: "What a download needs is all that its token opens, for eight hours (RFC 8693).",
};

pub(super) async fn own_content(stage: &mut DemoSite) -> anyhow::Result<StepOutcome> {
    let mut client = stage.client(MP)?;
    let scope = [("scope", "package:PS100012")];
    let token = exchange(&mut client, SERVICE, &stage.own_token, &scope).await?;
    let mut dp = stage.client(DP)?;
    let first = dp.fetch(&SimRequest::get(CONTENT).bearer(&token)).await?;
    let second = dp.fetch(&SimRequest::get(OTHER).bearer(&token)).await?;
    let code = code_of(&second);
    let seen = format!("{} ({} bytes); {} ({code})", first.line(), first.len, second.line());
    Ok(StepOutcome {
        seen,
        ok: first.status == 200 && second.status == 403 && code == "token.scope",
    })
}

pub(super) const BLOCKED: StepText = StepText {
    title: "a device is blocked",
    does: "block the device in the site's store, as 'sitegate site block' does, and ask again",
    expected: "403 device.blocked within a second; no new token either",
    remark: "Everything of the device ends: its tokens, its keys, its Entra id, and what it has \
             under way. 'sitegate site unblock' lets it in again.",
};

pub(super) async fn blocked(stage: &mut DemoSite) -> anyhow::Result<StepOutcome> {
    let now = stage.clock.now();
    let device = stage.device.as_ref().context("no device has registered")?;
    let id = device.id().context("the device has no id")?.to_owned();
    let store = Store::open(&StorePlace::Sqlite(stage.path("state/store/site.db")), now).await?;
    store.block(&Blocked::Device(&id), Some("the demonstration"), "demo", now).await?;
    let begin = Instant::now();
    store.close().await;
    let mut client = stage.client(MP)?;
    let request = SimRequest::get(POLICY).bearer(&stage.own_token);
    let mut answer = client.fetch(&request).await?;
    while answer.status == 200 && begin.elapsed() < WAIT_MAX {
        tokio::time::sleep(Duration::from_millis(5)).await;
        answer = client.fetch(&request).await?;
    }
    let took = begin.elapsed().as_millis();
    let renewal = device.token(&mut client, &[], now).await.err();
    let renewal = renewal.as_ref().and_then(DeviceError::code).unwrap_or("no refusal").to_owned();
    let code = code_of(&answer);
    let seen = format!("{} ({code}) after {took} ms; a new token: {renewal}", answer.line());
    let ok = code == "device.blocked" && renewal == "device.blocked" && took < 1_000;
    Ok(StepOutcome { seen, ok })
}
