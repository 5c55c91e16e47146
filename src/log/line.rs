//! Formats a request as one line of the access log, in each of its formats.
//!
//! One request is one line for any client input: characters that could end a line, a word or a
//! quotation are escaped (log injection). Never contains a query.

use std::fmt::Write;

use jiff::Timestamp;

use super::access_entry::{Access, FIELD_CHARS_MAX, cut};
use crate::config::AccessFormat;

const W3C_FIELDS: &str = "date time s-ip cs-method cs-uri-stem cs-uri-query s-port cs-username c-ip cs(User-Agent) sc-status sc-substatus sc-win32-status time-taken";

/// The header of a log, repeated at each start.
pub(super) fn header(format: AccessFormat, now: Timestamp) -> String {
    match format {
        AccessFormat::Json | AccessFormat::Combined => String::new(),
        AccessFormat::W3c => w3c_header(&now.strftime("%Y-%m-%d %H:%M:%S").to_string()),
    }
}

fn w3c_header(date: &str) -> String {
    format!(
        "#Software: sitegate {}\n#Version: 1.0\n#Date: {date}\n#Fields: {W3C_FIELDS}\n",
        env!("CARGO_PKG_VERSION")
    )
}

/// The header of a W3C log that was truncated, taking its date from the next line. After
/// copytruncate the file would otherwise lack its `#Fields` header.
pub(super) fn header_before(line: &[u8]) -> Option<String> {
    let date = line.get(..19).filter(|date| !date.starts_with(b"#"))?;
    Some(w3c_header(std::str::from_utf8(date).ok()?))
}

/// Writes the line of a request, with its newline.
pub(super) fn line(format: AccessFormat, access: &Access<'_>, line: &mut Vec<u8>) -> Option<()> {
    match format {
        AccessFormat::Json => serde_json::to_writer(&mut *line, access).ok()?,
        AccessFormat::Combined => line.extend_from_slice(combined(access).as_bytes()),
        AccessFormat::W3c => line.extend_from_slice(w3c(access).as_bytes()),
    }
    line.push(b'\n');
    Some(())
}

/// The user or the device in the token.
fn who<'a>(access: &'a Access<'_>) -> &'a str {
    access.user.or(access.device).unwrap_or_default()
}

/// The combined format of Apache and nginx: `%h %l %u %t "%r" %>s %b "%{Referer}i"
/// "%{User-Agent}i"`.
fn combined(access: &Access<'_>) -> String {
    let mut line = String::with_capacity(256);
    let time = access.time.strftime("%d/%b/%Y:%H:%M:%S +0000");
    let _ = write!(line, "{} - ", access.client);
    word(&mut line, who(access));
    let _ = write!(line, " [{time}] \"");
    let begun = line.len();
    quoted(&mut line, access.method);
    line.push(' ');
    quoted(&mut line, access.path);
    let _ = write!(line, " {}", access.protocol);
    if access.method.is_empty() && access.path.is_empty() {
        line.truncate(begun);
        line.push('-');
    }
    let _ = write!(line, "\" {:03} {} \"-\" \"", access.status, access.sent);
    quoted(&mut line, access.user_agent.unwrap_or("-"));
    line.push('"');
    line
}

/// The format of IIS (W3C Extended Log File Format).
fn w3c(access: &Access<'_>) -> String {
    let mut line = String::with_capacity(256);
    let _ = write!(line, "{} ", access.time.strftime("%Y-%m-%d %H:%M:%S"));
    match access.local {
        Some(local) => drop(write!(line, "{} ", local.ip().to_canonical())),
        None => line.push_str("- "),
    }
    word(&mut line, access.method);
    line.push(' ');
    word(&mut line, access.path);
    line.push_str(" - ");
    match access.local {
        Some(local) => drop(write!(line, "{} ", local.port())),
        None => line.push_str("- "),
    }
    word(&mut line, who(access));
    let _ = write!(line, " {} ", access.client);
    word(&mut line, access.user_agent.unwrap_or_default());
    let (substatus, took) = (access.substatus.unwrap_or(0), access.duration_ms.max(0.0) as u64);
    let _ = write!(line, " {} {substatus} 0 {took}", access.status);
    line
}

