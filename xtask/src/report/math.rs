//! Formulas in running text as MathML, which a browser shows without a script.
//!
//! Texts hold formulas as they are written by hand: `λ_{max} ≤ 2/η`, `‖W − M*‖²`. A word is part of
//! a formula if it has a subscript, a Greek letter or a mathematical sign. Words that can only stand
//! between such words (numbers, `=`, `+`, single letters) join them.

use flatmin_figures::{Level, escape, levels};

/// Escaped text with its formulas as `<math>` elements.
pub(super) fn typeset(text: &str) -> String {
    let words: Vec<&str> = split(text);
    let mut html = String::new();
    let mut at = 0;
    while at < words.len() {
        let Some(first) = beginning(&words[at..]) else {
            html.push_str(&escape(words[at]));
            at += 1;
            continue;
        };
        // The longest run that ends with a formula.
        let mut end = at + first + 1;
        let mut reach = end;
        while reach < words.len() && (is_formula(words[reach]) || is_between(words[reach])) {
            reach += 1;
            if is_formula(words[reach - 1]) {
                end = reach;
            }
        }
        // A trace is one of a matrix.
        if words[end - 1] == "tr"
            && words.get(end + 1).is_some_and(|next| is_between(next) && next.len() == 1)
        {
            end += 2;
        }
        html.push_str(&formula(&words[at..end].concat()));
        at = end;
    }
    html
}

/// The number of words before the first formula of a run that begins here, such as `1 + ` before
/// `2η`; `None` if none does.
fn beginning(words: &[&str]) -> Option<usize> {
    let first = words.iter().position(|word| is_formula(word) || !is_between(word))?;
    let has_operator =
        words[..first].iter().any(|word| matches!(*word, "=" | "+" | "−" | "<" | ">"));
    let begins = first == 0 || (has_operator && words[0] != " ");
    (is_formula(words[first]) && begins).then_some(first)
}

/// Words and the spaces between them. Spaces inside of braces do not separate. Punctuation at the
/// ends of a word is a word of its own.
fn split(text: &str) -> Vec<&str> {
    let mut words = Vec::new();
    let (mut start, mut depth) = (0, 0_usize);
    let is_mark = |c: char| c.is_whitespace() || ",;:.()".contains(c);
    let mut previous: Option<char> = None;
    let mut characters = text.char_indices().peekable();
    while let Some((at, character)) = characters.next() {
        let next = characters.peek().map(|(_, c)| *c);
        match character {
            '{' if previous == Some('_') => depth += 1,
            '}' => depth = depth.saturating_sub(1),
            // A point between digits, or before one, belongs to a number.
            '.' | ',' if next.is_some_and(|c| c.is_ascii_digit()) && character == '.' => {}
            c if depth == 0 && is_mark(c) => {
                if start < at {
                    words.push(&text[start..at]);
                }
                start = at + c.len_utf8();
                words.push(&text[at..start]);
            }
            _ => {}
        }
        previous = Some(character);
    }
    if start < text.len() {
        words.push(&text[start..]);
    }
    words
}

/// Signs that occur in formulas only.
const SIGNS: &str = "≤≥∇Σ∫‖⟨⟩√·∞²³ᵀ⊙½∝≪≫∈⁻";

fn is_greek(character: char) -> bool {
    ('α'..='ω').contains(&character) || "ΛΦΔ".contains(character)
}

fn is_formula(word: &str) -> bool {
    word == "tr" || word.contains("_{") || word.chars().any(|c| is_greek(c) || SIGNS.contains(c))
}

/// True for what joins formulas: spaces, numbers, operators and single letters.
fn is_between(word: &str) -> bool {
    let is_number = word.chars().all(|c| c.is_ascii_digit() || ".−/%".contains(c));
    let is_operator = matches!(word, "=" | "+" | "−" | "<" | ">" | "/" | "(" | ")" | "tr" | "ln");
    let is_letter = word.len() == 1 && word.chars().all(|c| c.is_ascii_alphabetic() && c != 'a');
    word == " " || (is_number && word != ".") || is_operator || is_letter
}

/// A formula as one `<math>` element.
fn formula(text: &str) -> String {
    let mut atoms: Vec<String> = Vec::new();
    let text = braced(text);
    for (level, piece) in levels(&text) {
        match level {
            Level::Subscript => {
                let base = atoms.pop().unwrap_or_else(|| "<mrow></mrow>".to_owned());
                atoms.push(format!("<msub>{base}<mrow>{}</mrow></msub>", atoms_of(piece).concat()));
            }
            Level::Line => {
                let mut new = atoms_of(piece);
                // A power after a subscript belongs to what carries the subscript.
                if let Some(first) = new.first().filter(|first| first.starts_with("<msup><mrow/>"))
                    && let Some(base) = atoms.pop()
                {
                    atoms.push(first.replacen("<mrow/>", &base, 1));
                    new.remove(0);
                }
                atoms.append(&mut new);
            }
        }
    }
    format!("<math>{}</math>", atoms.concat())
}

