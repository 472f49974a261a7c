//! Text from elsewhere, on a terminal.

use std::fmt::{Display, Write as _};
use std::path::Path;

/// Text on one line without control characters: those of a name in a file must not reach a terminal.
///
/// Escaped are the control characters of ASCII and of Latin 1, separators of lines, marks that turn the
/// direction of what follows, and characters that take no room.
///
/// ```
/// assert_eq!(flatmin_host::printable("a\u{1b}[31m\nη"), "a\\u{1b}[31m\\u{a}η");
/// ```
pub fn printable(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for character in text.chars() {
        if is_printable(character) {
            safe.push(character);
        } else {
            // Writing to a string cannot fail.
            let _ = write!(safe, "{}", character.escape_unicode());
        }
    }
    safe
}

/// Whether a character shows itself and alters nothing else on a terminal: those that do not are escaped
/// by [`printable`].
pub fn is_printable(character: char) -> bool {
    !character.is_control()
        && !matches!(character,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}'
            | '\u{e0000}'..='\u{e007f}')
}

/// The beginning of a name, printable: those in a file may be as long as it.
pub fn short(name: &str) -> String {
    shortened(name, 100)
}

/// The beginning of a text, [`printable`]: at most so many characters of it, before they are escaped.
pub fn shortened(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        None => printable(text),
        Some((end, _)) => printable(&text[..end]) + "…",
    }
}

/// What a parser says of a file, [`printable`]: the beginning, since it repeats texts of the file.
pub fn said(message: &dyn Display) -> String {
    shortened(&message.to_string(), 400)
}

/// A path on one line, [`printable`].
pub fn shown(path: &Path) -> String {
    printable(&path.to_string_lossy())
}

#[cfg(test)]
mod tests {
    use super::{printable, short, shortened, shown};

    #[test]
    fn what_a_terminal_would_act_on_is_escaped() {
        assert_eq!(printable("a\u{1b}[31m\nb"), "a\\u{1b}[31m\\u{a}b");
        assert_eq!(printable("\u{9b}2J\u{7f}\r\t"), "\\u{9b}2J\\u{7f}\\u{d}\\u{9}");
        assert_eq!(printable("a\u{202e}b\u{2066}c"), "a\\u{202e}b\\u{2066}c");
        assert_eq!(printable("\u{2028}\u{200b}\u{feff}"), "\\u{2028}\\u{200b}\\u{feff}");
        assert_eq!(shown("a\u{1b}c".as_ref()), "a\\u{1b}c");
    }

    #[test]
    fn words_formulas_and_dashes_stay() {
        let text = "fc1.weight η ≤ 2/λ_max — “quoted”… ‖g‖² × ½ 中文 é";
        assert_eq!(printable(text), text);
    }

    #[test]
    fn long_texts_are_cut_between_characters() {
        assert_eq!(short(&"é".repeat(100)), "é".repeat(100));
        assert_eq!(short(&"é".repeat(101)), "é".repeat(100) + "…");
        assert_eq!(shortened("a\n\n", 2), "a\\u{a}…");
    }
}
