//! Link rewriting: changes http links to the site system into https, for clients that came over
//! https: in listings, multistatus documents and redirects.
//!
//! Pure. Rewrites only links to the authority that the client asked for, and changes no other byte.

/// The most bytes of a body to buffer for link rewriting. A larger response passes unchanged.
pub(super) const BODY_BYTES_MAX: usize = 1024 * 1024;

/// Checks whether the body of a response with these fields is searched for links.
pub(super) fn may_be_in<'a>(
    status: u16,
    mut fields: impl Iterator<Item = (&'a [u8], &'a [u8])>,
) -> bool {
    let mut text = false;
    let coded = fields.any(|(name, value)| {
        if name.eq_ignore_ascii_case(b"content-type") {
            let kind = value.split(|b| *b == b';').next().unwrap_or_default().trim_ascii();
            text = [&b"text/html"[..], b"text/xml", b"application/xml"]
                .iter()
                .any(|known| kind.eq_ignore_ascii_case(known));
        }
        name.eq_ignore_ascii_case(b"content-encoding")
    });
    text && !coded && matches!(status, 200 | 207)
}

/// Returns the text with its links to `authority` changed to https.
pub(super) fn rewritten(text: &[u8], authority: &[u8]) -> Vec<u8> {
    const HTTP: &[u8] = b"http://";
    let mut out = Vec::with_capacity(text.len() + 64);
    let mut rest = text;
    while let Some((first, after)) = rest.split_first() {
        let link = (*first | 0x20 == b'h')
            .then(|| rest.split_at_checked(HTTP.len()))
            .flatten()
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case(HTTP))
            .and_then(|(_, link)| link.split_at_checked(authority.len()))
            .filter(|(host, after)| host.eq_ignore_ascii_case(authority) && ends(after));
        match link {
            Some((host, after)) => {
                out.extend_from_slice(b"https://");
                out.extend_from_slice(host);
                rest = after;
            }
            None => {
                out.push(*first);
                rest = after;
            }
        }
    }
    out
}

/// Checks whether an authority has ended before these bytes.
fn ends(after: &[u8]) -> bool {
    let goes_on = |b: &u8| b.is_ascii_alphanumeric() || b"-._~:@%[]!$'()*+,;=".contains(b);
    // A quote or an entity ends it. After a dot or a colon it may be another host or port.
    !after.first().is_some_and(|b| goes_on(b) && *b != b'\'')
}

/// Returns a head with its redirects rewritten.
pub(super) fn redirect(head: &[u8], authority: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(head.len() + 64);
    for line in head.split_inclusive(|b| *b == b'\n') {
        if is_redirect(line) {
            out.extend_from_slice(&rewritten(line, authority));
        } else {
            out.extend_from_slice(line);
        }
    }
    out
}

fn is_redirect(line: &[u8]) -> bool {
    let name = line.split(|b| *b == b':').next().unwrap_or_default();
    [&b"location"[..], b"content-location"].iter().any(|known| name.eq_ignore_ascii_case(known))
}

/// Returns a head with its redirects rewritten, and with `length` as its Content-Length; `None`
/// leaves the length out.
pub(super) fn head(head: &[u8], authority: &[u8], length: Option<usize>) -> Vec<u8> {
    let mut out = Vec::with_capacity(head.len() + 64);
    for line in redirect(head, authority).split_inclusive(|b| *b == b'\n') {
        let name = line.split(|b| *b == b':').next().unwrap_or_default();
        let is = |wanted: &[u8]| name.eq_ignore_ascii_case(wanted);
        if line == b"\r\n" {
            if let Some(length) = length {
                out.extend_from_slice(format!("Content-Length: {length}\r\n").as_bytes());
            }
            out.extend_from_slice(line);
        } else if !is(b"content-length") && !is(b"transfer-encoding") {
            out.extend_from_slice(line);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns name and value of each field of a head.
    fn fields(head: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
        head.split(|b| *b == b'\n').skip(1).filter_map(|line| {
            let colon = line.iter().position(|b| *b == b':')?;
            let (name, value) = line.split_at_checked(colon)?;
            Some((name, value.get(1..).unwrap_or_default().trim_ascii()))
        })
    }

    #[test]
    fn links_to_the_own_authority_become_https() {
        for (text, expected) in [
            ("<a href=\"http://dp01/x\">", "<a href=\"https://dp01/x\">"),
            ("<D:href>HTTP://DP01/SMS_DP</D:href>", "<D:href>https://DP01/SMS_DP</D:href>"),
            ("http://dp01", "https://dp01"),
            ("http://dp01http://dp01/", "http://dp01https://dp01/"),
            ("'http://dp01'", "'https://dp01'"),
            ("http://dp01?x http://dp01#y", "https://dp01?x https://dp01#y"),
            ("http://dp01.contoso.com/", "http://dp01.contoso.com/"),
            ("http://dp01:8080/", "http://dp01:8080/"),
            ("http://dp011/ http://xdp01/", "http://dp011/ http://xdp01/"),
            ("http://dp01@evil/ http://u@dp01/", "http://dp01@evil/ http://u@dp01/"),
            ("https://dp01/ ttp://dp01/ http:/dp01/", "https://dp01/ ttp://dp01/ http:/dp01/"),
            ("hhttp://dp01/", "hhttps://dp01/"),
            ("http://dp0", "http://dp0"),
            ("", ""),
        ] {
            let found = String::from_utf8(rewritten(text.as_bytes(), b"dp01")).unwrap();
            assert_eq!(found, expected);
        }
    }

    #[test]
    fn only_whole_pages_and_documents_in_plain_text_are_looked_into() {
        let found = |status, head: &str| may_be_in(status, fields(head.as_bytes()));
        let page = "HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\n\r\n";
        assert!(found(200, page) && found(207, page));
        assert!(!found(206, page) && !found(302, page));
        assert!(found(207, "HTTP/1.1 207 X\r\ncontent-type: Application/XML\r\n\r\n"));
        for other in [
            "HTTP/1.1 200 OK\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Encoding: gzip\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Type: text/html\r\n\r\n",
        ] {
            assert!(!found(200, other), "{other}");
        }
    }

    #[test]
    fn a_head_has_the_length_of_the_body_that_is_sent() {
        let came = "HTTP/1.1 302 Found\r\nLocation: http://dp01/x\r\nContent-Length: 5\r\n\
                    Transfer-Encoding: chunked\r\nX: http://dp01/\r\n\r\n";
        let with = String::from_utf8(head(came.as_bytes(), b"dp01", Some(7))).unwrap();
        assert_eq!(
            with,
            "HTTP/1.1 302 Found\r\nLocation: https://dp01/x\r\nX: http://dp01/\r\nContent-Length: 7\r\n\r\n"
        );
        let without = String::from_utf8(head(came.as_bytes(), b"dp01", None)).unwrap();
        assert_eq!(without, with.replace("Content-Length: 7\r\n", ""));
    }
}