/// A formula with braces around subscripts that have none, as in `λ_max`.
fn braced(text: &str) -> String {
    let mut braced = String::with_capacity(text.len());
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        braced.push(character);
        if character == '_' && characters.peek().is_some_and(char::is_ascii_alphanumeric) {
            braced.push('{');
            while let Some(next) = characters.next_if(char::is_ascii_alphanumeric) {
                braced.push(next);
            }
            braced.push('}');
        }
    }
    braced
}

/// Identifiers, numbers and operators. A power without a base has an empty row for it.
fn atoms_of(text: &str) -> Vec<String> {
    let mut atoms: Vec<String> = Vec::new();
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        let mut take = |is_part: &dyn Fn(char) -> bool| {
            let mut whole = character.to_string();
            while let Some(next) = characters.next_if(|next| is_part(*next)) {
                whole.push(next);
            }
            whole
        };
        let atom = match character {
            '*' if text.len() == 1 => "<mo>*</mo>".to_owned(),
            c if c == '*' || raised(c).is_some() => {
                let is_raised = |next: char| raised(next).is_some();
                let whole = if c == '*' { "*".to_owned() } else { take(&is_raised) };
                let power: String = whole.chars().filter_map(raised).collect();
                let power = match power.as_str() {
                    "" => "<mo>*</mo>".to_owned(),
                    "T" => "<mi>T</mi>".to_owned(),
                    number => format!("<mn>{number}</mn>"),
                };
                let base = atoms.pop().unwrap_or_else(|| "<mrow/>".to_owned());
                format!("<msup>{base}{power}</msup>")
            }
            c if c.is_ascii_digit() || c == '.' => {
                format!("<mn>{}</mn>", take(&|c| c.is_ascii_digit() || c == '.'))
            }
            c if c.is_alphabetic() => {
                let is_part = |next: char| c.is_ascii() && next.is_ascii_alphabetic();
                format!("<mi>{}</mi>", escape(&take(&is_part)))
            }
            ' ' => "<mspace width=\"0.2em\"></mspace>".to_owned(),
            c => format!("<mo stretchy=\"false\">{}</mo>", escape(&c.to_string())),
        };
        atoms.push(atom);
    }
    atoms
}

/// The character that a raised one stands for.
fn raised(character: char) -> Option<char> {
    const RAISED: &str = "⁰¹²³⁴⁵⁶⁷⁸⁹⁻ᵀ";
    const PLAIN: &str = "0123456789−T";
    let place = RAISED.chars().position(|raised| raised == character)?;
    PLAIN.chars().nth(place)
}

#[cfg(test)]
mod tests {
    use super::{split, typeset};

    #[test]
    fn words_stay_words_and_formulas_become_one_element() {
        let html = typeset("Then λ_{max} ≤ 2/η at a minimum, as S2 says.");
        let formula = "<math><msub><mi>λ</mi><mrow><mi>max</mi></mrow></msub>\
                       <mspace width=\"0.2em\"></mspace><mo stretchy=\"false\">≤</mo>\
                       <mspace width=\"0.2em\"></mspace><mn>2</mn><mo stretchy=\"false\">/</mo>\
                       <mi>η</mi></math>";
        assert_eq!(html, format!("Then {formula} at a minimum, as S2 says."));
        assert_eq!(typeset("no formula (at all), 3.5 of 4."), "no formula (at all), 3.5 of 4.");
    }

    #[test]
    fn formulas_begin_at_their_numbers_and_braces_are_optional() {
        for text in ["1 + 2∫|f|h ≤ 2/η", "tr G ≤ 2/η", "λ_max(H) = 2/η"] {
            let html = typeset(text);
            assert!(html.starts_with("<math>") && html.ends_with("</math>"), "{html}");
            assert_eq!(html.matches("<math>").count(), 1, "{html}");
        }
        assert_eq!(typeset("λ_max"), typeset("λ_{max}"));
        assert!(typeset("at 3 λ").starts_with("at 3 <math>"));
    }

    #[test]
    fn powers_belong_to_what_stands_before_them() {
        let html = typeset("η*");
        assert_eq!(html, "<math><msup><mi>η</mi><mo>*</mo></msup></math>");
        let html = typeset("‖W‖_{F}²");
        assert!(html.contains("<msup><msub><mo stretchy=\"false\">‖</mo>"), "{html}");
        let html = typeset("≤ 10⁻¹²");
        assert!(html.contains("<msup><mn>10</mn><mn>−12</mn></msup>"), "{html}");
    }

    #[test]
    fn every_text_is_escaped_and_none_is_lost() {
        let html = typeset("<b> λ_{<i>} & x_{open η");
        assert!(
            !html.contains("<b>") && !html.contains("<i>") && html.contains("&lt;b&gt;"),
            "{html}"
        );
        for text in ["a, b. (c) .5 d", " λ_{a b}.", "", "x_{", "}"] {
            assert_eq!(split(text).concat(), text);
        }
    }
}
