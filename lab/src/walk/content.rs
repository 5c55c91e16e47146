//! Content steps: the location, a content token, listings, and downloads in ranges.

use std::time::Duration;

use aws_lc_rs::digest;

use super::device::TOKEN_MESSAGES;
use super::taken::{Taken, WalkError};
use super::{Walker, reply};
use crate::client::{ClientError, SimAnswer, SimRequest};
use crate::content::{Content, hex};
use crate::device::exchange;

/// How often a client retries content that is not ready, and the pause in between. Real clients
/// wait longer.
const TRIES: u32 = 5;
const WAIT: Duration = Duration::from_millis(200);
const RANGES: u64 = 4;

impl Walker {
    pub(super) async fn content_location(&mut self) -> Result<Taken, WalkError> {
        let token = self.with_token()?;
        let payload = format!(
            "<ContentLocationRequest SchemaVersion=\"1.00\"><Package ID=\"{}\" Version=\"1\"/>\
             </ContentLocationRequest>",
            self.plan.package
        );
        let ask = |walker: &Walker| {
            walker.message(TOKEN_MESSAGES, "MP_LocationManager", &payload).bearer(&token)
        };
        let mut request = ask(self);
        let mut answer = self.fetch(&request).await?;
        let mut empty = 0;
        // A response without a body means that the content is not ready.
        while answer.status == 200 && answer.len == 0 && empty < TRIES {
            empty += 1;
            tokio::time::sleep(WAIT).await;
            request = ask(self);
            answer = self.fetch(&request).await?;
        }
        let taken = Taken::wants(200, &request, &answer);
        let Ok(reply) = reply(&answer) else { return Ok(taken.and(false, "no message")) };
        let urls = reply.payload.split("<URL Name=\"").skip(1);
        let mut urls = urls.filter_map(|rest| rest.split_once('"').map(|(url, _)| url));
        let place = urls.find_map(|url| url.strip_prefix("https://"));
        self.content = place
            .and_then(|place| place.split_once('/'))
            .map(|(host, path)| (host.to_owned(), format!("/{path}")));
        let waited =
            if empty > 0 { format!(" after {empty} times not ready") } else { String::new() };
        let seen = format!("{}{waited}", place.unwrap_or("no place by https"));
        Ok(taken.and(self.content.is_some(), &seen))
    }

    pub(super) async fn content_token(&mut self) -> Result<Taken, WalkError> {
        let token = self.with_token()?;
        if self.plan.bulk.is_none() {
            return Ok(Taken::skipped("no bulk registration token was given"));
        }
        let path = self.plan.service.clone();
        let scope = format!("package:{}", self.plan.package);
        let token = exchange(&mut self.client, &path, &token, &[("scope", &scope)]).await?;
        self.content_token = Some(token);
        Ok(Taken::service(&format!("POST {path}/token"), 200, format!("a token for {scope}")))
    }

    pub(super) async fn listing(&mut self) -> Result<Taken, WalkError> {
        let (_, folder) = self.place()?;
        let request = self.with_content_token(SimRequest::get(&format!("{folder}/")))?;
        let answer = self.fetch_content(&request).await?;
        let text = String::from_utf8_lossy(&answer.body);
        let links = text.split("href=\"").skip(1).filter_map(|rest| rest.split_once('"'));
        let links: Vec<&str> = links.map(|(link, _)| link).filter(|l| !l.ends_with('/')).collect();
        // Clients replace http by https here themselves.
        let paths = links.iter().filter_map(|link| {
            let (_, rest) = link.split_once("://")?;
            rest.split_once('/').map(|(_, path)| format!("/{path}"))
        });
        let clear = links.iter().filter(|link| link.starts_with("http://")).count();
        // The largest by its name, so that there is enough for ranges.
        self.file = paths.max_by_key(|path| file_of(path).1.len);
        let seen = format!("{} links, {clear} of them by http", links.len());
        Ok(Taken::wants(200, &request, &answer).and(self.file.is_some(), &seen))
    }

    pub(super) async fn properties(&mut self) -> Result<Taken, WalkError> {
        let (_, folder) = self.place()?;
        let request = SimRequest::new("PROPFIND", &format!("{folder}/")).field("Depth", "1");
        let request = self.with_content_token(request)?;
        let answer = self.fetch_content(&request).await?;
        let text = String::from_utf8_lossy(&answer.body);
        let count = text.matches("<D:href>").count();
        Ok(Taken::wants(207, &request, &answer).and(count > 0, &format!("{count} resources")))
    }

