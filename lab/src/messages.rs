//! Messages between clients and management points: multipart with two parts, an envelope in UTF-16
//! and a compressed payload.
//!
//! Signs nothing, and parses leniently, as a server behind the gateway may.

use std::io::{Read, Write};

use flate2::Compression;
use flate2::read::ZlibDecoder;
use flate2::write::ZlibEncoder;
use jiff::Timestamp;
use uuid::Uuid;

/// The content type that clients send.
pub const CONTENT_TYPE: &str = "multipart/mixed; boundary=\"aAbBcCdDv1234567890VxXyYzZ\"";

const BOUNDARY: &str = "--aAbBcCdDv1234567890VxXyYzZ";
/// More than any payload of a simulation.
const PAYLOAD_BYTES_MAX: u64 = 8 << 20;

/// A message to send.
#[derive(Clone, Copy, Debug)]
pub struct Draft<'a> {
    /// The target endpoint: `MP_PolicyManager`.
    pub endpoint: &'a str,
    /// The sender's id: `GUID:…`; none before it has registered.
    pub source: Option<&'a str>,
    /// The id of the message that it replies to.
    pub answers: Option<&'a str>,
    /// Its own id.
    pub id: Uuid,
    /// The target host.
    pub host: &'a str,
    /// When it is sent; a reply does not have it.
    pub sent: Option<Timestamp>,
    /// The payload, as XML.
    pub payload: &'a str,
}

/// A parsed message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// The envelope's XML.
    pub envelope: String,
    /// The payload's XML.
    pub payload: String,
}

impl Draft<'_> {
    /// The HTTP body of the message.
    pub fn body(&self) -> Vec<u8> {
        let payload = deflated(&[utf16(self.payload), vec![0, 0]].concat());
        let part = "Content-Type: text/plain; charset=UTF-16";
        let mut body = format!("{BOUNDARY}\r\n{part}\r\n\r\n").into_bytes();
        body.extend([0xff, 0xfe]);
        body.extend(utf16(&self.envelope(payload.len())));
        let part = "Content-Type: application/octet-stream";
        body.extend(format!("\r\n{BOUNDARY}\r\n{part}\r\n\r\n").bytes());
        body.extend(payload);
        body.extend(format!("\r\n{BOUNDARY}--\r\n").bytes());
        body
    }

    fn envelope(&self, length: usize) -> String {
        let Draft { endpoint, id, host, .. } = self;
        let answers = self.answers.unwrap_or("{00000000-0000-0000-0000-000000000000}");
        let source = self.source.map(|id| format!("<SourceID>{id}</SourceID>"));
        let sent = self.sent.map(|at| format!("<SentTime>{at:.0}</SentTime>"));
        format!(
            "<Msg ReplyCompression=\"zlib\" SchemaVersion=\"1.1\">\
             <Body Type=\"ByteRange\" Length=\"{length}\" Offset=\"0\" />\
             <CorrelationID>{answers}</CorrelationID>\
             <Hooks><Hook3 Name=\"zlib-compress\" /></Hooks><ID>{{{id}}}</ID>\
             <Payload Type=\"inline\" /><Priority>0</Priority><Protocol>http</Protocol>\
             <ReplyMode>Sync</ReplyMode><ReplyTo>direct:SIMULATED:SccmMessaging</ReplyTo>{sent}\
             {source}<SourceHost>SIMULATED</SourceHost>\
             <TargetAddress>mp:[http]{endpoint}</TargetAddress>\
             <TargetEndpoint>{endpoint}</TargetEndpoint><TargetHost>{host}</TargetHost>\
             <Timeout>60000</Timeout></Msg>",
            sent = sent.unwrap_or_default(),
            source = source.unwrap_or_default(),
        )
    }
}

/// The registration request of a client without an id, with dummy keys.
pub fn registration(name: &str, sent: Timestamp) -> String {
    let key = "0".repeat(64);
    format!(
        "<ClientRegistrationRequest><Data HashAlgorithm=\"1.2.840.113549.1.1.11\" SMSID=\"\" \
         RequestType=\"Registration\" TimeStamp=\"{sent:.0}\">\
         <AgentInformation AgentIdentity=\"Simulated\" AgentVersion=\"5.00\" AgentType=\"0\"/>\
         <Certificates><Signing Encoding=\"HexBinary\" KeyType=\"1\">{key}</Signing></Certificates>\
         <DiscoveryProperties><Property Name=\"Netbios Name\" Value=\"{name}\"/>\
         </DiscoveryProperties></Data><Signature><SignatureValue>{key}</SignatureValue></Signature>\
         </ClientRegistrationRequest>"
    )
}

impl Message {
    /// Parses a body; `None` if it is not a message.
    pub fn read(content_type: &str, body: &[u8]) -> Option<Message> {
        let (_, boundary) = content_type.split_once("boundary=")?;
        let boundary = format!("--{}", boundary.split(';').next()?.trim().trim_matches('"'));
        let parts = split(body, boundary.as_bytes());
        let [first, second, ..] = parts.as_slice() else { return None };
        let envelope = text(first.strip_prefix(&[0xff, 0xfe]).unwrap_or(first))?;
        let mut payload = Vec::new();
        ZlibDecoder::new(*second).take(PAYLOAD_BYTES_MAX).read_to_end(&mut payload).ok()?;
        Some(Message { envelope, payload: text(&payload)? })
    }

