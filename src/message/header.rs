//! The envelope's XML: `<Msg>` with the fields that decide what becomes of the message.
//!
//! quick-xml finds the marks; what XML demands beyond them, and what only some parsers would see, is
//! judged here.

use quick_xml::Reader;
use quick_xml::events::{BytesDecl, BytesRef, BytesStart, Event};

use super::text::is_xml;
use super::{Envelope, Fault};

const DEPTH_MAX: usize = 16;
const ATTRIBUTES_MAX: usize = 32;
const ENDPOINT_BYTES_MAX: usize = 64;

/// The fields that are read, in the order of [`Reading::found`].
const FIELDS: [&str; 3] = ["SourceID", "TargetEndpoint", "TargetAddress"];

/// Read an envelope.
pub(super) fn read(text: &str) -> Result<Envelope, Fault> {
    let mut reader = Reader::from_str(text);
    let mut reading = Reading::default();
    loop {
        match reader.read_event().map_err(|_| Fault::Xml)? {
            Event::Eof => break,
            event => reading.see(&event)?,
        }
        reading.events += 1;
    }
    reading.end(text)
}

#[derive(Default)]
struct Reading {
    events: usize,
    depth: usize,
    root: bool,
    /// The field whose content is being read.
    open: Option<usize>,
    found: [Option<String>; FIELDS.len()],
    /// How often the name of each field stood in a tag.
    named: [usize; FIELDS.len()],
}

impl Reading {
    fn see(&mut self, event: &Event<'_>) -> Result<(), Fault> {
        match event {
            Event::Start(tag) => self.start(tag),
            Event::Empty(tag) => {
                self.start(tag)?;
                self.depth -= 1;
                self.open = None;
                Ok(())
            }
            Event::End(tag) => {
                if let Some(field) = field_of(tag.name().local_name().into_inner()) {
                    self.count(field);
                }
                self.depth = self.depth.checked_sub(1).ok_or(Fault::Xml)?;
                self.open = None;
                Ok(())
            }
            Event::Text(text) => self.text(text),
            // In a field they would split its content, and parsers differ in what they make of that.
            Event::CData(_) | Event::GeneralRef(_) if self.open.is_some() => Err(Fault::Markup),
            Event::CData(_) | Event::GeneralRef(_) if self.depth == 0 => Err(Fault::Xml),
            Event::CData(_) => Ok(()),
            Event::GeneralRef(reference) => check_reference(reference),
            Event::Decl(decl) if self.events == 0 => check_declaration(decl),
            Event::Decl(_) => Err(Fault::Xml),
            Event::Comment(_) | Event::PI(_) | Event::DocType(_) => Err(Fault::Markup),
            Event::Eof => Ok(()),
        }
    }

    fn start(&mut self, tag: &BytesStart<'_>) -> Result<(), Fault> {
        let name = tag.name().into_inner();
        check_attributes(tag)?;
        self.depth += 1;
        match self.depth {
            _ if !is_name(name) => return Err(Fault::Xml),
            1 if self.root || name != "Msg" => return Err(Fault::Xml),
            1 => self.root = true,
            2..=DEPTH_MAX => {}
            _ => return Err(Fault::Depth),
        }
        if self.open.is_some() {
            return Err(Fault::Place);
        }
        let Some(field) = field_of(tag.name().local_name().into_inner()) else { return Ok(()) };
        self.count(field);
        let plain = FIELDS.contains(&name) && tag.attributes_raw().trim_ascii().is_empty();
        let place = self.found.get_mut(field).filter(|_| plain && self.depth == 2);
        match place.ok_or(Fault::Place)? {
            Some(_) => Err(Fault::Place),
            place @ None => {
                *place = Some(String::new());
                self.open = Some(field);
                Ok(())
            }
        }
    }

    fn count(&mut self, field: usize) {
        if let Some(named) = self.named.get_mut(field) {
            *named += 1;
        }
    }

    fn text(&mut self, text: &str) -> Result<(), Fault> {
        if text.contains("]]>") || (self.depth == 0 && !text.trim_matches(is_space).is_empty()) {
            return Err(Fault::Xml);
        }
        if let Some(Some(found)) = self.open.and_then(|field| self.found.get_mut(field)) {
            found.push_str(text);
        }
        Ok(())
    }

