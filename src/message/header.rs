//! The envelope's XML: `<Msg>` with the fields that decide how the message is routed and how its
//! payload is encoded.

use super::value::is_plain_field;
use super::xml::{self, Tag, Unread, Visitor, is_space};
use super::{Encoding, Envelope, MessageFault};

const ENDPOINT_BYTES_MAX: usize = 64;

/// The fields that are read, in the order of [`Reading::found`].
const FIELDS: [&str; 3] = ["SourceID", "TargetEndpoint", "TargetAddress"];

/// The hook that compresses a payload, as an envelope names it.
const ZLIB: &str = "zlib-compress";

/// Reads an envelope.
pub(super) fn read(text: &str) -> Result<Envelope, MessageFault> {
    let mut reading = Reading::default();
    xml::read(text, &mut reading)?;
    reading.end(text)
}

impl From<Unread> for MessageFault {
    fn from(unread: Unread) -> Self {
        match unread {
            Unread::Form => MessageFault::Xml,
            Unread::Depth => MessageFault::Depth,
            Unread::Markup => MessageFault::Markup,
        }
    }
}

#[derive(Default)]
struct Reading {
    /// The field that is being read.
    open: Option<usize>,
    found: [Option<String>; FIELDS.len()],
    /// How often the name of each field occurs in a tag.
    named: [usize; FIELDS.len()],
    /// Whether the envelope has any value that is not plain.
    odd: bool,
    written: Written,
}

impl Visitor for Reading {
    type Fault = MessageFault;

    fn is_root(&self, name: &str) -> bool {
        name == "Msg"
    }

    fn open(&mut self, tag: &Tag<'_>) -> Result<(), MessageFault> {
        if self.open.is_some() {
            return Err(MessageFault::Place);
        }
        let odd = |value: &str| value.contains('&') || !is_plain_field(value);
        self.odd |= tag.attributes().any(|(_, value)| odd(&value));
        self.written.see(tag);
        let Some(field) = field_of(tag.local_name()) else { return Ok(()) };
        self.count(field);
        let plain = FIELDS.contains(&tag.name()) && tag.attributes().next().is_none();
        let place = self.found.get_mut(field).filter(|_| plain && tag.depth == 2);
        match place.ok_or(MessageFault::Place)? {
            Some(_) => Err(MessageFault::Place),
            place @ None => {
                *place = Some(String::new());
                self.open = Some(field);
                Ok(())
            }
        }
    }

    fn close(&mut self, name: Option<&str>, depth: usize) {
        if let Some(field) = name.and_then(|name| field_of(xml::local_name(name))) {
            self.count(field);
        }
        self.open = None;
        self.written.in_hooks &= depth > 2;
    }

    fn text(&mut self, text: &str) -> Result<(), MessageFault> {
        self.odd |= !is_plain_field(text);
        if let Some(Some(found)) = self.open.and_then(|field| self.found.get_mut(field)) {
            found.push_str(text);
        }
        Ok(())
    }

    /// Refuses CDATA sections and references inside a field: they split its content, and parsers
    /// differ in how they join it.
    fn section(&mut self, text: Option<&str>) -> Result<(), MessageFault> {
        self.odd |= !text.is_some_and(is_plain_field);
        match self.open {
            Some(_) => Err(MessageFault::Markup),
            None => Ok(()),
        }
    }
}

impl Reading {
    fn count(&mut self, field: usize) {
        if let Some(named) = self.named.get_mut(field) {
            *named += 1;
        }
    }

    fn end(self, text: &str) -> Result<Envelope, MessageFault> {
        // A field name anywhere else, in an attribute or a CDATA section, is there to deceive a
        // reader that searches the text.
        let text = text.to_ascii_lowercase();
        for (name, named) in FIELDS.iter().zip(self.named) {
            if text.matches(&name.to_ascii_lowercase()).count() != named {
                return Err(MessageFault::Place);
            }
        }
        let [source_id, endpoint, address] = self.found;
        let endpoint = endpoint.ok_or(MessageFault::TargetEndpoint)?;
        let target_endpoint = endpoint.trim_matches(is_space).to_owned();
        if !is_endpoint(&target_endpoint) {
            return Err(MessageFault::TargetEndpoint);
        }
        if address.is_some_and(|address| names_another(&address, &target_endpoint)) {
            return Err(MessageFault::TargetAddress);
        }
        let source_id = source_id.filter(|id| !id.is_empty());
        let encoding = self.written.encoding(&text);
        if source_id.as_deref().is_none_or(is_client) {
            Ok(Envelope { source_id, target_endpoint, encoding, is_plain: !self.odd })
        } else {
            Err(MessageFault::SourceId)
        }
    }
}

