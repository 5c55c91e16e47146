//! Simulated NTLM authentication: three legs, after which the connection itself is authenticated,
//! and every request on it runs as that user.
//!
//! No cryptography: only the identity of a connection matters here. Never use it for real
//! authentication.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// The first leg, a Type 1 message: a client asks for a challenge.
pub const HELLO: &str = "NTLM TlRMTVNTUAABAAAAB4IIAA==";

const SIGNATURE: &[u8; 8] = b"NTLMSSP\0";
/// The fixed part of a Type 3 message without version and code (MS-NLMP §2.2.1.3).
const PROOF_HEAD_BYTES: usize = 64;
/// Unicode, NTLM.
const FLAGS: u32 = 0x0000_0201;

/// The third leg, a Type 3 message: the user name, with the challenge of the connection.
pub fn proof(user: &str, challenge: u64) -> String {
    let name: Vec<u8> = user.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let field = |len: usize, at: usize| {
        let len = u16::try_from(len).unwrap_or(u16::MAX).to_le_bytes();
        [&len[..], &len, &u32::try_from(at).unwrap_or(u32::MAX).to_le_bytes()].concat()
    };
    let (empty, user_at) = (field(0, PROOF_HEAD_BYTES), PROOF_HEAD_BYTES + 8);
    let message = [
        &SIGNATURE[..],
        &3_u32.to_le_bytes(),
        &empty,                      // LM response
        &field(8, PROOF_HEAD_BYTES), // NT response
        &empty,                      // domain
        &field(name.len(), user_at),
        &empty, // workstation
        &empty, // session key
        &FLAGS.to_le_bytes(),
        &challenge.to_le_bytes(),
        &name,
    ]
    .concat();
    format!("NTLM {}", STANDARD.encode(message))
}

/// The challenge in the second leg's `WWW-Authenticate`, a Type 2 message.
pub fn challenge(field: &str) -> Option<u64> {
    let message = message(field)?;
    (kind(&message)? == 2).then_some(())?;
    message.get(24..32)?.try_into().ok().map(u64::from_le_bytes)
}

/// The authentication state of a connection.
#[derive(Debug, Default)]
pub(crate) struct Conversation {
    /// Unique for each connection.
    number: u64,
    state: NtlmState,
}

#[derive(Debug, Default)]
enum NtlmState {
    #[default]
    Nobodys,
    Challenged,
    Of(String),
}

impl Conversation {
    /// The state of a new, unauthenticated connection. Its number is its challenge, so challenges
    /// are unique.
    pub(crate) fn new(number: u64) -> Self {
        Conversation { number, state: NtlmState::Nobodys }
    }

    /// Processes an `Authorization` header, if there is one. Returns the `WWW-Authenticate` value
    /// to send if the connection is not authenticated afterwards.
    pub(crate) fn hear(&mut self, said: Option<&str>) -> String {
        let message = said.and_then(message);
        match message.as_deref().and_then(kind) {
            Some(1) => {
                self.state = NtlmState::Challenged;
                return self.challenge();
            }
            Some(3) => {
                let proved = message.as_deref().and_then(|message| self.proved(message));
                self.state = proved.map_or(NtlmState::Nobodys, NtlmState::Of);
            }
            _ => {}
        }
        "NTLM".to_owned()
    }

    /// The authenticated user of the connection.
    pub(crate) fn identity(&self) -> Option<&str> {
        match &self.state {
            NtlmState::Of(user) => Some(user),
            NtlmState::Nobodys | NtlmState::Challenged => None,
        }
    }

    fn challenge(&self) -> String {
        let message = [
            &SIGNATURE[..],
            &2_u32.to_le_bytes(),
            &[0, 0, 0, 0, 48, 0, 0, 0], // target name
            &FLAGS.to_le_bytes(),
            &self.number.to_le_bytes(),
            &[0; 8],
            &[0, 0, 0, 0, 48, 0, 0, 0], // target information
        ]
        .concat();
        format!("NTLM {}", STANDARD.encode(message))
    }

    /// The user of a proof, if it answers this connection's challenge.
    fn proved(&self, message: &[u8]) -> Option<String> {
        let right = match field(message, 20)? {
            // The simulated client repeats the challenge.
            said if said.len() == 8 => said == self.number.to_le_bytes(),
            // A real response (MS-NLMP §2.2.2.6, §2.2.2.8) is accepted: there are no passwords
            // here.
            said => said.len() >= 24,
        };
        let units: Vec<u16> = field(message, 36)?
            .chunks_exact(2)
            .filter_map(|pair| pair.try_into().ok().map(u16::from_le_bytes))
            .collect();
        let user = String::from_utf16(&units).ok().filter(|user| !user.is_empty())?;
        (right && matches!(self.state, NtlmState::Challenged)).then_some(user)
    }
}

/// The message in a header field. Negotiate may carry NTLM as well.
fn message(field: &str) -> Option<Vec<u8>> {
    let coded = field.strip_prefix("NTLM ").or_else(|| field.strip_prefix("Negotiate "))?;
    STANDARD.decode(coded.trim()).ok()
}

fn kind(message: &[u8]) -> Option<u32> {
    let kind = message.strip_prefix(SIGNATURE)?.get(..4)?;
    kind.try_into().ok().map(u32::from_le_bytes)
}

/// The bytes at the length and offset fields at this position.
fn field(message: &[u8], at: usize) -> Option<&[u8]> {
    let len = u16::from_le_bytes(message.get(at..at + 2)?.try_into().ok()?);
    let offset = u32::from_le_bytes(message.get(at + 4..at + 8)?.try_into().ok()?) as usize;
    message.get(offset..offset.checked_add(usize::from(len))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_is_authenticated_after_three_legs() {
        let (mut first, mut second) = (Conversation::new(1), Conversation::new(2));
        assert_eq!(first.hear(None), "NTLM");
        let told = first.hear(Some(HELLO));
        assert_eq!((challenge(&told), challenge("NTLM"), challenge(HELLO)), (Some(1), None, None));
        let _ = second.hear(Some(HELLO));
        assert_eq!(second.hear(Some(&proof("anna", 1))), "NTLM");
        assert_eq!(second.identity(), None, "another connection's challenge was answered");
        assert_eq!(first.identity(), None);
        first.hear(Some(&proof("anna", 1)));
        assert_eq!(first.identity(), Some("anna"));
        first.hear(None);
        assert_eq!(first.identity(), Some("anna"));
        first.hear(Some(&proof("berta", 1)));
        assert_eq!(first.identity(), None, "a proof without a challenge proves nothing");
    }

    #[test]
    fn what_is_no_message_is_heard_as_nothing() {
        let mut connection = Conversation::new(7);
        let _ = connection.hear(Some(HELLO));
        for said in ["", "NTLM", "NTLM ?", "NTLM TlRM", "Basic eDp5", "NTLM TlRMTVNTUAADAAAA"] {
            assert_eq!(connection.hear(Some(said)), "NTLM", "{said}");
            assert_eq!(connection.identity(), None, "{said}");
        }
    }
}
