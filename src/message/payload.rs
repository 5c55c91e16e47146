//! The request in a message's payload: what is asked for, and that every value in it is plain.

use super::Encoding;
use super::inflate::inflate;
use super::kind::{CONTENT, REGISTERS};
use super::text::decode_little_endian;
use super::value::{is_plain_attribute, is_plain_blob, is_word};
use super::xml::{self, Tag, Unread, Visitor, is_space};

/// More than a client with many addresses and boundary groups has.
const ELEMENTS_MAX: usize = 1024;
const KIND_BYTES_MAX: usize = 64;

/// What a payload asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The root element.
    root: String,
    /// What a registration says it is.
    registers_as: Option<String>,
    /// Whether it asks for content other than the client's own installation files.
    names_content: bool,
}

/// Why a payload is not read as a request.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// More parts, fewer, or something behind them.
    #[error("the body is not two parts and its end")]
    Parts,
    /// What stands beside the sender's id in the envelope may end up where that did.
    #[error("a field of the envelope is not plain")]
    Field,
    /// Two answers to the question how the payload is written, or one that is not known.
    #[error("the envelope has hooks or a body that are not known")]
    Hooks,
    /// Not what its hook says.
    #[error("the payload is not one whole zlib stream")]
    Zlib,
    /// A bomb.
    #[error("the payload is larger than any request")]
    Size,
    /// Not UTF-16, or characters that XML does not have.
    #[error("the payload is not UTF-16 text")]
    Text,
    /// Not well-formed.
    #[error("the payload is not well-formed XML")]
    Xml,
    /// Comments, entities, sections, namespaces: where parsers differ, and no client writes it.
    #[error("the payload has markup other than elements, attributes and text")]
    Markup,
    /// Elements without end.
    #[error("the payload has too many elements, or they are nested too deeply")]
    Depth,
    /// Two of what a request has one of, or a request within a request.
    #[error("the payload holds something twice that a request has once")]
    Twice,
    /// Something that could end up in a statement of the site's database as more than a value.
    #[error("a value of the payload is not plain: {0}")]
    Value(String),
}

impl Request {
    /// What it is called: for a registration by its type, for all others by the root element.
    pub fn kind(&self) -> &str {
        self.registers_as.as_deref().unwrap_or(&self.root)
    }

    /// Whether it is a registration.
    pub(super) fn registers(&self) -> bool {
        self.root == REGISTERS
    }

    /// Whether it asks for content other than the client's own installation files.
    pub(super) fn names_content(&self) -> bool {
        self.names_content
    }
}

impl From<Unread> for Unreadable {
    fn from(unread: Unread) -> Self {
        match unread {
            Unread::Form => Unreadable::Xml,
            Unread::Depth => Unreadable::Depth,
            Unread::Markup => Unreadable::Markup,
        }
    }
}

/// Read a payload that is written so.
pub(super) fn read(payload: &[u8], encoding: Encoding) -> Result<Request, Unreadable> {
    let text = match encoding {
        Encoding::Plain => decode_little_endian(payload),
        Encoding::Zlib => decode_little_endian(&inflate(payload)?),
        Encoding::Unclear => return Err(Unreadable::Hooks),
    };
    let text = text.map_err(|_| Unreadable::Text)?;
    let mut reading = Reading::default();
    xml::read(&text, &mut reading)?;
    reading.end(&text)
}

#[derive(Default)]
struct Reading {
    elements: usize,
    /// Tags with the root's name.
    tags: usize,
    root: String,
    /// What the root holds directly.
    children: Vec<String>,
    /// Whether content is named, wherever a reader may look for it.
    content: bool,
    registers_as: Option<String>,
    /// The element whose text is read.
    element: String,
}

impl Visitor for Reading {
    type Fault = Unreadable;

    fn is_root(&self, name: &str) -> bool {
        name.len() <= KIND_BYTES_MAX
    }

    fn open(&mut self, tag: &Tag<'_>) -> Result<(), Unreadable> {
        let name = tag.name();
        self.elements += 1;
        if self.elements > ELEMENTS_MAX {
            return Err(Unreadable::Depth);
        }
        if name.contains(':') || name.len() > KIND_BYTES_MAX {
            return Err(Unreadable::Markup);
        }
        match tag.depth {
            1 => {
                self.root = name.to_owned();
                self.tags = 1;
            }
            2 if self.children.iter().any(|child| child.eq_ignore_ascii_case(name)) => {
                return Err(Unreadable::Twice);
            }
            2 => self.children.push(name.to_owned()),
            _ => {}
        }
        self.content |= ["Package", "Content"].iter().any(|of| name.eq_ignore_ascii_case(of));
        for (attribute, value) in tag.attributes() {
            if attribute.contains(':') || attribute.eq_ignore_ascii_case("xmlns") {
                return Err(Unreadable::Markup);
            }
            if !is_plain_attribute(name, attribute, &value) {
                let attribute = attribute.get(..KIND_BYTES_MAX).unwrap_or(attribute);
                return Err(Unreadable::Value(format!("{attribute} of {name}")));
            }
            if (tag.depth, &*self.root, name, attribute) == (2, REGISTERS, "Data", "RequestType") {
                self.registers_as = Some(value.into_owned());
            }
        }
        name.clone_into(&mut self.element);
        Ok(())
    }

    fn close(&mut self, name: Option<&str>, depth: usize) {
        self.tags += usize::from(depth == 1 && name.is_some());
    }

    fn text(&mut self, text: &str) -> Result<(), Unreadable> {
        let text = text.trim_matches(is_space);
        let plain = match &*self.root == REGISTERS {
            true => is_plain_blob(text),
            false => is_word(text),
        };
        match plain {
            true => Ok(()),
            false => Err(Unreadable::Value(format!("text in {}", self.element))),
        }
    }

    fn section(&mut self, _: Option<&str>) -> Result<(), Unreadable> {
        Err(Unreadable::Markup)
    }
}

impl Reading {
    fn end(self, text: &str) -> Result<Request, Unreadable> {
        // The name of a request that stands anywhere else is there for a reader that searches.
        let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
        let mut requests = words.filter(|word| is_request(word));
        let tags = if is_request(&self.root) { self.tags } else { 0 };
        if requests.clone().count() != tags || requests.any(|word| word != self.root) {
            return Err(Unreadable::Twice);
        }
        let own = self.children.iter().any(|child| child == "ClientPackage") && !self.content;
        let names_content = self.root == CONTENT && !own;
        Ok(Request { root: self.root, registers_as: self.registers_as, names_content })
    }
}

fn is_request(word: &str) -> bool {
    let begins = word.len().checked_sub("request".len());
    begins.and_then(|at| word.get(at..)).is_some_and(|end| end.eq_ignore_ascii_case("request"))
}

#[cfg(test)]
mod tests;
