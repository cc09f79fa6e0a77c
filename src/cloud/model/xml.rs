//! Answers as XML, the gateway's own default (ota-api: section 8).
//!
//! Here belongs writing a JSON document as the elements that the service writes. What is said belongs to `answer`.

use std::fmt::Write as _;

use quick_xml::escape::escape;
use serde_json::Value;

use super::answer::Fields;

const PROLOGUE: &str = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>";

/// A document with this root. Lists are repeated elements of their field's name; null is absent.
pub(super) fn document(root: &str, fields: &Fields) -> String {
    let mut text = PROLOGUE.to_owned();
    element(&mut text, root, |text| fields.iter().for_each(|(name, field)| write(text, name, field)));
    text
}

fn write(text: &mut String, name: &str, value: &Value) {
    match value {
        Value::Null => {}
        Value::Array(entries) => entries.iter().for_each(|entry| write(text, name, entry)),
        Value::Object(fields) => {
            element(text, name, |text| fields.iter().for_each(|(name, field)| write(text, name, field)));
        }
        Value::String(content) => element(text, name, |text| text.push_str(&escape(printable(content)))),
        // Writing to a String cannot fail.
        Value::Bool(_) | Value::Number(_) => element(text, name, |text| _ = write!(text, "{value}")),
    }
}

fn element(text: &mut String, name: &str, content: impl FnOnce(&mut String)) {
    let _ = write!(text, "<{name}>");
    content(text);
    let _ = write!(text, "</{name}>");
}

/// XML 1.0 has no way to write most control characters: such text is cut at the first of them.
fn printable(text: &str) -> &str {
    let allowed = |c: char| !c.is_control() || matches!(c, '\t' | '\n' | '\r');
    text.find(|c| !allowed(c)).and_then(|end| text.get(..end)).unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn lists_repeat_text_is_escaped_and_null_is_absent() {
        let fields = json!({"A": {"B": [{"C": 1}, {"C": true}]}, "D": [], "E": "<&\"é\u{1}x", "F": null, "G": {}});
        let expected = "<R><A><B><C>1</C></B><B><C>true</C></B></A><E>&lt;&amp;&quot;é</E><G></G></R>";
        assert_eq!(document("R", fields.as_object().unwrap()), format!("{PROLOGUE}{expected}"));
    }
}