    /// The text of an element of the envelope.
    pub fn field(&self, name: &str) -> Option<&str> {
        element(&self.envelope, name)
    }
}

/// The text of the first element of this name, without a CDATA section around it.
pub fn element<'a>(xml: &'a str, name: &str) -> Option<&'a str> {
    let open = format!("<{name}");
    let mut places = xml.match_indices(&open).filter_map(|(at, _)| xml.get(at + open.len()..));
    let after = places.find(|after| after.starts_with(['>', ' ']))?;
    let (tag, rest) = after.split_once('>')?;
    let (inner, _) = rest.split_once(&format!("</{name}>")).filter(|_| !tag.ends_with('/'))?;
    let section = inner.strip_prefix("<![CDATA[").and_then(|inner| inner.strip_suffix("]]>"));
    Some(section.unwrap_or(inner))
}

/// The value of the first attribute of this name.
pub fn attribute<'a>(xml: &'a str, name: &str) -> Option<&'a str> {
    let (_, after) = xml.split_once(&format!(" {name}=\""))?;
    after.split_once('"').map(|(value, _)| value)
}

/// The contents of the parts between boundaries.
fn split<'a>(body: &'a [u8], boundary: &[u8]) -> Vec<&'a [u8]> {
    let mut parts = Vec::new();
    let mut rest = body;
    while let Some(at) = memchr::memmem::find(rest, boundary) {
        let before = rest.get(..at).unwrap_or_default();
        if let Some(head) = memchr::memmem::find(before, b"\r\n\r\n") {
            let content = before.get(head + 4..).unwrap_or_default();
            parts.push(content.strip_suffix(b"\r\n").unwrap_or(content));
        }
        rest = rest.get(at + boundary.len()..).unwrap_or_default();
    }
    parts
}

fn utf16(text: &str) -> Vec<u8> {
    text.encode_utf16().flat_map(u16::to_le_bytes).collect()
}

/// Decodes UTF-16, without the zero at its end.
fn text(bytes: &[u8]) -> Option<String> {
    let pairs = bytes.chunks_exact(2);
    let whole = pairs.remainder().is_empty();
    let units: Vec<u16> =
        pairs.filter_map(|pair| pair.try_into().ok().map(u16::from_le_bytes)).collect();
    let text = String::from_utf16(&units).ok().filter(|_| whole)?;
    Some(text.trim_end_matches('\0').to_owned())
}

fn deflated(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
    // Writing to a vector cannot fail.
    let _ = encoder.write_all(bytes);
    encoder.finish().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draft<'a>(payload: &'a str, source: Option<&'a str>) -> Draft<'a> {
        Draft {
            endpoint: "MP_PolicyManager",
            source,
            answers: None,
            id: Uuid::nil(),
            host: "mp01.contoso.com",
            sent: Some(Timestamp::UNIX_EPOCH),
            payload,
        }
    }

    #[test]
    fn what_is_written_is_read_by_the_simulation_and_by_the_gateway() {
        let sender = "GUID:5E5A6A2C-1D2E-4F3A-8B4C-9D0E1F2A3B4C";
        for source in [None, Some(sender)] {
            let body = draft("<Request Ä=\"ß\"/>", source).body();
            let read = Message::read(CONTENT_TYPE, &body).unwrap();
            assert_eq!(read.payload, "<Request Ä=\"ß\"/>");
            assert_eq!(read.field("TargetEndpoint"), Some("MP_PolicyManager"));
            let envelope = sitegate::message::envelope(CONTENT_TYPE.as_bytes(), &body).unwrap();
            assert_eq!(envelope.source_id.as_deref(), source);
            assert_eq!(envelope.target_endpoint, "MP_PolicyManager");
        }
    }

    #[test]
    fn a_byte_that_changed_on_the_way_is_noticed() {
        let payload = "<A/>".repeat(50);
        let mut body = draft(&payload, None).body();
        assert!(Message::read(CONTENT_TYPE, &body).is_some());
        assert_eq!(Message::read("text/plain", &body), None);
        let end = body.len() - BOUNDARY.len() - 10;
        body[end] ^= 1;
        assert_eq!(Message::read(CONTENT_TYPE, &body), None);
    }

    #[test]
    fn elements_and_attributes_are_found_by_their_names() {
        let xml = "<A><Bc/><B>1</B><C Name=\"x\"><![CDATA[http://<mp>/]]></C></A>";
        assert_eq!(element(xml, "C"), Some("http://<mp>/"));
        assert_eq!(element("<B x=\"1\">2</B>", "B"), Some("2"));
        assert_eq!((element(xml, "D"), attribute(xml, "Name")), (None, Some("x")));
    }
}
