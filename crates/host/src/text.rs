//! Making text from elsewhere fit for a terminal.

use std::fmt::Display;
use std::path::Path;

/// Text on one line without control characters: those in a name from a file must not reach a
/// terminal.
///
/// It escapes the control characters of ASCII and Latin 1, line separators, marks that change the
/// direction of the text, and characters of zero width.
///
/// ```
/// assert_eq!(flatmin_host::printable("a\u{1b}[31m\nη"), "a\\u{1b}[31m\\u{a}η");
/// ```
pub fn printable(text: &str) -> String {
    let safe = |character: char| match character {
        safe if is_printable(safe) => safe.to_string(),
        other => other.escape_unicode().to_string(),
    };
    text.chars().map(safe).collect()
}

/// True if a character is visible and changes nothing else on a terminal. [`printable`] escapes all
/// others.
pub fn is_printable(character: char) -> bool {
    !character.is_control()
        && !matches!(character,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}'
            | '\u{e0000}'..='\u{e007f}')
}

/// The first 100 characters of a name, [`printable`]: a name in a file may be as long as the file.
pub fn short(name: &str) -> String {
    shortened(name, 100)
}

/// The first `most` characters of a text, [`printable`], with `…` if there are more.
pub fn shortened(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        None => printable(text),
        Some((end, _)) => printable(&text[..end]) + "…",
    }
}

/// The first 400 characters of the message of a parser, [`printable`]: it may repeat text of the
/// file.
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
