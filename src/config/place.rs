//! Checks of URLs to fetch: https only, with a host and without user information.
//!
//! Checks only the text; the addresses that a host resolves to are checked at the connection.

/// Why a text is not a URL that may be fetched; `None` if it is one.
pub(super) fn url_fault(text: &str) -> Option<&'static str> {
    let Ok(uri) = text.parse::<http::Uri>() else { return Some("not a URL") };
    let Some(authority) = uri.authority() else { return Some("a URL without a host") };
    if uri.scheme_str() != Some("https") {
        return Some("not an https URL; keys must not be fetched over plain HTTP");
    }
    if authority.as_str().contains('@') {
        return Some("a URL with a user name");
    }
    if text.contains(['#', '\\']) {
        return Some("a URL with '#' or '\\'");
    }
    None
}

/// A host in normalized form: lower case, an IPv6 address without brackets. `None` if it is
/// invalid.
pub(super) fn host(text: &str) -> Option<String> {
    let bare = text.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(text);
    match bare.parse::<std::net::IpAddr>() {
        Ok(ip) => Some(ip.to_string()),
        Err(_) => super::resolve::host_name(bare),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_https_urls_without_credentials_are_fetched() {
        assert_eq!(url_fault("https://id.example:8443/keys?x=1"), None);
        assert_eq!(url_fault("https://[::1]/keys"), None);
        for bad in [
            "http://id.example/",
            "https://",
            "https:///keys",
            "ftp://id.example/",
            "id.example",
            "https://u:p@id.example/",
            "https://id.example/#x",
            "https://id.example\\@127.0.0.1/",
            "https://id example/",
        ] {
            assert!(url_fault(bad).is_some(), "{bad}");
        }
    }
}
