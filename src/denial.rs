//! Why a request is refused: a closed list. One row here is the metric label, the log code, the
//! reason phrase that clients print into their own logs, and the row in docs/denials.md.
//!
//! Never carries anything that a client sent.

macro_rules! denials {
    ($($(#[doc = $doc:literal])+ $variant:ident $code:literal $status:literal $(. $substatus:literal)? $title:literal $hint:literal;)+) => {
        /// Why a request is refused.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Denial { $($(#[doc = $doc])+ $variant,)+ }

        impl Denial {
            /// Every denial, in the order of the documentation.
            pub const ALL: &[Denial] = &[$(Denial::$variant,)+];

            /// `room.reason`: the metric label, the log code and the documentation's heading.
            pub const fn code(self) -> &'static str { match self { $(Denial::$variant => $code,)+ } }

            /// The HTTP status that the client is given.
            pub const fn status(self) -> u16 { match self { $(Denial::$variant => $status,)+ } }

            /// The substatus that IIS logs for the same refusal, where it has one: 403.13 is 13.
            pub const fn substatus(self) -> Option<u8> {
                match self {
                    $($(Denial::$variant => Some($substatus),)?)+
                    _ => None,
                }
            }

            /// What happened, as a sentence for the client and the operator.
            pub const fn title(self) -> &'static str { match self { $(Denial::$variant => $title,)+ } }

            /// How to mend it, as a sentence for the operator.
            pub const fn hint(self) -> &'static str { match self { $(Denial::$variant => $hint,)+ } }
        }
    };
}

denials! {
    /// RFC 9112 §6.1: both lengths in one head is how requests are smuggled.
    FramingLengthAndCoding "framing.length_and_coding" 400
        "The request has both Content-Length and Transfer-Encoding."
        "No correct client sends both; look at what stands between the client and sitegate.";
    /// RFC 9112 §6.1: only `chunked`, once, on HTTP/1.1.
    FramingCoding "framing.coding" 400
        "The request's Transfer-Encoding is not exactly one 'chunked' on HTTP/1.1."
        "The client must send its body with Content-Length or with plain chunked coding.";
    /// RFC 9112 §7.1: chunks that a lenient parser would cut elsewhere.
    FramingChunk "framing.chunk" 400
        "The request's chunked body is not well-formed."
        "The client must send chunk sizes as plain hexadecimal digits with line ends of CR LF.";
    /// RFC 9110 §8.6: digits, once.
    FramingLength "framing.length" 400
        "The request's Content-Length is not one plain decimal number."
        "The client must send one Content-Length of digits only.";
    /// RFC 9112 §2–§5: a head that two parsers could read in two ways.
    FramingHead "framing.head" 400
        "The request head is not well-formed HTTP."
        "Look for bare line feeds, folded lines, spaces before a colon, control characters or a Connection field that names Content-Length in what the client sends.";
    /// RFC 9110 §9: a method that this gateway never carries.
    FramingMethod "framing.method" 405
        "CONNECT and TRACE are not carried."
        "Nothing that a site system offers needs them.";
    /// RFC 9110 §7.8: another protocol on this connection, past everything that is judged here.
    FramingUpgrade "framing.upgrade" 400
        "The request asks to switch to a protocol that is not carried, or not in the one form that WebSocket has."
        "WebSocket alone is carried, as GET over HTTP/1.1, and nothing may be sent before its answer; the client should not offer h2c or TLS by Upgrade.";
    /// The request line alone is over the limit.
    LimitUri "limit.uri" 414
        "The request target is longer than the configured limit."
        "Raise limits.uri_bytes if a client of yours needs longer targets.";
    /// The request head is over the limit.
    LimitHead "limit.head" 431
        "The request head is larger than the configured limit."
        "Raise limits.header_bytes or limits.headers if a client of yours needs it.";
    /// The request head dripped.
    LimitTime "limit.time" 408
        "The request head did not arrive within the configured time."
        "Check the client's link, or raise limits.header_time.";
    /// The request body is over the route's limit.
    LimitBody "limit.body" 413
        "The request body is larger than this route allows."
        "Give the route a larger body_bytes, or send the upload to the route that is meant for it.";
    /// The request body came slower than the configured rate.
    LimitRate "limit.rate" 408
        "The request body came slower than the configured minimum rate, or stopped."
        "Check the client's link, or lower limits.body_bytes_per_second.";
    /// RFC 6585 §4: a route that takes so many requests of one address in a minute.
    LimitRequests "limit.requests" 429
        "The address has made more requests than this route takes in a minute."
        "Look who that is. Many clients behind one address need a route of your own with more requests_per_minute, or the PROXY protocol from what stands before them.";
    /// RFC 9112 §3.2.
    HostInvalid "host.invalid" 400
        "The request has no Host, more than one, or one that is not a plain host and port."
        "The client must name the site system by one host name.";
    /// RFC 9110 §15.5.20.
    HostMisdirected "host.misdirected" 421
        "The Host is not one of the site system that this connection was opened for."
        "Add the name to the site system's hosts, or correct the name the client uses.";
    /// RFC 5842 §7.2, RFC 8586: a backend leads to this gateway again.
    HostLoop "host.loop" 508
        "The request has passed this gateway before: its backend leads back here."
        "Correct backend: its name or address must be the web server's own, not this gateway's.";
    /// A path that the backend could read as another one.
    PathAmbiguous "path.ambiguous" 400
        "The path could be read in more than one way."
        "Encoded slashes and backslashes, double escapes, double slashes and dot segments are refused; beside the names of routes whatever is not ASCII, and percent signs and semicolons but in the names of content; send the plain path.";
    /// A path that is no path.
    PathMalformed "path.malformed" 400
        "The request target is not a path of printable ASCII characters that starts with a slash."
        "Percent-encode what is outside printable ASCII; absolute targets and fragments are refused.";
    /// A query that a backend could read as another one.
    PathQuery "path.query" 400
        "The query could be read in more than one way."
        "Where queries are judged, a query is one word and perhaps plain arguments: nothing is escaped, empty or written twice.";
    /// Default deny.
    RouteUnknown "route.unknown" 403
        "No route of this site system covers the path."
        "Add a [[site_system.route]] for it, or the role whose preset holds it.";
    /// A route that says deny.
    RouteDenied "route.denied" 403
        "The route for this path denies every request."
        "Change the route's require if clients are meant to use it.";
    /// A route that does not list the method.
    RouteMethod "route.method" 405
        "The route for this path does not take this method."
        "Add the method to the route's methods if clients are meant to use it.";
    /// A question that no client without a token has to ask.
    RouteQuery "route.query" 403
        "The route for this path does not take this query."
        "The access log names the query's word; add it to location_queries if clients of yours need it, or ask from a network of alt_auth if it is for media.";
    /// After the switch nothing is judged any more.
    RouteWebsocket "route.websocket" 403
        "The route for this path takes no WebSocket."
        "Give the route websocket = true if clients are meant to open one there.";
    /// AltAuth is a known door: closed until someone decides who may use it.
    RouteAltAuth "route.alt_auth" 403
        "AltAuth namespaces are denied until a policy for them is configured."
        "AltAuth lets anyone register without credentials; clients with tokens do not need it. [site_system.alt_auth] opens it to the networks where media start.";
    /// A door that is open to some networks.
    RouteAltAuthNetwork "route.alt_auth_network" 403
        "AltAuth namespaces are open to other networks than the client's."
        "Add the client's network to the networks of alt_auth if media start there.";
    /// Windows authentication is bound to a connection.
    RouteWindowsAuth "route.windows_auth" 403
        "Namespaces with Windows authentication are denied on this site system."
        "Set windows_auth = true on the site system if clients without tokens must use them.";
    /// Port 80 of a site system that wants TLS.
    ClearRefused "clear.refused" 403 . 4
        "The request came by plain HTTP, which is refused here."
        "Let the client use https. What still comes in clear is counted in sitegate_clear_requests_total; mode of plain_http says what becomes of it.";
    /// RFC 9110 §15.4.8: the same again, by https.
    ClearRedirected "clear.redirected" 307
        "The request came by plain HTTP, and was sent to https."
        "Nothing is wrong if the client follows. One that does not needs the https URL in its own configuration.";
    /// A message that has no reading, or more than one.
    MessageMalformed "message.malformed" 400
        "The body is not a well-formed message."
        "A message is multipart, and its first part a plain envelope in UTF-16; the access log says what is wrong with this one. Clients without a token may send no other, and with one message_guard decides.";
    /// CVE-2024-43468: a SourceID ended up in the site's database as it was.
    MessageSource "message.source_id" 400
        "The message's SourceID is not a client's id."
        "A client's id is GUID: and a GUID. No client sends another: look at who did.";
    /// What LocationMgr.dll puts into its statements stands in the payload as well (CVE-2024-43468).
    MessagePayload "message.payload" 400
        "The message's payload is not a request with plain values."
        "Without a token a message is read to its end; the access log says what is wrong with this one. No client is known to send another: look at who did.";
    /// A request that no client without a token has to make.
    MessageRequest "message.request" 403
        "The message asks for something that needs a token."
        "The access log names what it asks for; add it to message_requests if clients without a token need it.";
    /// An endpoint that is not for this sender or this way in.
    MessageEndpoint "message.endpoint" 403
        "The message is for an endpoint that is not open here."
        "The access log names the endpoint; add it to message_endpoints, or to the endpoints of alt_auth, if clients are meant to reach it.";
    /// A device that sends as another.
    MessageDevice "message.device" 403
        "The message is from another device than its token."
        "With message_guard = \"device\" a message's SourceID must be the device of its token; tokens without a device of the site open nothing there.";
    /// The connection proved no client certificate.
    CertificateMissing "certificate.missing" 403 . 7
        "The client sent no certificate when it connected, and this route needs one."
        "Give the client a certificate, and see that it selects it; a connection that is open already cannot send one.";
    /// RFC 5280 §5.
    CertificateRevoked "certificate.revoked" 403 . 13
        "The client's certificate has been revoked."
        "Issue the client a new certificate if it is to work on.";
    /// RFC 5280 §6.3.3: undetermined is not unrevoked.
    CertificateRevocationUnknown "certificate.revocation_unknown" 403 . 13
        "Whether the client's certificate has been revoked cannot be told."
        "Have client_crl hold a current CRL of the authority that issued it; the access log says what is wrong.";
    /// RFC 5280 §6.1.
    CertificateUntrusted "certificate.untrusted" 403 . 16
        "No trusted authority stands behind the client's certificate."
        "Put the authority into client_ca, and have the client send what stands between; the access log says what is wrong.";
    /// RFC 5280 §4.2.1.12.
    CertificateUsage "certificate.usage" 403 . 16
        "The client's certificate is not for client authentication."
        "Have it issued with the extended key usage clientAuth.";
    /// RFC 5280 §4.1.2.5.
    CertificateExpired "certificate.expired" 403 . 17
        "The client's certificate has expired or is not valid yet, or one above it."
        "Renew it; if many fail at once, compare the clocks.";
    /// RFC 6750 §3.1: no credential at all.
    TokenMissing "token.missing" 401
        "The request carries no token, and this route needs one."
        "The client has not been given a token, or sends it in a header that token_headers does not name.";
    /// RFC 6750 §2: one credential, one place.
    TokenAmbiguous "token.ambiguous" 400
        "The request carries more than one credential."
        "The client must send exactly one token, in one header, once.";
    /// RFC 7515 §3.1 and §7.1: not a compact JWS, or not strict JSON inside.
    TokenMalformed "token.malformed" 401
        "The token is not a well-formed signed JWT."
        "Look at the token with 'sitegate token inspect'.";
    /// RFC 8725 §3.1: the key decides the algorithm.
    TokenAlgorithm "token.algorithm" 401
        "The token's algorithm is not one that its key is for."
        "RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384 and EdDSA keys are usable, each for its own algorithm alone.";
    /// RFC 7515 §4.1.11: extensions that are not understood, and RFC 7797.
    TokenCritical "token.critical" 401
        "The token demands extensions that sitegate does not support."
        "Issue the token without 'crit' and 'b64'.";
    /// RFC 8725 §3.11: a token of another kind (identity, refresh, encrypted).
    TokenType "token.type" 401
        "This kind of token is not an access token."
        "Send the access token; identity tokens, refresh tokens and encrypted tokens are refused.";
    /// RFC 8725 §3.8.
    TokenIssuer "token.issuer" 401
        "The token's issuer is not one that this site system trusts."
        "Compare the token's iss with the configured token issuers and the site system's issuers list.";
    /// No key of the issuer verifies it: an unknown key and a wrong signature answer alike.
    TokenSignature "token.signature" 401
        "No key of the token's issuer verifies the token."
        "If the issuer changed its keys, update its key file or see why they are not fetched; otherwise the token was altered or forged.";
    /// RFC 7519 §4.1.4.
    TokenExpired "token.expired" 401
        "The token has expired."
        "The client must renew its token; if many fail at once, compare the clocks.";
    /// RFC 7519 §4.1.5.
    TokenNotYetValid "token.not_yet_valid" 401
        "The token is not valid yet."
        "The clocks of the issuer and of this machine differ by more than the allowed leeway.";
    /// A token that lives longer than its issuer may give.
    TokenLifetime "token.lifetime" 401
        "The token is valid for longer than its issuer may grant."
        "Issue shorter tokens, or raise the issuer's lifetime_max.";
    /// RFC 7519 §4.1.3.
    TokenAudience "token.audience" 401
        "The token is for another audience."
        "Add the token's aud to the issuer's audiences if this site is meant by it.";
    /// An Entra token of another tenant.
    TokenTenant "token.tenant" 401
        "The token is from another tenant."
        "Compare the token's tid with the issuer's tenant.";
    /// Claims that are missing or of the wrong type.
    TokenClaims "token.claims" 401
        "The token lacks a claim that its kind must have, or has it in the wrong form."
        "Look at the token with 'sitegate token inspect'.";
    /// RFC 6750 §3.1: revoked, by its id or by when it was issued.
    TokenBlocked "token.blocked" 401
        "The token was blocked before its end."
        "Look for its id, or for issued_before, in the site's blocklist; a new token may be good.";
    /// RFC 8705 §3: a token for whoever has the key of one certificate.
    TokenBinding "token.binding" 401
        "The token is bound to a client certificate that this connection has not proved."
        "The client must connect with the certificate that its token was issued for, and the site system must have client_certificate = \"request\".";
    /// Neither a device nor a user: an application's token, or one of unknown purpose.
    TokenPurpose "token.purpose" 403
        "A token of this purpose does not open this route."
        "Registration tokens open registration alone, content tokens content alone; application tokens open nothing.";
    /// RFC 8693 §4.2: a token for one package, or for one path.
    TokenScope "token.scope" 403
        "The token does not open this path: it is limited to others."
        "The client must exchange its client token for one with the package or path that it needs.";
    /// Device-centric work without a device.
    DeviceTokenRequired "device.token_required" 403
        "This route needs a device's token."
        "The client must send the device's own token, or a user token with a device claim.";
    /// The device itself is blocked, with whatever token.
    DeviceBlocked "device.blocked" 403
        "The device is blocked."
        "Take the device out of the site's blocklist if it is to be let in again.";
    /// User-centric work without a user.
    UserTokenRequired "user.token_required" 403
        "This route needs a user's token."
        "The client must send the token of the signed-in user.";
    /// The user is blocked, with whatever token.
    UserBlocked "user.blocked" 403
        "The user is blocked."
        "Take the user out of the site's blocklist if they are to be let in again.";
    /// The site server has not been heard of for longer than its last bundle was good for.
    SiteUnheard "site.unheard" 503
        "It is not known here who is blocked, because the site server has not been heard of."
        "Look at why the gateway does not reach its site server; carry a bundle here meanwhile, or write stale = \"serve\" in [site_server].";
    /// Nothing answers at the backend's address.
    UpstreamUnreachable "upstream.unreachable" 502
        "The site system's backend could not be reached."
        "Check that the backend runs and listens at the configured address.";
    /// RFC 9110 §15.6.5.
    UpstreamTimeout "upstream.timeout" 504
        "The site system's backend did not answer in time."
        "Check the backend's load, or raise the site system's backend_answer_time.";
    /// The https backend is not who it should be.
    UpstreamCertificate "upstream.certificate" 502
        "The certificate of the site system's backend is not the one that is trusted."
        "Compare the backend's certificate with backend_ca and backend_name.";
    /// RFC 9110 §15.5.2: the backend wants credentials, and the client has none for it.
    UpstreamCredentials "upstream.credentials" 502
        "The site system's backend does not accept the credentials that sitegate has for it."
        "Compare the account in backend_auth with what the backend expects; nothing of its answer was passed on.";
    /// The backend's answer is not well-formed HTTP.
    UpstreamResponse "upstream.response" 502
        "The site system's backend answered with something that is not well-formed HTTP."
        "Look at the backend's own log; nothing of that answer was passed on.";
    /// The backend closed before it answered.
    UpstreamClosed "upstream.closed" 502
        "The site system's backend closed the connection before it answered."
        "Look at the backend's own log for a crash or a recycled worker process.";
    /// A fault of the gateway itself.
    GatewayInternal "gateway.internal" 500
        "sitegate failed to handle the request."
        "This is a defect of sitegate; the log has the details beside the request id.";
}

impl Denial {
    /// The denial with this code, if there is one.
    pub fn from_code(code: &str) -> Option<Denial> {
        Denial::ALL.iter().copied().find(|d| d.code().eq_ignore_ascii_case(code))
    }

    /// The HTTP/1.1 reason phrase: `token.not_yet_valid` is `EHTTP_Token_Not_Yet_Valid`.
    pub fn reason_phrase(self) -> String {
        let mut phrase = String::from("EHTTP");
        for word in self.code().split(['.', '_']) {
            let (first, rest) = word.split_at(word.len().min(1));
            phrase.push('_');
            phrase.push_str(&first.to_ascii_uppercase());
            phrase.push_str(rest);
        }
        phrase
    }

    /// The `WWW-Authenticate` value that belongs to the answer (RFC 6750 §3): none outside 401 and
    /// wrong kinds of token, no `error` where no token came, and never Negotiate.
    pub fn challenge(self) -> Option<&'static str> {
        match self {
            Denial::TokenMissing => Some("Bearer realm=\"sitegate\""),
            Denial::TokenPurpose
            | Denial::TokenScope
            | Denial::DeviceTokenRequired
            | Denial::UserTokenRequired => {
                Some("Bearer realm=\"sitegate\", error=\"insufficient_scope\"")
            }
            Denial::TokenAmbiguous => Some("Bearer realm=\"sitegate\", error=\"invalid_request\""),
            d if d.status() == 401 => Some("Bearer realm=\"sitegate\", error=\"invalid_token\""),
            _ => None,
        }
    }
}

impl std::fmt::Display for Denial {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({})", self.title(), self.code())
    }
}

