//! Why the token service refuses: a closed list. One row is the metric label, the log code, the
//! client's error text, and the row in docs/token-service.md.
//!
//! Never carries anything that a client sent.

macro_rules! denials {
    ($($(#[doc = $doc:literal])+ $variant:ident $code:literal $status:literal $error:literal $title:literal $hint:literal;)+) => {
        /// Why the token service refuses a request.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum GrantDenial { $($(#[doc = $doc])+ $variant,)+ }

        impl GrantDenial {
            /// Every denial, in the order of the documentation.
            pub const ALL: &[GrantDenial] = &[$(GrantDenial::$variant,)+];

            /// `area.reason`: the metric label, the log code and the documentation's heading.
            pub const fn code(self) -> &'static str {
                match self { $(GrantDenial::$variant => $code,)+ }
            }

            /// The HTTP status of the response.
            pub const fn status(self) -> u16 {
                match self { $(GrantDenial::$variant => $status,)+ }
            }

            /// The error code of the standards (RFC 6749 §5.2, RFC 6750 §3.1, RFC 7591 §3.2.2, RFC
            /// 8693 §2.2.2), which client libraries evaluate. `None` if the client sent no
            /// credentials: RFC 6750 §3.1 then wants no error code.
            pub const fn error(self) -> Option<&'static str> {
                match self { $(GrantDenial::$variant => told($error),)+ }
            }

            /// Whether the refused client has not authenticated.
            pub const fn proves_nothing(self) -> bool {
                matches!(
                    self,
                    GrantDenial::RequestMalformed
                        | GrantDenial::GrantType
                        | GrantDenial::RegistrationUnproven
                        | GrantDenial::RegistrationToken
                        | GrantDenial::AssertionMalformed
                        | GrantDenial::AssertionSignature
                        | GrantDenial::AssertionAudience
                        | GrantDenial::AssertionTime
                        | GrantDenial::AssertionReplayed
                        | GrantDenial::SubjectToken
                        | GrantDenial::SubjectBinding
                )
            }

            /// The fault, as a sentence for the client and the operator.
            pub const fn title(self) -> &'static str {
                match self { $(GrantDenial::$variant => $title,)+ }
            }

            /// The remedy, as a sentence for the operator.
            pub const fn hint(self) -> &'static str {
                match self { $(GrantDenial::$variant => $hint,)+ }
            }
        }
    };
}