    pub(super) async fn ranges(&mut self) -> Result<Taken, WalkError> {
        let file = self.file.clone().ok_or(WalkError::Lacks("a file in the package"))?;
        let head = self.with_content_token(SimRequest::new("HEAD", &file))?;
        let told = self.fetch_content(&head).await?;
        let length = told.field("content-length").and_then(|len| len.parse::<u64>().ok());
        let Some(length) = length.filter(|len| *len > 0 && told.status == 200) else {
            return Ok(Taken::wants(200, &head, &told).and(false, "no length"));
        };
        let mut hash = digest::Context::new(&digest::SHA256);
        let (mut at, mut partial) = (0, 0);
        let (size, tag) = (length / RANGES + 1, told.field("etag").unwrap_or_default().to_owned());
        let mut last = None;
        while at < length {
            let end = (at + size).min(length) - 1;
            let request = SimRequest::get(&file).range(at, end).field("If-Range", &tag);
            let request = self.with_content_token(request)?;
            let answer = self.fetch_content(&request).await?;
            let place = format!("bytes {at}-{end}/{length}");
            let exact = answer.field("content-range") == Some(place.as_str());
            if answer.status != 206 || !exact || answer.len != end - at + 1 {
                return Ok(Taken::wants(206, &request, &answer).and(false, "not that range"));
            }
            hash.update(&answer.body);
            (at, partial, last) = (end + 1, partial + 1, Some((request, answer)));
        }
        let whole = self.with_content_token(SimRequest::get(&file).hashed())?;
        let whole = self.fetch_content(&whole).await?;
        let sum = hex(hash.finish().as_ref());
        let same = whole.sha256.as_deref() == Some(sum.as_str());
        let made = file_of(&file).1.sha256() == sum;
        let seen = match (same, made) {
            (true, true) => "checksum equal, as simulated",
            (true, false) => "checksum equal",
            (false, _) => "checksum DIFFERS",
        };
        let (request, answer) = last.ok_or(WalkError::Odd("there was no range"))?;
        let seen = format!("{partial} ranges of {length} bytes, {seen}");
        Ok(Taken::wants(206, &request, &answer).and(same, &seen))
    }

    pub(super) async fn several_ranges(&mut self) -> Result<Taken, WalkError> {
        let file = self.file.clone().ok_or(WalkError::Lacks("a file in the package"))?;
        let request = SimRequest::get(&file).field("Range", "bytes=0-9,20-29");
        let request = self.with_content_token(request)?;
        let answer = self.fetch_content(&request).await?;
        let kind = answer.field("content-type").unwrap_or_default().to_owned();
        let parts = kind.starts_with("multipart/byteranges");
        let old = SimRequest::get(&file).range(0, 9).field("If-Range", "\"another version\"");
        let old = self.with_content_token(old.hashed())?;
        let old = self.fetch_content(&old).await?;
        let seen = format!("{kind}; of another version the whole ({})", old.status);
        Ok(Taken::wants(206, &request, &answer).and(parts && old.status == 200, &seen))
    }

    pub(super) async fn other_package(&mut self) -> Result<Taken, WalkError> {
        if self.content_token.is_none() {
            return Ok(Taken::skipped("no token for one package"));
        }
        let (_, folder) = self.place()?;
        let namespace = folder.rsplit_once('/').map_or("", |(namespace, _)| namespace);
        let request = SimRequest::get(&format!("{namespace}/XX100099/setup.exe"));
        let request = self.with_content_token(request)?;
        let answer = self.fetch_content(&request).await?;
        Ok(Taken::wants_refusal(403, &["token.scope"], &request, &answer))
    }

    fn place(&self) -> Result<(String, String), WalkError> {
        self.content.clone().ok_or(WalkError::Lacks("a place of the package"))
    }

    /// Adds the content token for this package, or the device's token if there is none.
    fn with_content_token(&self, request: SimRequest) -> Result<SimRequest, WalkError> {
        let token = self.content_token.clone().map_or_else(|| self.with_token(), Ok)?;
        Ok(request.bearer(&token))
    }

    pub(super) async fn fetch_content(
        &mut self,
        request: &SimRequest,
    ) -> Result<SimAnswer, WalkError> {
        let (host, _) = self.place()?;
        if host.split(':').next() == Some(self.plan.reach.name.as_str()) {
            return Ok(self.client.fetch(request).await?);
        }
        let mut client = self.plan.reach.client_of(&host, None)?;
        client.fetch(request).await.map_err(|error: ClientError| error.into())
    }

    /// The path of any file of the package, for steps without a listing.
    pub(super) fn any_file(&self) -> Result<String, WalkError> {
        self.file.clone().ok_or(WalkError::Lacks("a file in the package"))
    }
}

/// The package and the content of a path, for generated content.
fn file_of(path: &str) -> (&str, Content) {
    let mut names = path.trim_start_matches('/').splitn(3, '/').skip(1);
    let package = names.next().unwrap_or_default();
    (package, Content::of(package, names.next().unwrap_or_default()))
}
