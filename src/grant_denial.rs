//! Why the token service refuses: a closed list. One row here is the metric label, the log code,
//! what the client is told, and the row in docs/token-service.md.
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

            /// `room.reason`: the metric label, the log code and the documentation's heading.
            pub const fn code(self) -> &'static str {
                match self { $(GrantDenial::$variant => $code,)+ }
            }

            /// The HTTP status that the client is given.
            pub const fn status(self) -> u16 {
                match self { $(GrantDenial::$variant => $status,)+ }
            }

            /// The standards' own word for it (RFC 6749 §5.2, RFC 6750 §3.1, RFC 7591 §3.2.2,
            /// RFC 8693 §2.2.2), by which client libraries go; `None` where a client sent no
            /// credentials at all, for which RFC 6750 §3.1 wants none.
            pub const fn error(self) -> Option<&'static str> {
                match self { $(GrantDenial::$variant => told($error),)+ }
            }

            /// Whether whoever is refused has not proved who they are.
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

            /// What happened, as a sentence for the client and the operator.
            pub const fn title(self) -> &'static str {
                match self { $(GrantDenial::$variant => $title,)+ }
            }

            /// How to mend it, as a sentence for the operator.
            pub const fn hint(self) -> &'static str {
                match self { $(GrantDenial::$variant => $hint,)+ }
            }
        }
    };
}

