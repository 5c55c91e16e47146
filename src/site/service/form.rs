//! Parses a form body as OAuth defines it (RFC 6749 appendix B): each parameter once, and a bounded
//! number.
//!
//! Duplicates are refused, because parsers differ in which one they use. Only the target of the
//! token may be repeated (RFC 8693 §2.1, RFC 8707 §2).

use std::collections::BTreeMap;

use axum::http::HeaderMap;
use axum::http::header::CONTENT_TYPE;

use super::refused::ServiceRefusal;
use crate::grant_denial::GrantDenial;

/// More parameters than any grant has.
const PARAMETERS_MAX: usize = 32;

/// The parameters that may be repeated.
const REPEATED: [&str; 2] = ["audience", "resource"];

/// The parameters of a form.
pub(super) struct Form {
    once: BTreeMap<String, String>,
    targets: Vec<String>,
}

impl Form {
    pub(super) fn parse(headers: &HeaderMap, body: &[u8]) -> Result<Self, ServiceRefusal> {
        let malformed = |why| ServiceRefusal::of(GrantDenial::RequestMalformed, why);
        let kind = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let kind = kind.and_then(|kind| kind.split(';').next()).map(str::trim);
        if !kind.is_some_and(|k| k.eq_ignore_ascii_case("application/x-www-form-urlencoded")) {
            return Err(malformed("not application/x-www-form-urlencoded"));
        }
        if std::str::from_utf8(body).is_err() {
            return Err(malformed("not UTF-8"));
        }
        let (mut once, mut targets) = (BTreeMap::new(), Vec::new());
        for (name, value) in form_urlencoded::parse(body) {
            if once.len() + targets.len() == PARAMETERS_MAX {
                return Err(malformed("too many parameters"));
            }
            if REPEATED.contains(&&*name) {
                targets.push(value.into_owned());
            } else if once.insert(name.into_owned(), value.into_owned()).is_some() {
                return Err(malformed("a parameter is repeated"));
            }
        }
        // RFC 6749 §3.2: parameters without a value are treated as omitted.
        once.retain(|_, value| !value.is_empty());
        targets.retain(|value| !value.is_empty());
        Ok(Form { once, targets })
    }

    /// A parameter with a value.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.once.get(name).map(String::as_str)
    }

    /// Every `audience` and `resource` with a value.
    pub(super) fn targets(&self) -> &[String] {
        &self.targets
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(kind: &str, body: &str) -> Result<Form, ServiceRefusal> {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, kind.parse().unwrap());
        Form::parse(&headers, body.as_bytes())
    }

    #[test]
    fn each_parameter_is_there_once_and_empty_ones_are_not() {
        let kind = "application/x-www-form-urlencoded; charset=utf-8";
        let form = parse(kind, "a=1+2&b=%2F&c=").unwrap();
        assert_eq!((form.get("a"), form.get("b"), form.get("c")), (Some("1 2"), Some("/"), None));
        assert!(parse(kind, "a=1&a=1").is_err());
        assert!(parse(kind, "a=&a=1").is_err());
        let form = parse(kind, "resource=a&audience=b&resource=&resource=a").unwrap();
        assert_eq!(form.targets(), ["a", "b", "a"]);
        assert!(parse("application/json", "a=1").is_err());
        let many: String = (0..40).map(|n| format!("p{n}=1&")).collect();
        assert!(parse(kind, &many).is_err());
        assert!(parse(kind, &"resource=a&".repeat(40)).is_err());
    }
}
