//! The two JSON objects of a token, parsed strictly: required members are present and of their
//! type.
//!
//! Checks only the form. The content is unverified until the signature is verified.

use super::algorithm::Algorithm;
use super::json::Json;
use super::refusal::Refusal;
use super::text::base64url;
use crate::denial::Denial;

/// The longest key name that is looked up, in bytes.
const KEY_NAME_BYTES_MAX: usize = 256;

/// The first second that no claim may name: the year 9999. Later times are attacks, not dates.
const TIME_END: i64 = 253_370_764_800;

/// The supported header parameters of a token (RFC 7515 §4). `jku`, `jwk`, `x5u` and `x5c` are not
/// read: a token never brings its own key.
#[derive(Debug)]
pub(super) struct Header {
    pub(super) algorithm: Algorithm,
    /// Whether its `typ` is `at+jwt`, which only access tokens have.
    pub(super) is_access: bool,
    pub(super) kid: Option<String>,
    pub(super) x5t: Option<String>,
    pub(super) x5t_s256: Option<String>,
}

impl Header {
    /// The header of an access token.
    pub(super) fn parse(segment: &str) -> Result<Self, Refusal> {
        Self::parse_typed(segment, &["jwt", "at+jwt"])
    }

    /// Parses a header that has one of these types as `typ`, or no `typ`.
    pub(super) fn parse_typed(segment: &str, types: &[&str]) -> Result<Self, Refusal> {
        let json = object(segment)?;
        let has = |name: &str| json.member(name).is_some();
        if has("crit") || has("b64") {
            return Err(Refusal::new(Denial::TokenCritical, "the header has crit or b64"));
        }
        if has("enc") || has("zip") || has("cty") {
            return Err(Refusal::new(Denial::TokenType, "the header has enc, zip or cty"));
        }
        let typ = json.member("typ").map(|typ| check_typ(typ, types)).transpose()?;
        let no_algorithm = Refusal::new(Denial::TokenAlgorithm, "the header has no alg");
        let name = json.member("alg").and_then(Json::as_text).ok_or(no_algorithm)?;
        let algorithm = Algorithm::from_name(name).ok_or_else(|| {
            Refusal::quoting(Denial::TokenAlgorithm, "this alg is never accepted:", name)
        })?;
        Ok(Header {
            algorithm,
            is_access: typ.is_some_and(|typ| typ.eq_ignore_ascii_case("at+jwt")),
            kid: key_name(&json, "kid")?,
            x5t: key_name(&json, "x5t")?,
            x5t_s256: key_name(&json, "x5t#S256")?,
        })
    }

    /// The name of the key, for logs.
    pub(super) fn key_name(&self) -> Option<&str> {
        self.kid.as_deref().or(self.x5t.as_deref()).or(self.x5t_s256.as_deref())
    }
}

/// The registered claims that every token must have (RFC 7519 §4.1), and all other claims.
#[derive(Debug)]
pub(super) struct Claims {
    pub(super) iss: String,
    pub(super) audiences: Vec<String>,
    /// Seconds after 1970.
    pub(super) exp: i64,
    /// Seconds after 1970.
    pub(super) nbf: Option<i64>,
    /// Seconds after 1970.
    pub(super) iat: Option<i64>,
    all: Json,
}

impl Claims {
    pub(super) fn parse(segment: &str) -> Result<Self, Refusal> {
        let all = object(segment)?;
        let exp = time(&all, "exp")?.filter(|t| *t > 0);
        let nbf = time(&all, "nbf")?;
        let iat = time(&all, "iat")?;
        let iss = all.member("iss").and_then(Json::as_text).map(str::to_owned);
        Ok(Claims {
            iss: iss.ok_or_else(|| claim("iss is missing or not a string"))?,
            exp: exp.ok_or_else(|| claim("exp is missing or zero"))?,
            audiences: audiences(&all)?,
            nbf,
            iat,
            all,
        })
    }

    /// Whether the claim is present, with any type.
    pub(super) fn has(&self, name: &str) -> bool {
        self.all.member(name).is_some()
    }

    /// The claim's raw value.
    pub(super) fn raw(&self, name: &str) -> Option<&Json> {
        self.all.member(name)
    }

    /// An optional text claim. A claim of another type is refused, not ignored.
    pub(super) fn text(&self, name: &str) -> Result<Option<&str>, Refusal> {
        match self.all.member(name) {
            None => Ok(None),
            Some(Json::Text(text)) => Ok(Some(text)),
            Some(_) => Err(claim("an identity claim is not a string")),
        }
    }
}

/// The refusal of a token without a required claim.
pub(super) fn claim(detail: &'static str) -> Refusal {
    Refusal::new(Denial::TokenClaims, detail)
}

fn object(segment: &str) -> Result<Json, Refusal> {
    let malformed = |detail| Refusal::new(Denial::TokenMalformed, detail);
    let bytes = base64url(segment).ok_or_else(|| malformed("a segment is not strict base64url"))?;
    match Json::parse(&bytes).map_err(|fault| malformed(fault.as_str()))? {
        json @ Json::Object(_) => Ok(json),
        _ => Err(malformed("a segment is not a JSON object")),
    }
}

/// Checks `typ` (RFC 7515 §4.1.9 and RFC 9068 §2.1): the media type may omit `application/`.
fn check_typ<'a>(typ: &'a Json, types: &[&str]) -> Result<&'a str, Refusal> {
    let name = typ.as_text().unwrap_or_default();
    let short = match name.split_at_checked(12) {
        Some((prefix, rest)) if prefix.eq_ignore_ascii_case("application/") => rest,
        _ => name,
    };
    if types.iter().any(|known| short.eq_ignore_ascii_case(known)) {
        Ok(short)
    } else {
        Err(Refusal::quoting(Denial::TokenType, "typ is not accepted:", name))
    }
}

fn key_name(json: &Json, name: &str) -> Result<Option<String>, Refusal> {
    match json.member(name) {
        None => Ok(None),
        Some(Json::Text(text)) if (1..=KEY_NAME_BYTES_MAX).contains(&text.len()) => {
            Ok(Some(text.clone()))
        }
        Some(_) => Err(Refusal::new(
            Denial::TokenMalformed,
            "kid or x5t is empty, too long or not a string",
        )),
    }
}

/// A NumericDate (RFC 7519 §2), which may have a fraction, rounded down to whole seconds.
fn time(all: &Json, name: &str) -> Result<Option<i64>, Refusal> {
    let seconds = match all.member(name) {
        None => return Ok(None),
        Some(Json::Integer(seconds)) => Some(*seconds),
        // Checking the range first makes the conversion exact: it lies within 2^53.
        Some(Json::Number(n)) if (0.0..TIME_END as f64).contains(n) => Some(*n as i64),
        Some(_) => None,
    };
    match seconds.filter(|t| (0..TIME_END).contains(t)) {
        Some(seconds) => Ok(Some(seconds)),
        None => Err(claim("exp, nbf or iat is not a time in seconds")),
    }
}

fn audiences(all: &Json) -> Result<Vec<String>, Refusal> {
    let list = match all.member("aud") {
        Some(Json::Text(text)) => vec![text.clone()],
        Some(Json::List(items)) => {
            let texts = items.iter().map(|i| i.as_text().map(str::to_owned));
            texts.collect::<Option<Vec<_>>>().unwrap_or_default()
        }
        _ => Vec::new(),
    };
    if list.is_empty() || list.iter().any(String::is_empty) {
        return Err(claim("aud is missing, empty or not a string"));
    }
    Ok(list)
}