const fn told(error: &'static str) -> Option<&'static str> {
    if error.is_empty() { None } else { Some(error) }
}

denials! {
    /// The request does not have the form that the endpoint reads.
    RequestMalformed "request.malformed" 400 "invalid_request"
        "The request is not in the form that the endpoint reads."
        "The token and revocation endpoints read a form (application/x-www-form-urlencoded) with each parameter once, registration reads a JSON object.";
    /// RFC 6749 §5.2.
    GrantType "grant.type" 400 "unsupported_grant_type"
        "The token service does not support this grant type."
        "Use client_credentials with a private_key_jwt assertion, or token exchange.";
    /// Rate limit: one address or one device asks too often.
    RateLimited "request.rate" 429 "temporarily_unavailable"
        "Too many requests from this address or device."
        "Look for a client that retries in a loop; many clients behind one address need a higher token_service.requests_per_minute.";
    /// The store is unavailable.
    StoreAway "service.store" 503 "temporarily_unavailable"
        "The site's store cannot be used now, so no token is issued."
        "sitegate status on the site server has the cause and the fix; sitegate retries by itself.";
    /// The site cannot sign.
    SigningFailed "service.signing" 500 "server_error"
        "The site's token key could not sign."
        "Check the site server's log; the token key's file may be damaged.";
    /// RFC 7591 §3: the registration carries no accepted credential.
    RegistrationUnproven "registration.unproven" 401 ""
        "Registration needs a valid bulk registration token, Entra device token or client certificate."
        "Give the client a bulk registration token (sitegate token bulk), or request client certificates on this site system.";
    /// The registration's token is not accepted.
    RegistrationToken "registration.token" 401 "invalid_token"
        "The token that came with the registration is not accepted."
        "sitegate token inspect says what is wrong with it.";
    /// A client's, user's or content token cannot be used to register.
    RegistrationPurpose "registration.purpose" 403 "insufficient_scope"
        "The token that came with the registration is valid, but not for registration."
        "Register with a bulk registration token or the device's own Entra token.";
    /// The bulk token has no uses left.
    RegistrationTokenUsedUp "registration.token_used_up" 403 "invalid_token"
        "The bulk registration token has been used as often as it may be."
        "Issue another bulk token, or one with more uses; a restored store does not have tokens that were issued after the backup.";
    /// Blocked by the operator.
    RegistrationTokenBlocked "registration.token_blocked" 403 "invalid_token"
        "The bulk registration token is blocked."
        "Issue another bulk token; sitegate token list shows who blocked this one.";
    /// The device, its key or its Entra id is blocked.
    DeviceBlocked "device.blocked" 403 "access_denied"
        "The device is blocked."
        "sitegate site unblock gives it access again.";
    /// The key belongs to another device, or the id comes with the key of another device.
    RegistrationClaim "registration.claim" 403 "access_denied"
        "The device id that the client claims belongs to another key."
        "A reinstalled client has to prove its old key, send its Entra device token, or wait for sitegate site approve.";
    /// Too many keys wait for approval; waiting keys are never evicted.
    RegistrationRivals "registration.rivals" 403 "access_denied"
        "Too many keys are already pending for the device that the client claims, or for its certificate."
        "sitegate site devices --pending shows where they came from: approve the right one and reject the others. A proof of the former key, the device's own certificate or Entra token, or another bulk token has a limit of its own.";
    /// RFC 7591 §3.2.2: client metadata that the site does not accept.
    RegistrationMetadata "registration.metadata" 400 "invalid_client_metadata"
        "The client's metadata are not supported."
        "Send jwks with exactly one public key, and private_key_jwt as token_endpoint_auth_method.";
    /// Too short, of an unknown kind, or a private key.
    RegistrationKey "registration.key" 400 "invalid_client_metadata"
        "The client's public key is too weak, of an unknown kind, or not a public key."
        "RSA of at least 2048 bits, P-256, P-384 and Ed25519 are accepted.";
    /// The proof of the former key does not verify.
    RegistrationProof "registration.proof" 400 "invalid_client_metadata"
        "The proof of the device's former key is not valid."
        "It must be an assertion by that key for this site, with the new key's thumbprint as jkt.";
    /// RFC 7523 §3: the assertion is missing or cannot be parsed.
    AssertionMalformed "assertion.malformed" 401 "invalid_client"
        "The client assertion is missing or not well-formed."
        "Send client_assertion_type and client_assertion with a signed JWT that has iss, sub, aud, exp and jti.";
    /// An unknown client id or a wrong key; the response does not distinguish them.
    AssertionSignature "assertion.signature" 401 "invalid_client"
        "The client is not known, or the assertion is not signed by its key."
        "The client has to register, or to sign with the key that it registered.";
    /// `aud` must be exactly one string that names this site.
    AssertionAudience "assertion.audience" 401 "invalid_client"
        "The assertion's aud is not exactly one string that names this token service."
        "Use the issuer or the token endpoint of the metadata, as a string and not as a list.";
    /// `exp`, `nbf` or `iat` is out of range.
    AssertionTime "assertion.time" 401 "invalid_client"
        "The assertion has expired, is not valid yet, or lives for more than an hour."
        "Check the client's clock; five minutes of difference are allowed.";
    /// RFC 7523 §3, item 7.
    AssertionReplayed "assertion.replayed" 401 "invalid_client"
        "The assertion has been used before."
        "Each request needs an assertion with its own jti; an assertion that arrives twice may have been stolen.";
    /// The device waits for `site approve`.
    DeviceNotApproved "device.not_approved" 403 "unauthorized_client"
        "The device, or the client's key, waits for approval."
        "sitegate site devices --pending shows the key, sitegate site approve approves it.";
    /// The device was away for too long.
    DeviceLapsed "device.lapsed" 403 "unauthorized_client"
        "The device's last token expired longer ago than token_service.return_grace."
        "The client has to register again.";
    /// The store has no record of the token's device.
    DeviceUnknown "device.unknown" 403 "access_denied"
        "The site has no record of the token's device."
        "The client has to register first.";
    /// RFC 8693 §2.1: the subject token is missing or not accepted.
    SubjectToken "subject.token" 400 "invalid_request"
        "The subject token is missing, not accepted, or of an unknown type."
        "sitegate token inspect says what is wrong with it.";
    /// The issuer's table does not have `exchange = true`.
    SubjectIssuer "subject.issuer" 400 "invalid_request"
        "Tokens of this issuer cannot be exchanged for the site's tokens."
        "Write exchange = true in the issuer's table if its tokens may be exchanged.";
    /// The token, its device or its user is blocked.
    SubjectBlocked "subject.blocked" 400 "invalid_request"
        "The subject token, its device or its user is blocked."
        "sitegate token list and sitegate site show say who blocked it.";
    /// The token has no uses left.
    SubjectUsedUp "subject.used_up" 400 "invalid_request"
        "The subject token has been used as often as it may be."
        "Issue another one.";
    /// RFC 8705 §3.
    SubjectBinding "subject.binding" 400 "invalid_request"
        "The subject token is bound to a client certificate that the client did not send on this connection."
        "The client has to send that certificate, and the site system has to request it (client_certificate = \"request\").";
    /// The token's purpose does not allow this exchange.
    SubjectPurpose "subject.purpose" 400 "invalid_request"
        "A token of this purpose cannot be exchanged for the requested token."
        "A client token is exchanged for a content token, an Entra token for a client token.";
    /// RFC 8693 §2.2.2, RFC 8707 §2.
    Target "grant.target" 400 "invalid_target"
        "The audience or resource is not of this site."
        "Request one site system by its https:// URL, or none.";
    /// RFC 6749 §3.3.
    Scope "grant.scope" 400 "invalid_scope"
        "The scope is unknown, or wider than that of the subject token."
        "content, package:ID and path:/PREFIX are known; an exchange can narrow a scope, never widen it.";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_unique_and_texts_are_sentences() {
        let mut codes: Vec<_> = GrantDenial::ALL.iter().map(|denial| denial.code()).collect();
        codes.sort_unstable();
        codes.dedup();
        assert_eq!(codes.len(), GrantDenial::ALL.len());
        for denial in GrantDenial::ALL {
            assert!(denial.title().ends_with('.') && denial.hint().ends_with('.'), "{denial:?}");
            // RFC 6749 §5.2: error and error_description are ASCII without quotes and backslashes.
            let told = [denial.error().unwrap_or_default(), denial.title()].concat();
            assert!(told.bytes().all(|b| matches!(b, b' '..=b'~') && b != b'"' && b != b'\\'));
        }
    }
}
