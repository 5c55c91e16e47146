//! The request in a message's payload. Reads its type and checks that every value is plain.

use super::Encoding;
use super::inflate::inflate;
use super::kind::{CONTENT, PayloadRequest, REGISTERS};
use super::text::decode_little_endian;
use super::unreadable::Unreadable;
use super::value::{is_plain_attribute, is_plain_blob, is_word};
use super::xml::{self, Tag, Visitor, is_space};

/// More than a client with many addresses and boundary groups sends.
const ELEMENTS_MAX: usize = 1024;
const KIND_BYTES_MAX: usize = 64;

/// Reads a payload with this encoding.
pub(super) fn read(payload: &[u8], encoding: Encoding) -> Result<PayloadRequest, Unreadable> {
    let text = match encoding {
        Encoding::Plain => decode_little_endian(payload),
        Encoding::Zlib => decode_little_endian(&inflate(payload)?),
        Encoding::Unclear => return Err(Unreadable::Hooks),
    };
    let text = text.map_err(|_| Unreadable::Text)?;
    let mut reading = PayloadReading::default();
    xml::read(&text, &mut reading)?;
    reading.end(&text)
}

#[derive(Default)]
struct PayloadReading {
    elements: usize,
    /// The number of tags with the root's name.
    tags: usize,
    root: String,
    /// The names of the root's children.
    children: Vec<String>,
    /// Whether any element names content, at any depth.
    content: bool,
    registers_as: Option<String>,
    /// The name of the last element that was opened, for errors about text.
    element: String,
}

impl Visitor for PayloadReading {
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
        let plain = if &*self.root == REGISTERS { is_plain_blob(text) } else { is_word(text) };
        if plain { Ok(()) } else { Err(Unreadable::Value(format!("text in {}", self.element))) }
    }

    fn section(&mut self, _: Option<&str>) -> Result<(), Unreadable> {
        Err(Unreadable::Markup)
    }
}

impl PayloadReading {
    fn end(self, text: &str) -> Result<PayloadRequest, Unreadable> {
        // A request name anywhere else is there to deceive a parser that searches the text.
        let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
        let mut requests = words.filter(|word| is_request(word));
        let tags = if is_request(&self.root) { self.tags } else { 0 };
        if requests.clone().count() != tags || requests.any(|word| word != self.root) {
            return Err(Unreadable::Twice);
        }
        let own = self.children.iter().any(|child| child == "ClientPackage") && !self.content;
        let names_content = self.root == CONTENT && !own;
        Ok(PayloadRequest { root: self.root, registers_as: self.registers_as, names_content })
    }
}

fn is_request(word: &str) -> bool {
    let begins = word.len().checked_sub("request".len());
    begins.and_then(|at| word.get(at..)).is_some_and(|end| end.eq_ignore_ascii_case("request"))
}

#[cfg(test)]
mod tests;
