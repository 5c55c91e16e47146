//! Why a certificate may not be served: a closed list. One row is the metric label, the log code,
//! and the text in status and on the status page.
//!
//! Details (dates, names) are passed beside it, never a key.

macro_rules! unfits {
    ($($(#[doc = $doc:literal])+ $variant:ident $code:literal $title:literal $hint:literal;)+) => {
        /// Why a certificate may not be served.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Unfit { $($(#[doc = $doc])+ $variant,)+ }

        impl Unfit {
            /// Every reason, in the order of the documentation.
            pub const ALL: &[Unfit] = &[$(Unfit::$variant,)+];

            /// `certificate.reason`: the metric label, the log code and the documentation's heading.
            pub const fn code(self) -> &'static str { match self { $(Unfit::$variant => $code,)+ } }

            /// The fault, as a sentence.
            pub const fn title(self) -> &'static str { match self { $(Unfit::$variant => $title,)+ } }

            /// The remedy, as a sentence.
            pub const fn hint(self) -> &'static str { match self { $(Unfit::$variant => $hint,)+ } }
        }
    };
}

unfits! {
    /// The folder holds no certificate files. The operator's choice, not a fault.
    Absent "certificate.absent" "There is no certificate."
        "Put tls.crt and tls.key, or a PFX, into the folder, or leave it empty to use the site-issued certificate.";
    /// The file system returned an error.
    Unreadable "certificate.unreadable" "The certificate or its key cannot be read."
        "Check owner and mode of the folder and its files, and that they are regular files of less than 1 MiB.";
    /// The certificate or the key is missing or half-written.
    Incomplete "certificate.incomplete" "The certificate or its key is missing or half-written."
        "Write both tls.crt and tls.key; sitegate checks again when either changes.";
    /// Not PEM or PKCS#12, or the content does not match the PEM label.
    Malformed "certificate.malformed" "The certificate or its key is not well-formed."
        "Write PEM, DER or PKCS#7 (one or more certificates, leaf first or in any order, and one private key beside them) or a PFX in DER.";
    /// The key is encrypted with a password.
    KeyEncrypted "certificate.key_encrypted" "The private key is encrypted."
        "Write the key without a password and mode 0600.";
    /// The password does not match the PFX.
    PasswordWrong "certificate.password_wrong" "The password does not open the PFX, or the PFX is damaged."
        "Write the PFX and its own password; while both are being replaced this resolves itself.";
    /// The password's file or variable cannot be read.
    PasswordUnreadable "certificate.password_unreadable" "The password of the PFX cannot be read."
        "Check the file or environment variable that pki_password names; a file has mode 0600 and holds one line.";
    /// RFC 7292 §4: algorithms that are unknown, or that would take too long to compute.
    PfxProtection "certificate.pfx_protection" "The PFX has a protection that is not supported."
        "Export it again with a password, AES-256 or 3DES, and fewer rounds; scrypt is not accepted.";
    /// The PFX holds several keys, so the right one is ambiguous.
    KeySeveral "certificate.key_several" "The PFX holds more than one private key."
        "Export each certificate with its key into a PFX of its own.";
    /// The key's file mode lets others read it.
    KeyExposed "certificate.key_exposed" "The private key is readable by every user of this machine."
        "chmod 600 the key and replace it if other people had access, or set key_mode = \"any\".";
    /// The key belongs to another certificate.
    KeyMismatch "certificate.key_mismatch" "The private key does not belong to the certificate."
        "Write the certificate and the key that belong together; while both are being replaced this resolves itself.";
    /// RSA under 2048, or a curve other than P-256 and P-384.
    KeyWeak "certificate.key_weak" "The key is too weak or of an unusable kind."
        "Use RSA of at least 2048 bits, P-256 or P-384.";
    /// SHA-1 and older.
    SignatureWeak "certificate.signature_weak" "The certificate is signed with an outdated algorithm."
        "Have it issued again with SHA-256 or better.";
    /// RFC 6960 §2.2: the OCSP response beside it says so, or the site has blocked it.
    Revoked "certificate.revoked" "The certificate has been revoked: its OCSP response says so, or the site has blocked it."
        "Have a new one issued; if an OCSP response is wrong, replace or remove the .ocsp file.";
    /// RFC 5280 §4.1.2.5.
    Expired "certificate.expired" "The certificate has expired."
        "Renew it and write the new pair into the folder.";
    /// RFC 5280 §4.1.2.5.
    NotYetValid "certificate.not_yet_valid" "The certificate is not valid yet."
        "Wait, or compare this machine's clock with the issuer's; sitegate serves it as soon as it is valid.";
    /// RFC 9525: only names in the subject alternative name count.
    NameMismatch "certificate.name_mismatch" "The certificate does not cover all hosts of the site system."
        "Have it issued with every host in its subject alternative name.";
    /// RFC 5280 §4.2.1.12.
    UsageMismatch "certificate.usage_mismatch" "The certificate is not for server authentication."
        "Have it issued with the extended key usage serverAuth.";
    /// RFC 5280 §4.2.1.9.
    IsAuthority "certificate.is_authority" "The certificate is a certificate authority's own."
        "Issue a leaf certificate for the site system.";
    /// RFC 5280 §4.2.
    CriticalUnknown "certificate.critical_unknown" "The certificate or an authority above it has a critical extension that sitegate does not process."
        "Have it issued without that extension, or with it as not critical; the detail names it.";
    /// RFC 5280 §6.
    Untrusted "certificate.untrusted" "The certificate does not chain to a trusted root."
        "Put the intermediates into tls.crt and the root into ca.crt, or into the system's trust store.";
    /// RFC 5280 §4.2.1.10.
    Constrained "certificate.constrained" "An authority above the certificate may not issue for its names."
        "Have it issued by an authority whose name constraints permit the hosts.";
    /// RFC 5280 §4.2.1.10, for the site's own root.
    OutsideRoot "certificate.outside_root" "The site's root was not made for all hosts of the site system."
        "Give the site system a PKI certificate, remove the host, or roll the root over with its domain in [site] domains: docs/rollover.md.";
    /// It is fit, but the folder holds another that was issued later.
    Superseded "certificate.superseded" "A newer certificate is in the same folder."
        "Nothing needs to be done; remove it when the newer one works.";
    /// The site's authority is missing, broken, or could not sign.
    NotIssued "certificate.not_issued" "The site's authority could not issue a certificate."
        "The detail says why; check the state directory (owner, mode, space) and this machine's clock.";
    /// The last check: a TLS handshake with a test client failed.
    HandshakeFailed "certificate.handshake_failed" "A trial handshake with the certificate failed."
        "The log has the client's error; sitegate never serves a certificate that no client would accept.";
}

impl std::fmt::Display for Unfit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({})", self.title(), self.code())
    }
}

impl std::error::Error for Unfit {}
