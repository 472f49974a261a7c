//! Formulas as MathML, which a browser shows without a script.

use pulldown_latex::config::DisplayMode;
use pulldown_latex::{Parser, RenderConfig, Storage, push_mathml};

use crate::pages::{Piece, Problem, pieces};

/// A page with its displayed formulas as MathML, each on one line.
///
/// # Errors
/// [`Problem`] for the first formula that cannot be read.
pub fn with_mathml(page: &str) -> Result<String, Problem> {
    let mut text = page.to_owned();
    // The last formula comes first, so that the places of the others stay valid.
    for placed in pieces(page).into_iter().rev() {
        if let Piece::Formula(latex) = placed.piece {
            let mathml = mathml(&latex).map_err(|reason| Problem { line: placed.line, reason })?;
            text.replace_range(placed.range, &mathml);
        }
    }
    Ok(text)
}

/// A displayed formula as MathML on one line.
///
/// # Errors
/// The reason why the LaTeX cannot be read, on one line.
pub(crate) fn mathml(latex: &str) -> Result<String, String> {
    let storage = Storage::new();
    let events: Vec<_> = Parser::new(latex, &storage).collect();
    if let Some(error) = events.iter().find_map(|event| event.as_ref().err()) {
        let reason = error.to_string();
        let reason = reason.lines().next().unwrap_or_default();
        return Err(format!("the formula cannot be read: {reason}"));
    }
    let config = RenderConfig { display_mode: DisplayMode::Block, ..RenderConfig::default() };
    let mut mathml = String::new();
    push_mathml(&mut mathml, events.into_iter(), config).map_err(|error| error.to_string())?;
    Ok(mended(&mathml.lines().map(str::trim).collect::<Vec<_>>().join(" ")))
}

/// Corrects two mistakes of the converter. It writes a space, `\ `, as an escaped entity, which a
/// browser shows as it stands. And it puts the space before an operator such as `\sup` into the
/// element that sets the operator's limits, which then has one child too many.
fn mended(mathml: &str) -> String {
    const SPACE: &str = r#"<mspace width="0.1667em" />"#;
    let mut mended = mathml.replace("&amp;nbsp;", "\u{a0}");
    for element in ["<munder>", "<mover>", "<munderover>", "<msub>", "<msup>", "<msubsup>"] {
        mended = mended.replace(&format!("{element}{SPACE}"), &format!("{SPACE}{element}"));
    }
    mended
}

#[cfg(test)]
mod tests {
    use super::{mathml, with_mathml};

    #[test]
    fn a_page_keeps_its_words_around_its_formulas() {
        let page = with_mathml("# One\n\n$$a$$\n\ntwo $$b$$ three `$$c$$`\n").unwrap();
        let lines: Vec<&str> = page.lines().collect();
        assert_eq!((lines.len(), lines[0]), (5, "# One"));
        assert!(lines[2].starts_with("<math") && lines[2].ends_with("</math>"), "{page}");
        assert!(lines[4].starts_with("two <math") && lines[4].ends_with("three `$$c$$`"), "{page}");
        assert_eq!(with_mathml("\n$$\\frac{a}$$\n").unwrap_err().line, 2);
    }

    #[test]
    fn a_formula_is_mathml_on_one_line() {
        let line = mathml("\n\\frac{a}{b}\n\\le \\eta").unwrap();
        assert!(line.starts_with("<math") && line.ends_with("</math>"), "{line}");
        assert!(line.contains("<mfrac>") && line.contains('η') && !line.contains('\n'), "{line}");
    }

    #[test]
    fn limits_and_spaces_are_shown_as_such() {
        let line = mathml("a,\\ \\sup_{b} c").unwrap();
        assert!(line.contains("<munder><mi>sup</mi>"), "{line}");
        assert!(line.contains('\u{a0}') && !line.contains("nbsp"), "{line}");
    }
}
