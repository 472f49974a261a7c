//! Text: escaping, subscripts, estimated widths and line breaks.

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Weight {
    Normal,
    Bold,
}

/// `text` with the special characters of SVG and HTML escaped, for element content and quoted
/// attributes. Characters that XML does not allow become U+FFFD.
pub fn escape(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            '\t' | '\n' | '\r' => safe.push(character),
            '\0'..='\u{1f}' | '\u{fffe}' | '\u{ffff}' => safe.push('\u{fffd}'),
            _ => safe.push(character),
        }
    }
    safe
}

/// The vertical position of a piece of text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// On the baseline.
    Line,
    /// Below the baseline, as a subscript.
    Subscript,
}

impl Level {
    /// Font size relative to text on the baseline.
    pub(crate) fn size(self) -> f64 {
        match self {
            Self::Line => 1.0,
            Self::Subscript => 0.75,
        }
    }
}

/// The pieces of a text in which `_{…}` is a subscript; a `_{` without a closing brace is plain
/// text.
pub fn levels(text: &str) -> Vec<(Level, &str)> {
    let (mut pieces, mut rest) = (Vec::new(), text);
    while let Some((before, after)) = rest.split_once("_{")
        && let Some((inside, behind)) = after.split_once('}')
    {
        pieces.push((Level::Line, before));
        pieces.push((Level::Subscript, inside));
        rest = behind;
    }
    pieces.push((Level::Line, rest));
    pieces.retain(|(_, piece)| !piece.is_empty());
    pieces
}

/// The text with subscripts written as in `x_max`, for output without typography.
pub fn plain(text: &str) -> String {
    let write = |(level, piece): (Level, &str)| match level {
        Level::Line => piece.to_owned(),
        Level::Subscript => format!("_{piece}"),
    };
    levels(text).into_iter().map(write).collect()
}

/// Advance widths of the ASCII characters from space to `~` in `DejaVu Sans`, in hundredths of the
/// font size. This is the first font of our list and wider than the others, so widths are
/// overestimated rather than underestimated.
const ASCII_WIDTHS: [u8; 95] = [
    32, 40, 46, 84, 64, 95, 78, 27, 39, 39, 50, 84, 32, 36, 32, 34, 64, 64, 64, 64, 64, 64, 64, 64,
    64, 64, 34, 34, 84, 84, 84, 53, 100, 68, 69, 70, 77, 63, 58, 77, 75, 29, 29, 66, 56, 86, 75,
    79, 60, 79, 69, 63, 61, 73, 68, 99, 69, 61, 69, 39, 34, 39, 84, 50, 50, 61, 63, 55, 63, 62, 35,
    63, 63, 28, 28, 58, 28, 97, 63, 61, 63, 63, 41, 52, 39, 63, 59, 82, 59, 59, 52, 64, 34, 64, 84,
];

/// Estimated width of `text` in pixels.
pub(crate) fn text_width(text: &str, size: f64, weight: Weight) -> f64 {
    let width = |(level, part): (Level, &str)| {
        part.chars().map(character_width).sum::<f64>() * level.size()
    };
    let hundredths: f64 = levels(text).into_iter().map(width).sum();
    let bold = if weight == Weight::Bold { 1.14 } else { 1.0 };
    hundredths / 100.0 * size * bold
}

fn character_width(character: char) -> f64 {
    let ascii = u32::from(character).checked_sub(32).and_then(|index| usize::try_from(index).ok());
    if let Some(&width) = ascii.and_then(|index| ASCII_WIDTHS.get(index)) {
        return f64::from(width);
    }
    match character {
        '\u{2009}' => 20.0,
        '·' | '’' | '‘' => 32.0,
        '²' | '³' | '¹' | '\u{2070}'..='\u{209c}' => 42.0,
        '‖' => 50.0,
        '\u{370}'..='\u{3ff}' | 'ᵀ' | 'ᵢ' | 'ⱼ' => 66.0,
        '\u{1100}'..='\u{11ff}' | '\u{2e80}'..='\u{ffef}' => 100.0,
        _ => 86.0,
    }
}

/// `text` in lines of at most `width` pixels, broken at spaces, or inside of a word that is wider
/// than a line.
pub(crate) fn wrap(text: &str, width: f64, size: f64, weight: Weight) -> Vec<String> {
    let fits = |line: &str| text_width(line, size, weight) <= width;
    let mut lines = Vec::new();
    let mut line = String::new();
    for word in text.split_whitespace() {
        let joined = if line.is_empty() { word.to_owned() } else { format!("{line} {word}") };
        if fits(&joined) {
            line = joined;
            continue;
        }
        if !line.is_empty() {
            lines.push(std::mem::take(&mut line));
        }
        for character in word.chars() {
            line.push(character);
            if !fits(&line) && line.chars().count() > 1 {
                line.pop();
                lines.push(std::mem::replace(&mut line, character.to_string()));
            }
        }
    }
    if !line.is_empty() {
        lines.push(line);
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrapping_keeps_every_word_and_the_width() {
        let text = "the trace of the Gauss–Newton matrix against the learning rate η";
        let lines = wrap(text, 120.0, 13.0, Weight::Bold);
        assert!(lines.len() > 2);
        assert_eq!(lines.join(" "), text);
        for line in wrap("unbreakablelongword and more", 40.0, 13.0, Weight::Normal) {
            assert!(text_width(&line, 13.0, Weight::Normal) <= 40.0, "{line}");
        }
    }

    #[test]
    fn a_subscript_is_narrower_and_an_open_one_is_plain_text() {
        let width = |text| text_width(text, 10.0, Weight::Normal);
        assert!(width("λ_{max}") < width("λmax"));
        assert_eq!(plain("λ_{max}(G) and _{open"), "λ_max(G) and _{open");
    }
}
