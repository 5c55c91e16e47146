//! Steps about requests: who may ask for what, and what the site system gets to see of it.

use aws_lc_rs::digest;

use super::demo_site::{DEVICE, DP, DemoSite, MP, USER};
use super::step::{StepOutcome, StepText};
use crate::content::hex;
use crate::{Content, SimAnswer, SimRequest, SimulatedBackend};

const LOCATION: &str = "/SMS_MP/.sms_aut?MPLIST";
const CLIENT_PACKAGE: &str = "/CCM_Client/ccmsetup.cab";
pub(super) const POLICY: &str = "/SMS_MP/.sms_pol?{00000000-0000-0000-0000-000000000001}.1_00";
const USER_SERVICE: &str = "/CMUserService/applicationviewservice.asmx";
const MESSAGES: &str = "/ccm_system_tokenauth/request";
const PACKAGE: &str = "PS100012";
/// Three mebibytes and a bit, so that the last range is a short one.
const FILE: &str = "3145999.wim";
const RANGES: u64 = 4;

pub(super) const BOOTSTRAP: StepText = StepText {
    title: "bootstrap without a token",
    does: "ask for the site's management points and for ccmsetup.cab, without a token",
    expected: "200 and 200",
    remark: "A machine that has no client yet must find its site and install one; these paths, and \
             no others, are open to it.",
};

pub(super) async fn bootstrap(stage: &mut DemoSite) -> anyhow::Result<StepOutcome> {
    let mut client = stage.client(MP)?;
    let location = client.fetch(&SimRequest::get(LOCATION)).await?;
    let package = client.fetch(&SimRequest::get(CLIENT_PACKAGE).hashed()).await?;
    let wanted = Content::of("ccm_client", &CLIENT_PACKAGE.to_ascii_lowercase()).sha256();
    let same = package.sha256.as_deref() == Some(wanted.as_str());
    let sum = if same { "checksum equal" } else { "checksum DIFFERS" };
    let seen = format!(
        "{} (MPLIST, {} bytes) and {} (ccmsetup.cab, {} bytes, {sum})",
        location.status, location.len, package.status, package.len
    );
    Ok(StepOutcome { seen, ok: same && location.status == 200 && package.status == 200 })
}

pub(super) const NO_TOKEN: StepText = StepText {
    title: "policy without a token",
    does: "ask for a policy without a token",
    expected: "401 EHTTP_Token_Missing; the site system sees nothing",
    remark: "The reason phrase is what the client writes into its own log (LocationServices.log, \
             PolicyAgent.log); 'token.missing' is the same in sitegate's log, metrics and answer.",
};

pub(super) async fn no_token(stage: &mut DemoSite) -> anyhow::Result<StepOutcome> {
    refused(stage, SimRequest::get(POLICY), "401 EHTTP_Token_Missing", "token.missing").await
}

pub(super) const EXPIRED: StepText = StepText {
    title: "an expired token",
    does: "ask for a policy with a device token of last week",
    expected: "401 token.expired; the site system sees nothing",
    remark: "If many clients fail so at once, compare the clocks before the tokens.",
};

pub(super) async fn expired(stage: &mut DemoSite) -> anyhow::Result<StepOutcome> {
    let request = SimRequest::get(POLICY).bearer(&stage.tokens.expired);
    refused(stage, request, "401 EHTTP_Token_Expired", "token.expired").await
}

pub(super) const FOREIGN: StepText = StepText {
    title: "a token of another site",
    does: "ask for a policy with a well-signed token of a site that is not trusted",
    expected: "401 token.issuer; the site system sees nothing",
    remark: "Only issuers that the configuration names are believed, each by its own keys.",
};

pub(super) async fn foreign(stage: &mut DemoSite) -> anyhow::Result<StepOutcome> {
    let request = SimRequest::get(POLICY).bearer(&stage.tokens.foreign);
    refused(stage, request, "401 EHTTP_Token_Issuer", "token.issuer").await
}

pub(super) const DEVICE_TOKEN: StepText = StepText {
    title: "policy with a device's token",
    does: "ask for a policy with the device's token, and claim to be another device in a header",
    expected: "200; the site system sees the true Sitegate-Device, and no Authorization",
    remark: "Who the client is, sitegate alone may say: what clients claim in such headers is \
             removed, and the token ends here because this route does not forward it.",
};

pub(super) async fn device(stage: &mut DemoSite) -> anyhow::Result<StepOutcome> {
    let request = SimRequest::get(POLICY)
        .bearer(&stage.tokens.device)
        .field("Sitegate-Device", "GUID:00000000-0000-0000-0000-000000000000");
    let answer = stage.client(MP)?.fetch(&request).await?;
    let reached = stage.mp.last();
    let device = reached.as_ref().and_then(|seen| seen.field("Sitegate-Device"));
    let authorization = reached.as_ref().is_some_and(|seen| seen.authorization);
    let seen = format!(
        "{}; Sitegate-Device: {}; {}",
        answer.line(),
        device.unwrap_or("none"),
        if authorization { "Authorization PASSED" } else { "no Authorization" }
    );
    Ok(StepOutcome { seen, ok: answer.status == 200 && device == Some(DEVICE) && !authorization })
}

pub(super) const USER_TOKEN: StepText = StepText {
    title: "user services with a device's token",
    does: "ask Software Center's service with the device's token, then with the user's",
    expected: "403 EHTTP_User_Token_Required, then 200",
    remark: "What is meant for a person is not given to a machine. On this route the token is \
             forwarded, because the service reads it itself.",
};

