//! XML in the one form that all parsers agree on: elements, attributes and text. quick-xml
//! tokenizes; this module enforces the rest of XML's rules and refuses markup that parsers treat
//! differently.
//!
//! Knows no element by name; the visitors do.

use std::borrow::Cow;

use quick_xml::Reader;
use quick_xml::events::{BytesDecl, BytesRef, BytesStart, Event};

use super::text::is_xml;

const DEPTH_MAX: usize = 16;
const ATTRIBUTES_MAX: usize = 32;

/// Why a text is not accepted as XML.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unread {
    /// Not well-formed, or with another root.
    Form,
    /// Elements nested too deeply.
    Depth,
    /// Comments, processing instructions, document types, entities: parsers treat them differently.
    Markup,
}

/// Receives the events of a document, in order.
pub(super) trait Visitor {
    /// Why the visitor stops.
    type Fault: From<Unread>;

    /// Whether the root may have this name.
    fn is_root(&self, name: &str) -> bool;

    /// An element begins.
    fn open(&mut self, tag: &Tag<'_>) -> Result<(), Self::Fault>;

    /// The element at this depth ends. `name` is from the end tag, or `None` for an empty-element
    /// tag.
    fn close(&mut self, name: Option<&str>, depth: usize);

    /// Raw text.
    fn text(&mut self, text: &str) -> Result<(), Self::Fault>;

    /// A CDATA section; `None` for a reference, which is checked after this call.
    fn section(&mut self, text: Option<&str>) -> Result<(), Self::Fault>;
}

/// A start tag.
pub(super) struct Tag<'a> {
    start: &'a BytesStart<'a>,
    /// 1 for the root.
    pub(super) depth: usize,
}

impl Tag<'_> {
    /// The name as it is written.
    pub(super) fn name(&self) -> &str {
        self.start.name().into_inner()
    }

    /// The name without a namespace prefix.
    pub(super) fn local_name(&self) -> &str {
        local_name(self.name())
    }

    /// Names and raw values; references in them are not resolved.
    pub(super) fn attributes(&self) -> impl Iterator<Item = (&str, Cow<'_, str>)> {
        self.start.attributes().flatten().map(|one| (one.key.into_inner(), one.value))
    }
}

/// A name without its namespace prefix.
pub(super) fn local_name(name: &str) -> &str {
    name.split_once(':').map_or(name, |(_, local)| local)
}

pub(super) fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\r' | '\n')
}

/// Reads a document to its end.
pub(super) fn read<V: Visitor>(text: &str, visitor: &mut V) -> Result<(), V::Fault> {
    let mut reader = Reader::from_str(text);
    let (mut depth, mut events, mut root) = (0_usize, 0_usize, false);
    loop {
        match reader.read_event().map_err(|_| Unread::Form)? {
            Event::Eof => break,
            Event::Start(start) => {
                open(&start, &mut depth, &mut root, visitor)?;
            }
            Event::Empty(start) => {
                open(&start, &mut depth, &mut root, visitor)?;
                visitor.close(None, depth);
                depth -= 1;
            }
            Event::End(tag) => {
                visitor.close(Some(tag.name().into_inner()), depth);
                depth = depth.checked_sub(1).ok_or(Unread::Form)?;
            }
            Event::Text(text) => {
                let text: &str = &text;
                if text.contains("]]>") || (depth == 0 && !text.trim_matches(is_space).is_empty()) {
                    return Err(Unread::Form.into());
                }
                visitor.text(text)?;
            }
            Event::CData(_) | Event::GeneralRef(_) if depth == 0 => {
                return Err(Unread::Form.into());
            }
            Event::CData(section) => visitor.section(Some(&section))?,
            Event::GeneralRef(reference) => {
                visitor.section(None)?;
                check_reference(&reference)?;
            }
            Event::Decl(decl) if events == 0 => check_declaration(&decl)?,
            Event::Decl(_) => return Err(Unread::Form.into()),
            Event::Comment(_) | Event::PI(_) | Event::DocType(_) => {
                return Err(Unread::Markup.into());
            }
        }
        events += 1;
    }
    if root && depth == 0 { Ok(()) } else { Err(Unread::Form.into()) }
}

fn open<V: Visitor>(
    start: &BytesStart<'_>,
    depth: &mut usize,
    root: &mut bool,
    visitor: &mut V,
) -> Result<(), V::Fault> {
    let name = start.name().into_inner();
    check_attributes(start)?;
    *depth += 1;
    match *depth {
        _ if !is_name(name) => return Err(Unread::Form.into()),
        1 if *root || !visitor.is_root(name) => return Err(Unread::Form.into()),
        1 => *root = true,
        2..=DEPTH_MAX => {}
        _ => return Err(Unread::Depth.into()),
    }
    visitor.open(&Tag { start, depth: *depth })
}

/// A name as clients write them: ASCII only, so that no name looks like another.
fn is_name(name: &str) -> bool {
    let begins = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    begins && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | ':'))
}

fn check_attributes(tag: &BytesStart<'_>) -> Result<(), Unread> {
    for (n, attribute) in tag.attributes().enumerate() {
        let attribute = attribute.map_err(|_| Unread::Form)?;
        if n >= ATTRIBUTES_MAX || !is_name(attribute.key.into_inner()) {
            return Err(Unread::Form);
        }
        let value: &str = &attribute.value;
        if value.contains('<') {
            return Err(Unread::Form);
        }
        for reference in value.split('&').skip(1) {
            let (name, _) = reference.split_once(';').ok_or(Unread::Form)?;
            check_reference(&BytesRef::new(name))?;
        }
    }
    Ok(())
}

/// Checks that a reference is one of the five that XML predefines, or a character that XML allows.
fn check_reference(reference: &BytesRef<'_>) -> Result<(), Unread> {
    match reference.resolve_char_ref().map_err(|_| Unread::Form)? {
        Some(c) if is_xml(c) => Ok(()),
        Some(_) => Err(Unread::Form),
        None if matches!(&**reference, "lt" | "gt" | "amp" | "apos" | "quot") => Ok(()),
        None => Err(Unread::Markup),
    }
}

/// Checks that the declaration is XML 1.0, and UTF-16 if it names an encoding.
fn check_declaration(decl: &BytesDecl<'_>) -> Result<(), Unread> {
    let version = decl.version().map_err(|_| Unread::Form)?;
    let encoding = decl.encoding().transpose().map_err(|_| Unread::Form)?;
    let right = encoding.is_none_or(|encoding| encoding.eq_ignore_ascii_case("utf-16"));
    if version == "1.0" && right { Ok(()) } else { Err(Unread::Form) }
}
