//! Answers in XML, the gateway's default format: to and from the JSON value that the same answer would be (ota-api:
//! sections 1, 8).
//!
//! [`decode`] is for the client, [`encode`] for the simulated cloud. Elements become fields, repeated ones lists, and all
//! else is text: `<Data><JobId>j</JobId></Data>` is `{"Data": {"JobId": "j"}}`. So a list of one looks like its only
//! element; whoever reads lists has to take both. What the fields mean never comes in.
//!
//! An honest answer has no document type and no attributes: the first is refused, the second are not looked at.

use quick_xml::Reader;
use quick_xml::escape::{escape, resolve_xml_entity};
use quick_xml::events::Event;
use serde_json::{Map, Value};

/// Deepest nesting that is read; honest answers have six levels.
const DEEPEST: usize = 32;
/// Most elements that are read; a page of 200 jobs with full tags has fewer than 10,000.
const MOST_ELEMENTS: usize = 200_000;

/// Why a text is not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum XmlError {
    /// Not well-formed: cut off, wrongly nested, an entity that nobody defined, or two roots.
    #[error("no well-formed XML")]
    Malformed,
    /// It declares a document type.
    #[error("XML with a document type")]
    DocumentType,
    /// Nested deeper than any answer, or with more elements.
    #[error("XML that is too deep or has too many elements")]
    TooLarge,
    /// The root has no elements in it.
    #[error("XML without fields")]
    Empty,
}

/// An element that is still open.
#[derive(Default)]
struct Open {
    name: String,
    fields: Map<String, Value>,
    text: String,
}

impl Open {
    /// What the element is: its fields if it has any, else its text. Space with a line break in it is layout.
    fn close(self) -> (String, Value) {
        let layout = self.text.trim().is_empty() && self.text.contains('\n');
        let value = match (self.fields.is_empty(), layout) {
            (false, _) => Value::Object(self.fields),
            (true, true) => Value::String(String::new()),
            (true, false) => Value::String(self.text),
        };
        (self.name, value)
    }

    fn add(&mut self, name: String, value: Value) {
        match self.fields.get_mut(&name) {
            None => {
                self.fields.insert(name, value);
            }
            Some(Value::Array(list)) => list.push(value),
            Some(first) => *first = Value::Array(vec![first.take(), value]),
        }
    }
}

/// Reads a document: the fields of its root, whatever that is called.
///
/// # Errors
/// Anything that is not well-formed, or larger than an answer can be.
pub fn decode(text: &str) -> Result<Map<String, Value>, XmlError> {
    let mut reader = Reader::from_str(text);
    reader.config_mut().expand_empty_elements = true;
    let (mut open, mut root, mut elements): (Vec<Open>, Option<Value>, usize) = (Vec::new(), None, 0);
    loop {
        let piece = match reader.read_event().map_err(|_| XmlError::Malformed)? {
            Event::Start(start) => {
                elements += 1;
                if elements > MOST_ELEMENTS || open.len() >= DEEPEST {
                    return Err(XmlError::TooLarge);
                }
                if root.is_some() {
                    return Err(XmlError::Malformed);
                }
                open.push(Open { name: start.local_name().as_ref().to_owned(), ..Open::default() });
                continue;
            }
            Event::End(_) => {
                // The reader has compared the names.
                let (name, value) = open.pop().ok_or(XmlError::Malformed)?.close();
                match open.last_mut() {
                    Some(parent) => parent.add(name, value),
                    None => root = Some(value),
                }
                continue;
            }
            Event::Text(text) => text.xml10_content().into_owned(),
            Event::CData(data) => data.xml10_content().into_owned(),
            Event::GeneralRef(reference) => match reference.resolve_char_ref().map_err(|_| XmlError::Malformed)? {
                Some(char) => char.to_string(),
                None => resolve_xml_entity(&reference.xml10_content()).ok_or(XmlError::Malformed)?.to_owned(),
            },
            Event::DocType(_) => return Err(XmlError::DocumentType),
            Event::Decl(_) | Event::Comment(_) | Event::PI(_) => continue,
            Event::Empty(_) => return Err(XmlError::Malformed),
            Event::Eof => break,
        };
        match open.last_mut() {
            Some(element) => element.text.push_str(&piece),
            None if piece.trim_start_matches('\u{feff}').trim().is_empty() => {}
            None => return Err(XmlError::Malformed),
        }
    }
    match root {
        Some(Value::Object(fields)) if open.is_empty() => Ok(fields),
        Some(_) if open.is_empty() => Err(XmlError::Empty),
        _ => Err(XmlError::Malformed),
    }
}

