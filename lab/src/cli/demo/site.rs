//! The whole site in one walk: all that a client does with it, from finding it to renewing its token.
//!
//! What is asked and expected is the walk's own, the same as that of `client`.

use super::demo_site::{DemoSite, MEDIA_NETWORK, MP, PACKAGE, SERVICE};
use crate::Reach;
use crate::walk::{WalkPlan, WalkStep, walk};

const ACCOUNT: &str = "anna";
const REPORTS: &str = "/reports/";

/// Take every step of the walk.
pub(super) async fn walked(stage: &DemoSite) -> anyhow::Result<Vec<WalkStep>> {
    let address = stage.gateway()?;
    let reach = Reach {
        name: MP.to_owned(),
        port: address.port(),
        connect: Some(address),
        trust: stage.trust.clone(),
    };
    let plan = WalkPlan {
        reach,
        service: SERVICE.to_owned(),
        bulk: Some(stage.tokens.walk_bulk.clone()),
        token: None,
        user: Some(stage.tokens.user.clone()),
        media: Some(stage.tokens.media.clone()),
        alt_auth: true,
        media_from: Some(MEDIA_NETWORK),
        windows: Some(ACCOUNT.to_owned()),
        reports: Some(REPORTS.to_owned()),
        package: PACKAGE.to_owned(),
        clock: stage.clock.clone(),
    };
    Ok(walk(plan, |_| {}).await?)
}