/// Escapes text within quotation marks: quotation marks, backslashes and non-printable or non-ASCII
/// characters become `\xHH`.
fn quoted(line: &mut String, text: &str) {
    for c in cut(text, FIELD_CHARS_MAX).chars() {
        match c {
            ' '..='~' if c != '"' && c != '\\' => line.push(c),
            _ => bytes(line, c, "\\x"),
        }
    }
}

/// Escapes text as one word: a space becomes `+`, as in IIS; other characters that could end a word
/// or a line, or are not ASCII, are percent-encoded. `-` stands for an empty text.
fn word(line: &mut String, text: &str) {
    if text.is_empty() {
        return line.push('-');
    }
    for c in cut(text, FIELD_CHARS_MAX).chars() {
        match c {
            '!'..='~' if c != '"' => line.push(c),
            ' ' => line.push('+'),
            _ => bytes(line, c, "%"),
        }
    }
}

fn bytes(line: &mut String, c: char, mark: &str) {
    for byte in c.encode_utf8(&mut [0; 4]).bytes() {
        let _ = write!(line, "{mark}{byte:02X}");
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn access<'a>(method: &'a str, path: &'a str, agent: &'a str) -> Access<'a> {
        Access {
            time: "2026-11-26T07:08:09Z".parse().unwrap(),
            client: "192.0.2.7".parse().unwrap(),
            local: Some("[::ffff:192.0.2.1]:443".parse().unwrap()),
            method,
            path,
            user_agent: Some(agent),
            status: 403,
            substatus: Some(13),
            device: Some("GUID:1"),
            sent: 42,
            duration_ms: 12.7,
            ..Access::unread()
        }
    }

    fn text(format: AccessFormat, access: &Access<'_>) -> String {
        let mut text = Vec::new();
        line(format, access, &mut text).unwrap();
        String::from_utf8(text).unwrap()
    }

    #[test]
    fn each_format_is_what_its_readers_know() {
        let access = access("GET", "/SMS_MP/.sms_aut", "ccmsetup 5.0");
        assert_eq!(
            text(AccessFormat::Combined, &access),
            "192.0.2.7 - GUID:1 [26/Nov/2026:07:08:09 +0000] \"GET /SMS_MP/.sms_aut HTTP/1.1\" 403 42 \"-\" \"ccmsetup 5.0\"\n"
        );
        assert_eq!(
            text(AccessFormat::W3c, &access),
            "2026-11-26 07:08:09 192.0.2.1 GET /SMS_MP/.sms_aut - 443 GUID:1 192.0.2.7 ccmsetup+5.0 403 13 0 12\n"
        );
        let header = header(AccessFormat::W3c, access.time);
        assert_eq!(header.lines().count(), 4);
        let fields = header.lines().last().unwrap().split(' ').count() - 1;
        assert_eq!(text(AccessFormat::W3c, &access).split(' ').count(), fields);
    }

    #[test]
    fn a_head_that_was_never_read_is_a_line_too() {
        let unread = Access::unread();
        assert!(text(AccessFormat::Combined, &unread).contains("] \"-\" 000 0 \"-\" \"-\"\n"));
        assert_eq!(text(AccessFormat::W3c, &unread).split(' ').count(), 14);
    }

    proptest! {
        #[test]
        fn one_request_is_one_line_for_any_client_input(
            method in any::<String>(), path in any::<String>(), agent in any::<String>()
        ) {
            let access = access(&method, &path, &agent);
            for format in [AccessFormat::Json, AccessFormat::Combined, AccessFormat::W3c] {
                let text = text(format, &access);
                prop_assert_eq!(text.matches('\n').count(), 1);
                prop_assert!(text.ends_with('\n') && !text.contains('\r'));
            }
            let text = text(AccessFormat::W3c, &access);
            prop_assert_eq!(text.split(' ').count(), 14);
            prop_assert!(text.trim_end().bytes().all(|b| (0x20..0x7f).contains(&b)));
            let text = self::text(AccessFormat::Combined, &access);
            prop_assert_eq!(text.matches('"').count(), 6);
            prop_assert!(text.trim_end().bytes().all(|b| (0x20..0x7f).contains(&b)));
        }
    }
}
