//! The one way by which text from outside reaches a terminal: nothing in it can drive one.

use std::fmt::{self, Write as _};

use unicode_width::UnicodeWidthStr as _;

/// Text whose every character is shown, and none is obeyed.
///
/// Image and link names, S3 keys and archive entries are chosen by strangers. A terminal would
/// obey the escape sequences in them, and bidirectional controls would show them as something
/// else (CVE-2021-42574). So C0, DEL and C1 controls and bytes that are not UTF-8 are shown as
/// `\x1b`, and characters that are invisible or reorder others as `\u{202e}`. What is shown this
/// way once is not changed by a second time.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Printable(String);

impl Printable {
    /// Shows a text; in plain ASCII where `ascii` asks for it.
    pub(crate) fn new(text: &str, ascii: bool) -> Self {
        Self::of_bytes(text.as_bytes(), ascii)
    }

    /// Shows bytes that may be no text at all.
    pub(crate) fn of_bytes(bytes: &[u8], ascii: bool) -> Self {
        let mut shown = String::with_capacity(bytes.len());
        for chunk in bytes.utf8_chunks() {
            for character in chunk.valid().chars() {
                show(&mut shown, character, ascii);
            }
            for byte in chunk.invalid() {
                show_byte(&mut shown, u32::from(*byte));
            }
        }
        Self(shown)
    }

    /// The text.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// How many columns of a terminal it takes.
    pub(crate) fn width(&self) -> usize {
        self.0.width()
    }
}

impl fmt::Display for Printable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

fn show(to: &mut String, character: char, ascii: bool) {
    let code = u32::from(character);
    if character.is_control() {
        show_byte(to, code);
    } else if deceives(character) || (ascii && !character.is_ascii()) {
        // An 8-bit terminal would take the second byte of many characters for a C1 control.
        to.push_str("\\u{");
        write_hex(to, format_args!("{code:x}"));
        to.push('}');
    } else {
        to.push(character);
    }
}

fn show_byte(to: &mut String, code: u32) {
    to.push_str("\\x");
    write_hex(to, format_args!("{code:02x}"));
}

fn write_hex(to: &mut String, digits: fmt::Arguments<'_>) {
    // Writing into a String cannot fail.
    to.write_fmt(digits).unwrap_or_default();
}

/// Whether a character is invisible, breaks the line or changes the order of others (Unicode 16,
/// general categories Cf, Zl and Zp, and the fillers and blanks that look like nothing).
const fn deceives(character: char) -> bool {
    matches!(
        character,
        '\u{ad}'
            | '\u{34f}'
            | '\u{600}'..='\u{605}'
            | '\u{61c}'
            | '\u{6dd}'
            | '\u{70f}'
            | '\u{890}'..='\u{891}'
            | '\u{8e2}'
            | '\u{115f}'..='\u{1160}'
            | '\u{17b4}'..='\u{17b5}'
            | '\u{180b}'..='\u{180f}'
            | '\u{200b}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{2800}'
            | '\u{3164}'
            | '\u{fe00}'..='\u{fe0f}'
            | '\u{feff}'
            | '\u{ffa0}'
            | '\u{fff0}'..='\u{fffb}'
            | '\u{110bd}'
            | '\u{110cd}'
            | '\u{13430}'..='\u{1343f}'
            | '\u{1bca0}'..='\u{1bca3}'
            | '\u{1d173}'..='\u{1d17a}'
            | '\u{e0000}'..='\u{e0fff}'
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> String {
        Printable::new(text, false).to_string()
    }

    #[test]
    fn nothing_in_a_name_drives_a_terminal() {
        for (hostile, text) in [
            ("a\x1b[31mb", "a\\x1b[31mb"),
            ("a\r\nb\tc", "a\\x0d\\x0ab\\x09c"),
            ("\x07\x7f\0", "\\x07\\x7f\\x00"),
            ("\u{9b}31m", "\\x9b31m"),
            ("gpj.\u{202e}exe", "gpj.\\u{202e}exe"),
            ("\u{2066}x\u{2069}", "\\u{2066}x\\u{2069}"),
            ("a\u{200b}b\u{feff}", "a\\u{200b}b\\u{feff}"),
            ("\u{e0041}", "\\u{e0041}"),
            ("naïve 図", "naïve 図"),
        ] {
            assert_eq!(shown(hostile), text);
        }
    }

    #[test]
    fn no_control_is_left_of_any_character() {
        for character in '\0'..=char::MAX {
            let text = shown(&character.to_string());
            assert!(!text.chars().any(char::is_control), "{character:?}");
            let ascii = Printable::new(&character.to_string(), true);
            assert!(ascii.as_str().bytes().all(|b| (b' '..=b'~').contains(&b)), "{character:?}");
        }
    }

    #[test]
    fn bytes_that_are_no_text_are_shown_as_bytes() {
        assert_eq!(Printable::of_bytes(b"a\xff\xc3", false).as_str(), "a\\xff\\xc3");
    }

    #[test]
    fn what_was_shown_once_is_not_changed_again() {
        let once = shown("a\x1b\u{202e}\\");
        assert_eq!(shown(&once), once);
    }

    #[test]
    fn wide_characters_count_twice() {
        assert_eq!(Printable::new("図a", false).width(), 3);
    }
}
