//! The envelope's XML: `<Msg>` with the fields that decide what becomes of the message, and how its
//! payload is written.

use super::value::is_plain_field;
use super::xml::{self, Tag, Unread, Visitor, is_space};
use super::{Encoding, Envelope, Fault};

const ENDPOINT_BYTES_MAX: usize = 64;

/// The fields that are read, in the order of [`Reading::found`].
const FIELDS: [&str; 3] = ["SourceID", "TargetEndpoint", "TargetAddress"];

/// The hook that compresses a payload, as its name stands in an envelope.
const ZLIB: &str = "zlib-compress";

/// Read an envelope.
pub(super) fn read(text: &str) -> Result<Envelope, Fault> {
    let mut reading = Reading::default();
    xml::read(text, &mut reading)?;
    reading.end(text)
}

impl From<Unread> for Fault {
    fn from(unread: Unread) -> Self {
        match unread {
            Unread::Form => Fault::Xml,
            Unread::Depth => Fault::Depth,
            Unread::Markup => Fault::Markup,
        }
    }
}

#[derive(Default)]
struct Reading {
    /// The field whose content is being read.
    open: Option<usize>,
    found: [Option<String>; FIELDS.len()],
    /// How often the name of each field stood in a tag.
    named: [usize; FIELDS.len()],
    /// Whether anything stands in the envelope that is no plain value.
    odd: bool,
    written: Written,
}

impl Visitor for Reading {
    type Fault = Fault;

    fn is_root(&self, name: &str) -> bool {
        name == "Msg"
    }

    fn open(&mut self, tag: &Tag<'_>) -> Result<(), Fault> {
        if self.open.is_some() {
            return Err(Fault::Place);
        }
        let odd = |value: &str| value.contains('&') || !is_plain_field(value);
        self.odd |= tag.attributes().any(|(_, value)| odd(&value));
        self.written.see(tag);
        let Some(field) = field_of(tag.local_name()) else { return Ok(()) };
        self.count(field);
        let plain = FIELDS.contains(&tag.name()) && tag.attributes().next().is_none();
        let place = self.found.get_mut(field).filter(|_| plain && tag.depth == 2);
        match place.ok_or(Fault::Place)? {
            Some(_) => Err(Fault::Place),
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

    fn text(&mut self, text: &str) -> Result<(), Fault> {
        self.odd |= !is_plain_field(text);
        if let Some(Some(found)) = self.open.and_then(|field| self.found.get_mut(field)) {
            found.push_str(text);
        }
        Ok(())
    }

    /// In a field they would split its content, and parsers differ in what they make of that.
    fn section(&mut self, text: Option<&str>) -> Result<(), Fault> {
        self.odd |= !text.is_some_and(is_plain_field);
        match self.open {
            Some(_) => Err(Fault::Markup),
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

    fn end(self, text: &str) -> Result<Envelope, Fault> {
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
        let encoding = self.written.encoding(&text);
        match source_id.as_deref().is_none_or(is_client) {
            true => Ok(Envelope { source_id, target_endpoint, encoding, is_plain: !self.odd }),
            false => Err(Fault::SourceId),
        }
    }
}

/// What an envelope says of how its payload is written. Only what is known has a meaning: a hook
/// that is not could make anything of a payload.
#[derive(Default)]
struct Written {
    in_hooks: bool,
    /// How often each of `Hooks`, `Body`, `Payload` and the hook that compresses were seen.
    seen: [usize; 4],
    /// Elements that are called so, or begin with it.
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

    /// What it comes to, in an envelope with this text in lower case.
    fn encoding(&self, text: &str) -> Encoding {
        let [.., zlib] = self.seen;
        match zlib {
            _ if self.odd || self.seen.iter().any(|times| *times > 1) => Encoding::Unclear,
            // Others are there for a reader that searches the text.
            _ if text.matches(ZLIB).count() != zlib => Encoding::Unclear,
            _ if text.matches("<hook").count() != self.hooks => Encoding::Unclear,
            0 => Encoding::Plain,
            _ => Encoding::Zlib,
        }
    }
}

/// Whether an attribute of `Body` leaves the payload whole. A length cuts its end off at most, and
/// nothing well-formed is left of a request then.
fn is_whole(name: &str, value: &str) -> bool {
    match name {
        "Type" => value == "ByteRange",
        "Offset" => value == "0",
        "Length" => !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit()),
        _ => false,
    }
}

/// The field of this name, in any case and of any namespace.
fn field_of(local_name: &str) -> Option<usize> {
    FIELDS.iter().position(|field| field.eq_ignore_ascii_case(local_name))
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
