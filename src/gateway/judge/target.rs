//! Absolute targets, with scheme and authority: a request target in absolute form (RFC 9112
//! §3.2.2), and the `Destination` of COPY and MOVE (RFC 4918 §10.3).

use crate::denial::Denial;

/// Returns the path and query of a target. An absolute target must name `host` and the scheme that
/// the request came by. Any other target is returned unchanged.
///
/// # Errors
/// [`Denial::HostMisdirected`] for another scheme, [`Denial::HostInvalid`] for another authority,
/// and [`Denial::PathMalformed`] for a query without a path.
pub(in crate::gateway) fn origin_form<'a>(
    target: &'a [u8],
    host: &[u8],
    clear: bool,
) -> Result<&'a [u8], Denial> {
    if target.starts_with(b"/") {
        return Ok(target);
    }
    let scheme = target.split(|b| *b == b':').next().unwrap_or_default();
    let rest = target.get(scheme.len()..).and_then(|rest| rest.strip_prefix(b"://"));
    let Some(rest) = rest else { return Ok(target) };
    let own: &[u8] = if clear { b"http" } else { b"https" };
    let end = rest.iter().position(|b| matches!(b, b'/' | b'?')).unwrap_or(rest.len());
    let (authority, path) = rest.split_at_checked(end).ok_or(Denial::PathMalformed)?;
    if !scheme.eq_ignore_ascii_case(own) {
        return Err(Denial::HostMisdirected);
    }
    if host.is_empty() || !host.eq_ignore_ascii_case(authority) {
        return Err(Denial::HostInvalid);
    }
    match path {
        [] => Ok(b"/"),
        [b'/', ..] => Ok(path),
        _ => Err(Denial::PathMalformed),
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::path("/x", false, Ok("/x"))]
    #[case::path_that_looks_absolute("/https://mp/x", false, Ok("/https://mp/x"))]
    #[case::asterisk("*", false, Ok("*"))]
    #[case::of_any_case("HTTPS://MP/x?y", false, Ok("/x?y"))]
    #[case::without_a_path("https://mp", false, Ok("/"))]
    #[case::plain("http://mp/x", true, Ok("/x"))]
    #[case::plain_by_tls("http://mp/x", false, Err(Denial::HostMisdirected))]
    #[case::tls_by_plain("https://mp/x", true, Err(Denial::HostMisdirected))]
    #[case::another_scheme("ftp://mp/x", false, Err(Denial::HostMisdirected))]
    #[case::another_host("https://other/x", false, Err(Denial::HostInvalid))]
    #[case::another_port("https://mp:443/x", false, Err(Denial::HostInvalid))]
    #[case::a_user("https://user@mp/x", false, Err(Denial::HostInvalid))]
    #[case::no_host("https:///x", false, Err(Denial::HostInvalid))]
    #[case::a_query_alone("https://mp?x", false, Err(Denial::PathMalformed))]
    fn an_absolute_target_names_the_host_and_the_scheme(
        #[case] target: &str,
        #[case] clear: bool,
        #[case] expected: Result<&str, Denial>,
    ) {
        let found = origin_form(target.as_bytes(), b"mp", clear);
        assert_eq!(found, expected.map(str::as_bytes));
    }
}