const fn told(error: &'static str) -> Option<&'static str> {
    match error.is_empty() {
        true => None,
        false => Some(error),
    }
}

denials! {
    /// Not what the endpoint reads.
    RequestMalformed "request.malformed" 400 "invalid_request"
        "The request is not in the form that the endpoint reads."
        "The token and revocation endpoints read a form (application/x-www-form-urlencoded) with each parameter once, registration reads a JSON object.";
    /// RFC 6749 §5.2.
    GrantType "grant.type" 400 "unsupported_grant_type"
        "The grant type is not one that the site gives tokens for."
        "Use client_credentials with a private_key_jwt assertion, or token exchange.";
    /// One address or one device asks too often.
    RateLimited "request.rate" 429 "temporarily_unavailable"
        "Too many requests from this address or device."
        "Look for a client that asks in a loop; many clients behind one address need a higher token_service.requests_per_minute.";
    /// The store cannot be used.
    StoreAway "service.store" 503 "temporarily_unavailable"
        "The site's store cannot be used now, so nothing is issued."
        "sitegate status on the site server says why and how to mend it; sitegate tries again by itself.";
    /// The site cannot sign.
    SigningFailed "service.signing" 500 "server_error"
        "The site's token key could not sign."
        "Look at the site server's log; the token key's file may be damaged.";
    /// RFC 7591 §3: nobody vouches for the client.
    RegistrationUnproven "registration.unproven" 401 ""
        "Registration needs a bulk registration token, an Entra device token or a client certificate that is good."
        "Give the client a bulk registration token (sitegate token bulk), or ask clients for certificates on this site system.";
    /// A token that is not good here.
    RegistrationToken "registration.token" 401 "invalid_token"
        "The token that came with the registration is not accepted."
        "sitegate token inspect says what is wrong with it.";
    /// A client's, user's or content token does not register.
    RegistrationPurpose "registration.purpose" 403 "insufficient_scope"
        "The token that came with the registration is good, but not for registration."
        "Register with a bulk registration token or the device's own Entra token.";
    /// The bulk token was used as often as it may be.
    RegistrationTokenUsedUp "registration.token_used_up" 403 "invalid_token"
        "The bulk registration token has been used as often as it may be."
        "Issue another bulk token, or one with more uses; a store that was restored knows of none that was issued since the copy.";
    /// Blocked by the operator.
    RegistrationTokenBlocked "registration.token_blocked" 403 "invalid_token"
        "The bulk registration token is blocked."
        "Issue another bulk token; sitegate token list shows who blocked this one.";
    /// The device, its key or its Entra id is blocked.
    DeviceBlocked "device.blocked" 403 "access_denied"
        "The device is blocked."
        "sitegate site unblock lets it in again.";
    /// The key of another device, or an id with another device's key.
    RegistrationClaim "registration.claim" 403 "access_denied"
        "The device id that the client claims belongs to another key."
        "A client that was reinstalled proves its old key, brings its Entra device token, or waits for sitegate site approve.";
    /// Nobody who waits is pushed out.
    RegistrationRivals "registration.rivals" 403 "access_denied"
        "Too many keys wait already for the device that the client claims, or by its certificate."
        "sitegate site devices --pending shows who brought them: approve the right one and reject the others; a proof of the former key, the device's own certificate or Entra token, or another bulk token has room of its own.";
    /// RFC 7591 §3.2.2: metadata that cannot be taken.
    RegistrationMetadata "registration.metadata" 400 "invalid_client_metadata"
        "The client's metadata are not ones that the site can take."
        "Send jwks with exactly one public key, and private_key_jwt as token_endpoint_auth_method.";
    /// Too short, of a kind that is not known, or private.
    RegistrationKey "registration.key" 400 "invalid_client_metadata"
        "The client's public key is too weak, of an unknown kind, or not a public key."
        "RSA of at least 2048 bits, P-256, P-384 and Ed25519 are taken.";
    /// The proof of the old key does not hold.
    RegistrationProof "registration.proof" 400 "invalid_client_metadata"
        "The proof of the device's former key does not hold."
        "It must be an assertion by that key for this site, with the new key's thumbprint as jkt.";
    /// RFC 7523 §3: no assertion, or none that can be read.
    AssertionMalformed "assertion.malformed" 401 "invalid_client"
        "The client assertion is missing or not well-formed."
        "Send client_assertion_type and client_assertion with a signed JWT that has iss, sub, aud, exp and jti.";
    /// Nobody of that id, or a wrong key: not told apart.
    AssertionSignature "assertion.signature" 401 "invalid_client"
        "The client is not known, or the assertion is not signed by its key."
        "The client has to register, or to sign with the key that it registered.";
    /// Exactly one string, and this site.
    AssertionAudience "assertion.audience" 401 "invalid_client"
        "The assertion's aud is not exactly one string that names this token service."
        "Use the issuer or the token endpoint of the metadata, as a string and not as a list.";
    /// exp, nbf or iat.
    AssertionTime "assertion.time" 401 "invalid_client"
        "The assertion has expired, is not valid yet, or lives for more than an hour."
        "Check the client's clock; five minutes of difference are allowed.";
    /// RFC 7523 §3, item 7.
    AssertionReplayed "assertion.replayed" 401 "invalid_client"
        "The assertion has been used before."
        "Each request needs an assertion with a jti of its own; one that is seen twice may have been stolen.";
    /// Waits for `site approve`.
    DeviceNotApproved "device.not_approved" 403 "unauthorized_client"
        "The device, or the key that the client proves, waits for approval."
        "sitegate site devices --pending shows the key, sitegate site approve lets it in.";
    /// Too long away.
    DeviceLapsed "device.lapsed" 403 "unauthorized_client"
        "The device's last token has expired for longer than token_service.return_grace."
        "The client has to register again.";
    /// No record of the device that a token speaks for.
    DeviceUnknown "device.unknown" 403 "access_denied"
        "The site has no record of the device that the token speaks for."
        "The client has to register first.";
    /// RFC 8693 §2.1: the subject token.
    SubjectToken "subject.token" 400 "invalid_request"
        "The subject token is missing, not accepted, or of a type that is not known."
        "sitegate token inspect says what is wrong with it.";
    /// `exchange` of its issuer.
    SubjectIssuer "subject.issuer" 400 "invalid_request"
        "Tokens of this issuer are not exchanged for the site's."
        "Write exchange = true in the issuer's table if its tokens may become the site's.";
    /// Blocked, by itself or by its device or user.
    SubjectBlocked "subject.blocked" 400 "invalid_request"
        "The subject token, its device or its user is blocked."
        "sitegate token list and sitegate site show say who blocked it.";
    /// The token was used as often as it may be.
    SubjectUsedUp "subject.used_up" 400 "invalid_request"
        "The subject token has been used as often as it may be."
        "Issue another one.";
    /// RFC 8705 §3.
    SubjectBinding "subject.binding" 400 "invalid_request"
        "The subject token is bound to a client certificate that the connection does not have."
        "The client has to present that certificate, and the site system has to ask for it (client_certificate = \"request\").";
    /// Not for that.
    SubjectPurpose "subject.purpose" 400 "invalid_request"
        "A token of this purpose cannot be exchanged for what is asked for."
        "A client token is exchanged for a content token, an Entra token for a client token.";
    /// RFC 8693 §2.2.2, RFC 8707 §2.
    Target "grant.target" 400 "invalid_target"
        "The audience or resource is not one of this site's."
        "Ask for one site system by https and its host, or for none.";
    /// RFC 6749 §3.3.
    Scope "grant.scope" 400 "invalid_scope"
        "The scope is not known, or wider than that of the subject token."
        "content, package:ID and path:/PREFIX are known; an exchange can narrow a scope, never widen it.";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_unique_and_told_in_sentences() {
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
