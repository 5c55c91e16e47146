//! Steps of users, boot media and Windows authentication, and of other applications on the web
//! server.

use super::Walker;
use super::taken::{Taken, WalkError};
use crate::backend::IDENTITY;
use crate::client::SimRequest;
use crate::ntlm::{HELLO, challenge, proof};

const USER_SERVICE: &str = "/CMUserService/applicationviewservice.asmx";
const ALT_AUTH: &str = "/CCM_System_AltAuth/request";
const WINDOWS_POLICY: &str =
    "/SMS_MP_WindowsAuth/.sms_pol?{00000000-0000-0000-0000-000000000001}.1_00";
const MEDIA_POLICY: &str = "/SMS_MP/.sms_pol?{00000000-0000-0000-0000-000000000002}.1_00";

impl Walker {
    pub(super) async fn user_service_as_device(&mut self) -> Result<Taken, WalkError> {
        let request = SimRequest::get(USER_SERVICE).bearer(&self.with_token()?);
        let answer = self.fetch(&request).await?;
        Ok(Taken::wants_refusal(403, &["user.token_required"], &request, &answer))
    }

    pub(super) async fn user_service_as_user(&mut self) -> Result<Taken, WalkError> {
        let Some(user) = self.plan.user.clone() else {
            return Ok(Taken::skipped("no user's token was given"));
        };
        let request = SimRequest::get(USER_SERVICE).bearer(&user);
        let answer = self.fetch(&request).await?;
        Ok(Taken::wants(200, &request, &answer))
    }

    pub(super) async fn notification(&mut self) -> Result<Taken, WalkError> {
        let request = SimRequest::new("POST", "/bgb/handler.ashx").bearer(&self.with_token()?);
        let request = request.body("text/xml", "<BgbRequest/>");
        let answer = self.fetch(&request).await?;
        Ok(Taken::wants(200, &request, &answer))
    }

    pub(super) async fn media_policy(&mut self) -> Result<Taken, WalkError> {
        let request = SimRequest::get(MEDIA_POLICY).bearer(&self.media()?);
        let answer = self.fetch(&request).await?;
        Ok(Taken::wants(200, &request, &answer))
    }

    pub(super) async fn media_content(&mut self) -> Result<Taken, WalkError> {
        let media = self.media()?;
        let request = SimRequest::get(&self.any_file()?).bearer(&media).range(0, 999);
        let answer = self.fetch_content(&request).await?;
        Ok(Taken::wants(206, &request, &answer).and(answer.len == 1000, "the first 1000 bytes"))
    }

    pub(super) async fn media_user_service(&mut self) -> Result<Taken, WalkError> {
        let request = SimRequest::get(USER_SERVICE).bearer(&self.media()?);
        let answer = self.fetch(&request).await?;
        Ok(Taken::wants_refusal(403, &["token.purpose"], &request, &answer))
    }

    fn media(&self) -> Result<String, WalkError> {
        self.plan.media.clone().ok_or(WalkError::Lacks("a boot media token"))
    }

    /// Boot media set their clock here, from a network of alt_auth; other clients are refused.
    pub(super) async fn alt_auth(&mut self) -> Result<Taken, WalkError> {
        let payload = "<SiteInformationRequest/>";
        let request = self.message(ALT_AUTH, "MP_LocationManager", payload);
        let outside = self.fetch(&request).await?;
        let refusals = ["route.alt_auth_network", "route.alt_auth"];
        if !self.plan.alt_auth {
            return Ok(Taken::wants_refusal(403, &refusals, &request, &outside));
        }
        let Some(from) = self.plan.media_from else {
            let dated = outside.field("date").is_some();
            return Ok(Taken::wants(200, &request, &outside).and(dated, "with the time"));
        };
        let name = self.plan.reach.name.clone();
        let mut client = self.plan.reach.client_of(&name, Some(from))?;
        let inside = client.fetch(&request).await?;
        let dated = inside.field("date").is_some();
        let taken = Taken::wants(200, &request, &inside).and(dated, "with the time");
        let code = outside.code().unwrap_or_else(|| outside.line());
        Ok(taken.and(code == "route.alt_auth_network", &format!("from elsewhere {code}")))
    }

    pub(super) async fn windows(&mut self) -> Result<Taken, WalkError> {
        let first = SimRequest::get(WINDOWS_POLICY).field("Authorization", HELLO);
        let Some(user) = self.plan.windows.clone() else {
            let answer = self.fetch(&first).await?;
            return Ok(Taken::wants_refusal(403, &["route.windows_auth"], &first, &answer));
        };
        // A separate connection: it is the user's from here on.
        let mut client = self.plan.reach.client()?;
        let second = client.fetch(&first).await?;
        let told = second.field("www-authenticate").and_then(challenge);
        let Some(told) = told else {
            return Ok(Taken::wants(401, &first, &second).and(false, "no challenge"));
        };
        let third = SimRequest::get(WINDOWS_POLICY).field("Authorization", &proof(&user, told));
        let proved = client.fetch(&third).await?;
        let again = client.fetch(&SimRequest::get(WINDOWS_POLICY)).await?;
        // No other connection has the user's identity.
        let other = self.fetch(&SimRequest::get(WINDOWS_POLICY)).await?;
        let who = proved.field(IDENTITY).unwrap_or("nobody").to_owned();
        let same = who == user && again.field(IDENTITY) == Some(user.as_str());
        let alone = other.status == 401 && other.field(IDENTITY).is_none_or(|who| who == "-");
        let seen = if alone {
            format!("as {who}; another connection 401")
        } else {
            format!("as {who}; another connection IS TOO ({})", other.line())
        };
        Ok(Taken::wants(200, &third, &proved).and(same && alone, &seen))
    }

    pub(super) async fn reports(&mut self) -> Result<Taken, WalkError> {
        let Some(path) = self.plan.reports.clone() else {
            return Ok(Taken::skipped("no path of reports was given"));
        };
        let request = SimRequest::get(&path);
        let answer = self.fetch(&request).await?;
        let place = answer.field("location").unwrap_or("nowhere").to_owned();
        let secure = place.starts_with("https://") || place.starts_with('/');
        let on = place.split_once("://").map_or(place.as_str(), |(_, rest)| {
            rest.find('/').and_then(|at| rest.get(at..)).unwrap_or("/")
        });
        let taken = Taken::wants(302, &request, &answer);
        if !secure {
            return Ok(taken.and(false, &format!("leads to {place}: rewrite_links is off")));
        }
        let page = self.fetch(&SimRequest::get(on)).await?;
        Ok(taken.and(page.status == 200, &format!("leads to {place}, which is {}", page.line())))
    }
}