    fn end(self, text: &str) -> Result<Envelope, Fault> {
        if !self.root || self.depth > 0 {
            return Err(Fault::Xml);
        }
        // A name that stands anywhere else, in an attribute or a section of characters, is there for
        // a reader that searches the text.
        let text = text.to_ascii_lowercase();
        for (name, named) in FIELDS.iter().zip(self.named) {
            if text.matches(&name.to_ascii_lowercase()).count() != named {
                return Err(Fault::Place);
            }
        }
        let [source_id, endpoint, address] = self.found;
        let endpoint = endpoint.ok_or(Fault::TargetEndpoint)?;
        let target_endpoint = endpoint.trim_matches(is_space).to_owned();
        if !is_endpoint(&target_endpoint) {
            return Err(Fault::TargetEndpoint);
        }
        if address.is_some_and(|address| names_another(&address, &target_endpoint)) {
            return Err(Fault::TargetAddress);
        }
        let source_id = source_id.filter(|id| !id.is_empty());
        match source_id.as_deref().is_none_or(is_client) {
            true => Ok(Envelope { source_id, target_endpoint }),
            false => Err(Fault::SourceId),
        }
    }
}

/// The field of this name, in any case and of any namespace.
fn field_of(local_name: &str) -> Option<usize> {
    FIELDS.iter().position(|field| field.eq_ignore_ascii_case(local_name))
}

fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\r' | '\n')
}

fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

fn is_endpoint(name: &str) -> bool {
    (1..=ENDPOINT_BYTES_MAX).contains(&name.len()) && name.chars().all(is_word)
}

/// Whether an address (`mp:[http]MP_LocationManager`) has the name of another endpoint in it.
fn names_another(address: &str, endpoint: &str) -> bool {
    let mut words = address.split(|c| !is_word(c));
    words.any(|word| word != endpoint && word.to_ascii_lowercase().starts_with("mp_"))
}

/// `GUID:` and a GUID.
fn is_client(id: &str) -> bool {
    let Some(guid) = id.strip_prefix("GUID:") else { return false };
    let digits = guid.split('-').map(|part| part.bytes().all(|b| b.is_ascii_hexdigit()));
    let lengths = guid.split('-').map(str::len);
    digits.min() == Some(true) && lengths.eq([8, 4, 4, 4, 12])
}

/// A name as clients write them: ASCII alone, so that none looks like another.
fn is_name(name: &str) -> bool {
    let begins = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    begins && name.chars().all(|c| is_word(c) || matches!(c, '-' | '.' | ':'))
}

fn check_attributes(tag: &BytesStart<'_>) -> Result<(), Fault> {
    for (n, attribute) in tag.attributes().enumerate() {
        let attribute = attribute.map_err(|_| Fault::Xml)?;
        if n >= ATTRIBUTES_MAX || !is_name(attribute.key.into_inner()) {
            return Err(Fault::Xml);
        }
        let value: &str = &attribute.value;
        if value.contains('<') {
            return Err(Fault::Xml);
        }
        for reference in value.split('&').skip(1) {
            let (name, _) = reference.split_once(';').ok_or(Fault::Xml)?;
            check_reference(&BytesRef::new(name))?;
        }
    }
    Ok(())
}

/// One of the five that XML predefines, or a character of XML.
fn check_reference(reference: &BytesRef<'_>) -> Result<(), Fault> {
    match reference.resolve_char_ref().map_err(|_| Fault::Xml)? {
        Some(c) if is_xml(c) => Ok(()),
        Some(_) => Err(Fault::Xml),
        None if matches!(&**reference, "lt" | "gt" | "amp" | "apos" | "quot") => Ok(()),
        None => Err(Fault::Markup),
    }
}

/// XML 1.0 in the encoding that the text was found in.
fn check_declaration(decl: &BytesDecl<'_>) -> Result<(), Fault> {
    let version = decl.version().map_err(|_| Fault::Xml)?;
    let encoding = decl.encoding().transpose().map_err(|_| Fault::Xml)?;
    let right = encoding.is_none_or(|encoding| encoding.eq_ignore_ascii_case("utf-16"));
    match version == "1.0" && right {
        true => Ok(()),
        false => Err(Fault::Xml),
    }
}