/// Writes a document with this root: a list as repeated elements, null as nothing, an empty list as nothing. Characters
/// that XML cannot carry are left out.
pub fn encode(root: &str, fields: &Map<String, Value>) -> String {
    let mut text = String::from(r#"<?xml version="1.0" encoding="UTF-8"?>"#);
    element(&mut text, root, |text| all(text, fields));
    text
}

fn all(text: &mut String, fields: &Map<String, Value>) {
    for (name, value) in fields {
        write(text, name, value);
    }
}

fn write(text: &mut String, name: &str, value: &Value) {
    match value {
        Value::Null => {}
        Value::Array(list) => list.iter().for_each(|value| write(text, name, value)),
        Value::Object(fields) => element(text, name, |text| all(text, fields)),
        Value::String(content) => element(text, name, |text| text.push_str(&escape(carried(content)))),
        Value::Bool(_) | Value::Number(_) => element(text, name, |text| text.push_str(&value.to_string())),
    }
}

fn element(text: &mut String, name: &str, content: impl FnOnce(&mut String)) {
    text.push_str(&format!("<{name}>"));
    content(text);
    text.push_str(&format!("</{name}>"));
}

fn carried(text: &str) -> String {
    let legal =
        |c: &char| !matches!(c, '\0'..='\u{8}' | '\u{b}' | '\u{c}' | '\u{e}'..='\u{1f}' | '\u{fffe}' | '\u{ffff}');
    text.chars().filter(legal).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn read(text: &str) -> Value {
        Value::Object(decode(text).unwrap())
    }

    #[test]
    fn elements_become_fields_and_repeated_ones_lists() {
        let text = "<?xml version='1.0'?>\n<R a='b'>\n <A>1</A><!-- c --><L><X>a</X><X/><X>c</X></L>\n <E> \n </E><B> </B></R>\n";
        assert_eq!(read(text), json!({"A": "1", "L": {"X": ["a", "", "c"]}, "E": "", "B": " "}));
        assert_eq!(read("<n:R xmlns:n='u'><n:A>1</n:A></n:R>"), json!({"A": "1"}));
    }

    #[test]
    fn text_is_put_together_from_its_pieces() {
        let text = "<R><A>a &amp; b&#x20;<![CDATA[<c>]]>&#21319;级&lt;</A></R>";
        assert_eq!(read(text), json!({"A": "a & b <c>升级<"}));
    }

    #[test]
    fn what_is_no_answer_is_refused() {
        let deep = format!("<R>{}", "<a>".repeat(100_000));
        let wide = format!("<R>{}</R>", "<a/>".repeat(MOST_ELEMENTS));
        for (text, error) in [
            ("", XmlError::Malformed),
            ("busy", XmlError::Malformed),
            ("<R><A>1</A>", XmlError::Malformed),
            ("<R><A>1</B></R>", XmlError::Malformed),
            ("<R><A>1</A></R><R><A>1</A></R>", XmlError::Malformed),
            ("<R><A>1</A></R>more", XmlError::Malformed),
            ("<R><A>&lol;</A></R>", XmlError::Malformed),
            ("<R><A>&#xFFFFFFFF;</A></R>", XmlError::Malformed),
            ("<!DOCTYPE R [<!ENTITY a \"b\">]><R><A>&a;</A></R>", XmlError::DocumentType),
            ("<R></R>", XmlError::Empty),
            ("<R>text</R>", XmlError::Empty),
            (deep.as_str(), XmlError::TooLarge),
            (wide.as_str(), XmlError::TooLarge),
        ] {
            assert_eq!(decode(text), Err(error), "{}", text.chars().take(60).collect::<String>());
        }
    }

    #[test]
    fn what_is_written_is_read_again() {
        let fields =
            json!({"S": "a<b>&\"'\r\n\u{1}", "N": -5, "T": true, "Z": null, "L": {"X": ["1", "2"]}, "M": [], "O": {}});
        let text = encode("QueryResponse", fields.as_object().unwrap());
        assert!(text.starts_with(r#"<?xml version="1.0" encoding="UTF-8"?><QueryResponse>"#), "{text}");
        let expected = json!({"S": "a<b>&\"'\r\n", "N": "-5", "T": "true", "L": {"X": ["1", "2"]}, "O": ""});
        assert_eq!(read(&text), expected);
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "\\PC{0,200}") {
            let _ = decode(&text);
        }

        #[test]
        fn nor_does_anything_that_looks_like_xml(pieces in prop::collection::vec(
            prop::sample::select(vec!["<R>", "</R>", "<A>", "</A>", "<A/>", "x", "&amp;", "&", "&#", ";", "<![CDATA[", "]]>",
                "<!--", "-->", "<?", "?>", "<!DOCTYPE", ">", "<", "\"", " ", "\n", "级"]), 0..40)) {
            let _ = decode(&pieces.concat());
        }

        #[test]
        fn every_text_survives_the_way_there_and_back(value in "[^\\r\\x00-\\x08\\x0b\\x0c\\x0e-\\x1f]{1,40}") {
            // Nothing but layout counts as empty.
            prop_assume!(!value.trim().is_empty() || !value.contains('\n'));
            prop_assume!(!value.contains(['\u{fffe}', '\u{ffff}']));
            let fields = Map::from_iter([("V".to_owned(), Value::String(value.clone()))]);
            prop_assert_eq!(decode(&encode("R", &fields)), Ok(Map::from_iter([("V".to_owned(), Value::String(value))])));
        }
    }
}