impl std::error::Error for Denial {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_phrase_is_derived_from_the_code() {
        assert_eq!(Denial::TokenExpired.reason_phrase(), "EHTTP_Token_Expired");
        assert_eq!(Denial::UserTokenRequired.reason_phrase(), "EHTTP_User_Token_Required");
    }

    #[test]
    fn client_certificates_are_refused_with_the_substatus_that_iis_logs() {
        for (denial, substatus) in [
            (Denial::CertificateMissing, Some(7)),
            (Denial::CertificateRevoked, Some(13)),
            (Denial::CertificateUntrusted, Some(16)),
            (Denial::CertificateExpired, Some(17)),
            (Denial::TokenMissing, None),
        ] {
            assert_eq!(denial.substatus(), substatus);
        }
    }

    #[test]
    fn codes_are_unique_and_found_again() {
        for d in Denial::ALL {
            assert_eq!(Denial::from_code(d.code()), Some(*d));
            let elsewhere = *d == Denial::ClearRedirected;
            assert!(elsewhere || (400..600).contains(&d.status()), "{d}");
        }
    }

    #[test]
    fn every_401_has_a_bearer_challenge_and_none_offers_windows_authentication() {
        for d in Denial::ALL {
            let challenge = d.challenge().unwrap_or("");
            assert!(d.status() != 401 || challenge.starts_with("Bearer "), "{d}");
            assert!(!challenge.contains("Negotiate") && !challenge.contains("NTLM"));
        }
    }
}
