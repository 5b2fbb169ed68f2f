//! How much of a response's body is read: none if the status decides, and no more than it takes to find what is
//! expected. A body may never end.

use http::StatusCode;

use super::Http;
use crate::peer::http::Reading;

/// Reads until the settings have what they look for.
pub(super) struct Judging<'a> {
    settings: &'a Http,
    text: Option<Expected<'a>>,
    text_found: bool,
    document: Option<Document>,
}

impl<'a> Judging<'a> {
    pub(super) fn new(settings: &'a Http) -> Self {
        let text = settings.body.as_deref().map(Expected::new);
        Judging {
            settings,
            text_found: text.is_none(),
            text,
            document: settings.json.as_ref().map(|_| Document::default()),
        }
    }
}

impl Reading for Judging<'_> {
    fn wants_body(&mut self, status: StatusCode) -> bool {
        self.settings.statuses.contain(status.as_u16())
    }

    fn is_enough(&mut self, body: &[u8], seen: usize) -> bool {
        if let Some(text) = &self.text {
            self.text_found = self.text_found || text.is_in(body, seen);
        }
        let document_ended = match &mut self.document {
            Some(document) => document.end(body).is_some(),
            None => true,
        };
        self.text_found && document_ended
    }
}

/// A text that a body must hold.
pub(super) struct Expected<'a>(&'a [u8]);

impl<'a> Expected<'a> {
    pub(super) const fn new(text: &'a str) -> Self {
        Expected(text.as_bytes())
    }

    /// Whether the text is in `body`; it is not in the first `seen` bytes, which were searched before.
    pub(super) fn is_in(&self, body: &[u8], seen: usize) -> bool {
        let Expected(text) = *self;
        let from = seen.saturating_sub(text.len().saturating_sub(1));
        text.is_empty()
            || body[from..]
                .windows(text.len())
                .any(|window| window == text)
    }
}

/// Finds the end of a JSON document that is an object or an array. It reads each byte once, however the body arrives.
#[derive(Debug, Default)]
pub(super) struct Document {
    read: usize,
    depth: u32,
    in_text: bool,
    escaped: bool,
    end: Option<usize>,
}

impl Document {
    /// The length of the document with what comes before it; `None` if it has not ended, or is of another kind. `body`
    /// begins as in the last call.
    pub(super) fn end(&mut self, body: &[u8]) -> Option<usize> {
        while self.end.is_none() && self.read < body.len() {
            let byte = body[self.read];
            self.read += 1;
            match byte {
                _ if self.escaped => self.escaped = false,
                b'\\' if self.in_text => self.escaped = true,
                b'"' => self.in_text = !self.in_text,
                _ if self.in_text => {}
                b'{' | b'[' => self.depth = self.depth.saturating_add(1),
                b'}' | b']' => {
                    self.depth = self.depth.saturating_sub(1);
                    if self.depth == 0 {
                        self.end = Some(self.read);
                    }
                }
                _ => {}
            }
        }
        self.end
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_found_across_pieces() {
        let expected = Expected::new("well");
        for cut in 0..=11 {
            let body = b"all is well";
            assert_eq!(expected.is_in(&body[..cut], 0), cut == 11, "{cut}");
            // What was seen before is not searched again, save for its last bytes.
            assert!(expected.is_in(body, cut.min(10)), "{cut}");
        }
        assert!(Expected::new("").is_in(b"", 0));
    }

    #[test]
    fn the_end_of_a_document_is_found_byte_by_byte() {
        for (document, rest) in [
            (r#"{"a":{"b":[1,{}]}}"#, " and more"),
            (r#" {"brace":"}\"]\\"}"#, "]"),
            ("[[],[]]", ""),
        ] {
            let body = format!("{document}{rest}");
            let mut piecemeal = Document::default();
            let found = (0..=body.len()).find_map(|cut| piecemeal.end(&body.as_bytes()[..cut]));
            assert_eq!(found, Some(document.len()), "{body}");
        }
        for body in ["", "3", "\"text\"", "{", "{\"a\":\"}", "[[]"] {
            assert_eq!(Document::default().end(body.as_bytes()), None, "{body}");
        }
    }
}