pub(super) async fn user(stage: &mut DemoSite) -> anyhow::Result<StepOutcome> {
    let request = SimRequest::get(USER_SERVICE).bearer(&stage.tokens.device);
    let phrase = "403 EHTTP_User_Token_Required";
    let first = refused(stage, request, phrase, "user.token_required").await?;
    let request = SimRequest::get(USER_SERVICE).bearer(&stage.tokens.user);
    let second = stage.client(MP)?.fetch(&request).await?;
    let user = stage.mp.last().and_then(|seen| seen.field("Sitegate-User").map(str::to_owned));
    let user = user.unwrap_or_default();
    let seen = format!("{}; then {} as {user}", first.seen, second.line());
    Ok(StepOutcome { seen, ok: first.ok && second.status == 200 && user == USER })
}

pub(super) const CONTENT_RANGES: StepText = StepText {
    title: "content in ranges",
    does: "fetch a package of 3 MB from the distribution point with a content token, in four \
           ranges as BITS does",
    expected: "HEAD with the exact length, 206 for each range, equal SHA-256",
    remark: "sitegate never compresses or re-encodes: BITS needs every byte and every length as \
             the distribution point has them.",
};

pub(super) async fn content(stage: &mut DemoSite) -> anyhow::Result<StepOutcome> {
    let path = format!("/CCMTOKENAUTH_SMS_DP_SMSPKG$/{PACKAGE}/{FILE}");
    let content = Content::of(PACKAGE, FILE);
    let mut client = stage.client(DP)?;
    let token = &stage.tokens.content;
    let head = client.fetch(&SimRequest::new("HEAD", &path).bearer(token)).await?;
    let length = head.field("content-length").and_then(|len| len.parse::<u64>().ok());
    let mut hash = digest::Context::new(&digest::SHA256);
    let (mut partial, mut at) = (0, 0);
    let size = content.len / RANGES + 1;
    while at < content.len {
        let last = (at + size).min(content.len) - 1;
        let request = SimRequest::get(&path).bearer(token).range(at, last);
        let answer = client.fetch(&request).await?;
        let told = format!("bytes {at}-{last}/{}", content.len);
        let exact = answer.field("content-range") == Some(told.as_str());
        partial += u64::from(answer.status == 206 && exact && answer.len == last - at + 1);
        hash.update(&answer.body);
        at = last + 1;
    }
    let same = hex(hash.finish().as_ref()) == content.sha256();
    let seen = format!(
        "HEAD {} with {} bytes; {partial} of {RANGES} ranges 206; SHA-256 {}",
        head.status,
        length.map_or("no".to_owned(), |len| len.to_string()),
        if same { "equal" } else { "DIFFERS" }
    );
    let ok = head.status == 200 && length == Some(content.len) && partial == RANGES && same;
    Ok(StepOutcome { seen, ok })
}

pub(super) const MESSAGE: StepText = StepText {
    title: "a client's message",
    does: "send a message of two parts by CCM_POST, as a client's messaging does",
    expected: "200, and the body arrives as it was sent",
    remark: "Verbs of Configuration Manager's own (CCM_POST, BITS_POST) pass where a role uses them.",
};

pub(super) async fn message(stage: &mut DemoSite) -> anyhow::Result<StepOutcome> {
    let boundary = "aAbBcCdDv1234567890VxXyYzZ";
    let kind = format!("multipart/mixed; boundary=\"{boundary}\"");
    let payload = Content::of("message", "5710.bin");
    let envelope = "\u{feff}<Msg><TargetEndpoint>MP_HinvEndpoint</TargetEndpoint></Msg>";
    let mut body =
        format!("--{boundary}\r\ncontent-type: text/plain; charset=UTF-16\r\n\r\n").into_bytes();
    body.extend(envelope.encode_utf16().flat_map(u16::to_le_bytes));
    let payload_type = "content-type: application/octet-stream";
    body.extend_from_slice(format!("\r\n--{boundary}\r\n{payload_type}\r\n\r\n").as_bytes());
    body.extend_from_slice(&payload.bytes(0..payload.len));
    body.extend_from_slice(format!("\r\n--{boundary}--").as_bytes());
    let request = SimRequest::new("CCM_POST", MESSAGES)
        .bearer(&stage.tokens.device)
        .body(&kind, body.clone());
    let answer = stage.client(MP)?.fetch(&request).await?;
    let arrived = stage.mp.last().map_or(0, |seen| seen.body_len);
    let same = answer.body == body && answer.field("content-type") == Some(kind.as_str());
    let seen = format!(
        "{}; {arrived} of {} bytes arrived, {}",
        answer.line(),
        body.len(),
        if same { "equal" } else { "CHANGED" }
    );
    Ok(StepOutcome { seen, ok: answer.status == 200 && same && arrived == body.len() })
}

/// A request to mp01 that has to be refused with this line and code, before the site system.
async fn refused(
    stage: &DemoSite,
    request: SimRequest,
    line: &str,
    code: &str,
) -> anyhow::Result<StepOutcome> {
    let before = stage.mp.count();
    let answer = stage.client(MP)?.fetch(&request).await?;
    let reached = stage.mp.count() - before;
    let told = code_of(&answer);
    let seen = format!("{} ({told}); {}", answer.line(), nothing(&stage.mp, reached));
    Ok(StepOutcome { seen, ok: answer.line() == line && told == code && reached == 0 })
}

fn nothing(backend: &SimulatedBackend, reached: u64) -> String {
    match reached {
        0 => "the site system saw nothing".to_owned(),
        n => format!("{n} requests REACHED the site system at {}", backend.address()),
    }
}

/// The denial's code, from the problem document.
pub(super) fn code_of(answer: &SimAnswer) -> String {
    let document: serde_json::Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    document.get("code").and_then(|code| code.as_str()).unwrap_or("no code").to_owned()
}