/// The payload encoding that an envelope declares. Only known hooks are accepted: an unknown one
/// could transform the payload in any way.
#[derive(Default)]
struct Written {
    in_hooks: bool,
    /// How often each of `Hooks`, `Body`, `Payload` and the compression hook occurred.
    seen: [usize; 4],
    /// The number of elements with a local name that begins with `hook`, in any case.
    hooks: usize,
    odd: bool,
}

impl Written {
    fn see(&mut self, tag: &Tag<'_>) {
        let local = tag.local_name();
        let is = |wanted: &str| local.eq_ignore_ascii_case(wanted);
        let attributes = || tag.attributes().collect::<Vec<_>>();
        let only = |wanted: (&str, &str)| matches!(&*attributes(), [(name, value)] if (*name, &**value) == wanted);
        let [hooks, bodies, payloads, zlib] = &mut self.seen;
        let is_hook = local.get(..4).is_some_and(|begins| begins.eq_ignore_ascii_case("hook"));
        self.hooks += usize::from(is_hook);
        let place = (tag.name(), tag.depth);
        let known = if is("Hooks") {
            *hooks += 1;
            self.in_hooks = tag.depth == 2;
            place == ("Hooks", 2) && attributes().is_empty()
        } else if is("Body") {
            *bodies += 1;
            place == ("Body", 2) && attributes().iter().all(|(name, value)| is_whole(name, value))
        } else if is("Payload") {
            *payloads += 1;
            place == ("Payload", 2) && only(("Type", "inline"))
        } else if is_hook {
            let compresses = place == ("Hook3", 3) && only(("Name", ZLIB));
            *zlib += usize::from(compresses);
            let signs = place == ("Hook2", 3) && only(("Name", "clientauth"));
            self.in_hooks && (compresses || signs)
        } else {
            true
        };
        self.odd |= !known;
    }

    /// The resulting encoding. `text` is the envelope in lower case.
    fn encoding(&self, text: &str) -> Encoding {
        let [.., zlib] = self.seen;
        match zlib {
            _ if self.odd || self.seen.iter().any(|times| *times > 1) => Encoding::Unclear,
            // More occurrences are there to deceive a reader that searches the text.
            _ if text.matches(ZLIB).count() != zlib => Encoding::Unclear,
            _ if text.matches("<hook").count() != self.hooks => Encoding::Unclear,
            0 => Encoding::Plain,
            _ => Encoding::Zlib,
        }
    }
}

/// Whether an attribute of `Body` leaves the payload whole. A `Length` can at most cut off its end,
/// and a truncated request is not well-formed.
fn is_whole(name: &str, value: &str) -> bool {
    match name {
        "Type" => value == "ByteRange",
        "Offset" => value == "0",
        "Length" => !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit()),
        _ => false,
    }
}

/// The field of this name, in any case and any namespace.
fn field_of(local_name: &str) -> Option<usize> {
    FIELDS.iter().position(|field| field.eq_ignore_ascii_case(local_name))
}

fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

fn is_endpoint(name: &str) -> bool {
    (1..=ENDPOINT_BYTES_MAX).contains(&name.len()) && name.chars().all(is_word)
}

/// Whether an address (`mp:[http]MP_LocationManager`) contains the name of another endpoint.
fn names_another(address: &str, endpoint: &str) -> bool {
    let mut words = address.split(|c| !is_word(c));
    words.any(|word| word != endpoint && word.to_ascii_lowercase().starts_with("mp_"))
}

/// Whether this is `GUID:` and a GUID.
fn is_client(id: &str) -> bool {
    let Some(guid) = id.strip_prefix("GUID:") else { return false };
    let digits = guid.split('-').map(|part| part.bytes().all(|b| b.is_ascii_hexdigit()));
    let lengths = guid.split('-').map(str::len);
    digits.min() == Some(true) && lengths.eq([8, 4, 4, 4, 12])
}
