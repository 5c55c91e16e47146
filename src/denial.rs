//! Reasons for denying a request: a closed list. One row here is the metric label, the log code,
//! the reason phrase that clients write into their own logs, and the row in docs/denials.md.
//!
//! Never contains client input.

macro_rules! denials {
    ($($(#[doc = $doc:literal])+ $variant:ident $code:literal $status:literal $(. $substatus:literal)? $title:literal $hint:literal;)+) => {
        /// Why a request is denied.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Denial { $($(#[doc = $doc])+ $variant,)+ }

        impl Denial {
            /// Every denial, in the order of the documentation.
            pub const ALL: &[Denial] = &[$(Denial::$variant,)+];

            /// `area.reason`: the metric label, the log code and the documentation's heading.
            pub const fn code(self) -> &'static str { match self { $(Denial::$variant => $code,)+ } }

            /// The HTTP status of the response.
            pub const fn status(self) -> u16 { match self { $(Denial::$variant => $status,)+ } }

            /// The substatus that IIS logs for the same denial, if it has one: 403.13 is 13.
            pub const fn substatus(self) -> Option<u8> {
                match self {
                    $($(Denial::$variant => Some($substatus),)?)+
                    _ => None,
                }
            }

            /// The fact, as a sentence for the client and the operator.
            pub const fn title(self) -> &'static str { match self { $(Denial::$variant => $title,)+ } }

            /// How to fix it, as a sentence for the operator.
            pub const fn hint(self) -> &'static str { match self { $(Denial::$variant => $hint,)+ } }
        }
    };
}

denials! {
    /// RFC 9112 §6.1: both lengths in one head enable request smuggling.
    FramingLengthAndCoding "framing.length_and_coding" 400
        "The request has both Content-Length and Transfer-Encoding."
        "No correct client sends both; check the proxies between the client and sitegate.";
    /// RFC 9112 §6.1: only `chunked`, once, on HTTP/1.1.
    FramingCoding "framing.coding" 400
        "The request's Transfer-Encoding is not exactly one 'chunked' on HTTP/1.1."
        "The client must send its body with Content-Length or with plain chunked coding.";
    /// RFC 9112 §7.1: chunks that a lenient parser would delimit differently.
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
    /// RFC 9110 §9: a method that this gateway never forwards.
    FramingMethod "framing.method" 405
        "CONNECT and TRACE are not supported."
        "No client of a site system needs them.";
    /// RFC 9110 §7.8: another protocol on this connection would bypass every check here.
    FramingUpgrade "framing.upgrade" 400
        "The request asks to upgrade to a protocol other than WebSocket, or its WebSocket handshake is not well-formed."
        "Only WebSocket is supported, as GET over HTTP/1.1, and the client must wait for the response before it sends more; it should not offer h2c or TLS by Upgrade.";
    /// RFC 9110 §10.1.1: an unsupported expectation.
    FramingExpectation "framing.expectation" 417
        "The request has an Expect field other than 100-continue."
        "The client or its proxy must send Expect only with 100-continue.";
    /// The request line alone is over the limit.
    LimitUri "limit.uri" 414
        "The request target is longer than the configured limit."
        "Raise limits.uri_bytes if a client of yours needs longer targets.";
    /// The request head is over the limit.
    LimitHead "limit.head" 431
        "The request head is larger than the configured limit."
        "Raise limits.header_bytes or limits.headers if a client of yours needs it.";
    /// The request head arrived too slowly.
    LimitTime "limit.time" 408
        "The request head did not arrive within the configured time."
        "Check the client's link, or raise limits.header_time.";
    /// The request body is over the route's limit.
    LimitBody "limit.body" 413
        "The request body is larger than this route allows."
        "Give the route a larger body_bytes, or send the upload to the route that is meant for it.";
    /// The request body arrived more slowly than the configured rate.
    LimitRate "limit.rate" 408
        "The request body came slower than the configured minimum rate, or stopped."
        "Check the client's link, or lower limits.body_bytes_per_second.";
    /// RFC 6585 §4: the route's rate limit per address.
    LimitRequests "limit.requests" 429
        "The address has sent more requests than this route allows in a minute."
        "Find out which client it is. If many clients share the address, add a route of your own with more requests_per_minute, or have their load balancer send the PROXY protocol.";
    /// RFC 9110 §15.6.4: the limit of requests in flight is reached.
    LimitInFlight "limit.requests_in_flight" 503
        "Too many requests are in flight: in total, from this address, to this backend, or unauthenticated."
        "The access log has the counts and the addresses, and sitegate status shows a slow backend. Raise limits.requests and the limit of open files if the machine has the capacity.";
    /// RFC 9112 §3.2.
    HostInvalid "host.invalid" 400
        "The request has no Host, more than one, or one that is not a plain host and port."
        "The client must name the site system by one host name.";
    /// RFC 9110 §15.5.20.
    HostMisdirected "host.misdirected" 421
        "The Host is not a host of the site system that this connection was opened for."
        "Add the name to the site system's hosts, or correct the name the client uses.";
    /// RFC 5842 §7.2, RFC 8586: a backend leads back to this gateway.
    HostLoop "host.loop" 508
        "The request has passed this gateway before: the backend forwards it back to sitegate."
        "Correct backend: its name or address must be the web server's own, not this gateway's.";
    /// A path that the backend could read as another one.
    PathAmbiguous "path.ambiguous" 400
        "The path is ambiguous: servers could decode it differently."
        "Send the plain path. Encoded slashes and backslashes, double escapes, double slashes and dot segments are refused; so are names that are not ASCII beside the names of routes, and percent signs and semicolons outside the names of content.";
    /// A target that is not a path.
    PathMalformed "path.malformed" 400
        "The request target is not a path of printable ASCII characters that starts with a slash."
        "Percent-encode what is outside printable ASCII; absolute targets and fragments are refused.";
    /// A query that a backend could read as another one.
    PathQuery "path.query" 400
        "The query is ambiguous: servers could decode it differently."
        "On routes that check queries, a query is one word and optional plain arguments: nothing is escaped, empty or repeated.";
    /// Default deny.
    RouteUnknown "route.unknown" 403
        "No route of this site system covers the path."
        "Add a [[site_system.route]] for it, or the role whose preset has it.";
    /// A route that denies every request.
    RouteDenied "route.denied" 403
        "The route for this path denies every request."
        "Change the route's require if clients are meant to use it.";
    /// RFC 4918 §10.3: COPY or MOVE to another route.
    RouteDestination "route.destination" 403
        "The Destination of the request is not on the request's own route, or is not a plain URL."
        "COPY and MOVE stay within one route: Destination has to name the Host by the scheme of the request, and a path that the same route covers.";
    /// A route that does not list the method.
    RouteMethod "route.method" 405
        "The route for this path does not allow this method."
        "Add the method to the route's methods if clients are meant to use it.";
    /// A query that no client without a token needs.
    RouteQuery "route.query" 403
        "The route for this path does not allow this query."
        "The access log names the query's word; add it to location_queries if clients of yours need it. If boot media send it, add their network to alt_auth.";
    /// After the protocol switch nothing is checked any more.
    RouteWebsocket "route.websocket" 403
        "The route for this path does not allow WebSocket."
        "Give the route websocket = true if clients are meant to open one there.";
    /// AltAuth is a known entry point: closed until the operator decides who may use it.
    RouteAltAuth "route.alt_auth" 403
        "AltAuth namespaces are denied until a policy for them is configured."
        "AltAuth lets anyone register without credentials; clients with tokens do not need it. [site_system.alt_auth] opens it to the networks where media start.";
    /// AltAuth is open only to some networks.
    RouteAltAuthNetwork "route.alt_auth_network" 403
        "AltAuth namespaces are not open to the client's network."
        "Add the client's network to the networks of alt_auth if media start there.";
    /// Windows authentication is bound to a connection.
    RouteWindowsAuth "route.windows_auth" 403
        "Namespaces with Windows authentication are denied on this site system."
        "Set windows_auth = true on the site system if clients without tokens must use them.";
    /// Port 80 of a site system that requires TLS.
    ClearRefused "clear.refused" 403 . 4
        "The request came over plain HTTP, which is refused here."
        "Let the client use https. sitegate_clear_requests_total counts requests over plain HTTP; mode of plain_http decides whether they are refused, redirected or passed.";
    /// RFC 9110 §15.4.8: the same request again, by https.
    ClearRedirected "clear.redirected" 307
        "The request came over plain HTTP, and was redirected to https."
        "Nothing is wrong if the client follows the redirect. A client that does not follow needs the https URL in its own configuration.";
    /// A message without an unambiguous reading.
    MessageMalformed "message.malformed" 400
        "The body is not a well-formed message."
        "A message is multipart, and its first part is a plain envelope in UTF-16; the access log says what is wrong with this one. Without a token every other message is refused; with a token message_guard decides.";
    /// CVE-2024-43468: a SourceID reached the site's database unescaped.
    MessageSource "message.source_id" 400
        "The message's SourceID is not a client's id."
        "A client's id is GUID: and a GUID. No known client sends anything else: check the sender.";
    /// The payload also contains values that LocationMgr.dll puts into its statements
    /// (CVE-2024-43468).
    MessagePayload "message.payload" 400
        "The message's payload is not a request with plain values."
        "Without a token the whole message is checked; the access log says what is wrong with this one. No known client sends such a message: check the sender.";
    /// A request that no client without a token needs.
    MessageRequest "message.request" 403
        "The message contains a request that needs a token."
        "The access log names the request; add it to message_requests if clients without a token need it.";
    /// An endpoint that is not for this sender or this route.
    MessageEndpoint "message.endpoint" 403
        "The message is for an endpoint that is not open here."
        "The access log names the endpoint; add it to message_endpoints, or to the endpoints of alt_auth, if clients are meant to reach it.";
    /// A device that sends as another.
    MessageDevice "message.device" 403
        "The message is from another device than its token."
        "With message_guard = \"device\" a message's SourceID must be the device of its token; tokens without a device of the site are refused.";
    /// The connection has no client certificate.
    CertificateMissing "certificate.missing" 403 . 7
        "The client sent no certificate when it connected, and this route needs one."
        "Give the client a certificate, and check that it selects it; the client has to open a new connection to send it.";
    /// RFC 5280 §5.
    CertificateRevoked "certificate.revoked" 403 . 13
        "The client's certificate has been revoked."
        "Issue a new certificate to give the client access.";
    /// RFC 5280 §6.3.3: undetermined is not unrevoked.
    CertificateRevocationUnknown "certificate.revocation_unknown" 403 . 13
        "The revocation status of the client's certificate is unknown."
        "Put a current CRL of its issuer into client_crl; the access log says what is wrong.";
    /// RFC 5280 §6.1.
    CertificateUntrusted "certificate.untrusted" 403 . 16
        "The client's certificate does not chain to a trusted authority."
        "Put its certificate authority into client_ca, and have the client send the intermediates; the access log says what is wrong.";
    /// RFC 5280 §4.2.1.12.
    CertificateUsage "certificate.usage" 403 . 16
        "The client's certificate is not for client authentication."
        "Have it issued with the extended key usage clientAuth.";
    /// RFC 5280 §4.1.2.5.
    CertificateExpired "certificate.expired" 403 . 17
        "The client's certificate, or an authority above it, has expired or is not valid yet."
        "Renew it; if many fail at once, compare the clocks.";
    /// RFC 6750 §3.1: no credential at all.
    TokenMissing "token.missing" 401
        "The request carries no token, and this route needs one."
        "The client has no token, or sends it in a header that token_headers does not name.";
    /// RFC 6750 §2: one credential, one place.
    TokenAmbiguous "token.ambiguous" 400
        "The request carries more than one credential."
        "The client must send exactly one token, in one header, once.";
    /// RFC 7515 §3.1 and §7.1: not a compact JWS, or not strict JSON inside.
    TokenMalformed "token.malformed" 401
        "The token is not a well-formed signed JWT."
        "Look at the token with 'sitegate token inspect'.";
    /// RFC 8725 §3.1: the key determines the algorithm.
    TokenAlgorithm "token.algorithm" 401
        "The token's algorithm does not match its key."
        "RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384 and EdDSA keys are usable, each for its own algorithm alone.";
    /// RFC 7515 §4.1.11: unsupported extensions, and RFC 7797.
    TokenCritical "token.critical" 401
        "The token requires extensions that sitegate does not support."
        "Issue the token without 'crit' and 'b64'.";
    /// RFC 8725 §3.11: a token of another kind (identity, refresh, encrypted).
    TokenType "token.type" 401
        "This kind of token is not an access token."
        "Send the access token; identity tokens, refresh tokens and encrypted tokens are refused.";
    /// RFC 8725 §3.8.
    TokenIssuer "token.issuer" 401
        "The token's issuer is not one that this site system trusts."
        "Compare the token's iss with the configured token issuers and the site system's issuers list.";
    /// No key of the issuer verifies it: an unknown key and a wrong signature get the same
    /// response.
    TokenSignature "token.signature" 401
        "No key of the token's issuer verifies the token."
        "If the issuer changed its keys, update its key file or check why they are not fetched; otherwise the token was altered or forged.";
    /// RFC 7519 §4.1.4.
    TokenExpired "token.expired" 401
        "The token has expired."
        "The client must renew its token; if many fail at once, compare the clocks.";
    /// RFC 7519 §4.1.5.
    TokenNotYetValid "token.not_yet_valid" 401
        "The token is not valid yet."
        "The clocks of the issuer and of this machine differ by more than the allowed leeway.";
    /// A token with a longer lifetime than its issuer may grant.
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
    /// RFC 6750 §3.1: revoked, by its id or by its time of issue.
    TokenBlocked "token.blocked" 401
        "The token is blocked."
        "Look for its id, or for issued_before, in the blocklist file and in the site's store (sitegate token list); a new token may be valid.";
    /// RFC 8705 §3: a token that is bound to the key of one certificate.
    TokenBinding "token.binding" 401
        "The token is bound to a client certificate that this connection has not proved."
        "The client must connect with the certificate that its token was issued for, and the site system must have client_certificate = \"request\".";
    /// Neither a device nor a user: an application's token, or one of unknown purpose.
    TokenPurpose "token.purpose" 403
        "A token of this purpose does not open this route."
        "Registration tokens open only registration, content tokens only content; application tokens open nothing.";
    /// RFC 8693 §4.2: a token for one package, or for one path.
    TokenScope "token.scope" 403
        "The token does not open this path: it is limited to others."
        "The client must exchange its client token for one with the package or path that it needs.";
    /// Device-centric work without a device.
    DeviceTokenRequired "device.token_required" 403
        "This route needs a device's token."
        "The client must send the device's own token, or a user token with a device claim.";
    /// The device itself is blocked, with any token.
    DeviceBlocked "device.blocked" 403
        "The device is blocked."
        "Unblock the device (blocklist or 'sitegate site unblock') to give it access again.";
    /// User-centric work without a user.
    UserTokenRequired "user.token_required" 403
        "This route needs a user's token."
        "The client must send the token of the signed-in user.";
    /// The user is blocked, with any token.
    UserBlocked "user.blocked" 403
        "The user is blocked."
        "Unblock the user (blocklist or 'sitegate site unblock') to give them access again.";
    /// The site server was not reached for longer than its last bundle is valid.
    SiteUnheard "site.unheard" 503
        "This gateway has no current list of blocks, because it has not reached its site server."
        "Check why the gateway does not reach its site server; import a bundle until then (sitegate site bundle import), or write stale = \"serve\" in [site_server].";
    /// Nothing listens at the backend's address.
    UpstreamUnreachable "upstream.unreachable" 502
        "The site system's backend could not be reached."
        "Check that the backend runs and listens at the configured address.";
    /// RFC 9110 §15.6.5.
    UpstreamTimeout "upstream.timeout" 504
        "The site system's backend did not respond in time."
        "Check the backend's load, or raise the site system's backend_answer_time.";
    /// The https backend's identity is not the expected one.
    UpstreamCertificate "upstream.certificate" 502
        "The certificate of the site system's backend is not trusted."
        "Compare the backend's certificate with backend_ca and backend_name.";
    /// RFC 9110 §15.5.2: the backend requires credentials, and the client has none for it.
    UpstreamCredentials "upstream.credentials" 502
        "The site system's backend rejects the account of backend_auth."
        "Compare the account in backend_auth with what the backend expects; its response was discarded.";
    /// The backend's response is not well-formed HTTP.
    UpstreamResponse "upstream.response" 502
        "The site system's backend sent a response that is not well-formed HTTP."
        "Check the backend's own log; its response was discarded.";
    /// The backend closed before it responded.
    UpstreamClosed "upstream.closed" 502
        "The site system's backend closed the connection before it responded."
        "Check the backend's own log for a crash or a recycled worker process.";
    /// A bug of the gateway itself.
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

    /// The `WWW-Authenticate` value of the response (RFC 6750 §3): none outside 401 and wrong kinds
    /// of token, no `error` if there was no token, and never Negotiate.
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
    fn certificate_denials_have_the_substatus_that_iis_logs() {
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
    fn every_401_has_a_bearer_challenge_and_no_windows_one() {
        for d in Denial::ALL {
            let challenge = d.challenge().unwrap_or("");
            assert!(d.status() != 401 || challenge.starts_with("Bearer "), "{d}");
            assert!(!challenge.contains("Negotiate") && !challenge.contains("NTLM"));
        }
    }
}
