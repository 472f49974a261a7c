//! Pages as mdBook gets them: other pages taken in, formulas as MathML, which needs no script.

use std::ops::Range;

use pulldown_latex::config::DisplayMode;
use pulldown_latex::{Parser, RenderConfig, Storage, push_mathml};

use crate::check::{Book, in_folder, is_elsewhere};
use crate::page::{Link, Page, included, join};

impl Book {
    /// The text of a page of the folder `docs` for mdBook; none for a page beside it.
    ///
    /// Where the page takes in another one, that one's text stands, with its links turned so that
    /// they lead to the same places from here. Formulas are MathML; one that cannot be read, which
    /// [`Book::problems`] reports, is left as it is.
    pub fn source(&self, page: &Page) -> Option<String> {
        in_folder(&page.path)?;
        let mut source = String::new();
        for line in formulas(page, Vec::new()).split_inclusive('\n') {
            let target = included(line).and_then(|target| join(page.folder(), target));
            match target.and_then(|target| self.page(&target)) {
                Some(other) => source += &self.taken_in(other, page),
                None => source += line,
            }
        }
        Some(source)
    }

    /// The text of a page with its links as they must be on another.
    fn taken_in(&self, page: &Page, on: &Page) -> String {
        let turned =
            |link: &Link| Some((link.range.clone()?, self.turned(page, &link.target, on)?));
        formulas(page, page.links.iter().filter_map(turned).collect())
    }

    /// The target of a link of a page as it must be written on another; none if it stays the same.
    fn turned(&self, page: &Page, target: &str, on: &Page) -> Option<String> {
        if is_elsewhere(target) || target.starts_with('#') {
            return None;
        }
        let (path, anchor) = target.split_at(target.find('#').unwrap_or(target.len()));
        let path = join(page.folder(), path)?;
        // A page that is taken in itself is where that happens.
        let path = self.including(&path).map_or(path, |including| including.path.clone());
        let up = "../".repeat(on.folder().split('/').count() - 1);
        Some(format!("{up}{}{anchor}", in_folder(&path)?))
    }
}

/// The text of a page with its formulas as MathML, after some edits.
fn formulas(page: &Page, mut edits: Vec<(Range<usize>, String)>) -> String {
    edits.extend(
        page.formulas
            .iter()
            .filter_map(|formula| Some((formula.range.clone(), mathml(&formula.latex).ok()?))),
    );
    edits.sort_by_key(|(range, _)| range.start);
    let mut text = page.text.clone();
    for (range, by) in edits.iter().rev() {
        text.replace_range(range.clone(), by);
    }
    text
}

/// A displayed formula as MathML on one line.
///
/// # Errors
/// Why the LaTeX cannot be read, on one line.
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

/// Mends what the converter gets wrong: it writes a space, `\ `, as the name of an entity, which is then
/// shown as it stands, and it puts the space before an operator such as `\sup` into the element that
/// sets its limits, which then has a child too many.
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
    use std::fs;

    use super::mathml;
    use crate::Book;

    #[test]
    fn a_page_taken_in_keeps_its_links() {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in [
            ("docs/guide/compare.md", "{{#include ../../COMPARE.md}}\n"),
            ("docs/one.md", "# One\n\n$$a$$\n"),
            (
                "COMPARE.md",
                "# Beside\n\n[a](docs/one.md#one) [b](#beside) [c](COMPARE.md)\n\
                 [![d](docs/e.svg)](docs/guide/compare.md) [f](https://example.com/docs/one.md)\n",
            ),
            (".ci/run", ""),
        ] {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let book = Book::read(root.path()).unwrap();
        let source = |path: &str| book.source(book.page(path).unwrap());
        assert_eq!(
            source("docs/guide/compare.md").unwrap(),
            "# Beside\n\n[a](../one.md#one) [b](#beside) [c](../guide/compare.md)\n\
             [![d](../e.svg)](../guide/compare.md) [f](https://example.com/docs/one.md)\n"
        );
        assert!(source("docs/one.md").unwrap().starts_with("# One\n\n<math"));
        assert_eq!(source("COMPARE.md"), None);
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
