//! The pages of the book, and the parts of them that are tested.

use std::fs;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

use pulldown_cmark::{CodeBlockKind, Event, Options, Parser, Tag};

/// Pages outside of the folder `docs`.
const BESIDE: [&str; 3] = ["README.md", "CHANGELOG.md", "COMPARE.md"];

/// A file or folder of the book that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("{}: {source}", path.display())]
pub struct BookError {
    /// The file or folder.
    pub path: PathBuf,
    /// The error of the operating system.
    pub source: io::Error,
}

/// A mistake on a page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The line, counted from 1.
    pub line: usize,
    /// The mistake, in words.
    pub reason: String,
}

/// A part of a page that is tested.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// A block of code.
    Block {
        /// The word after the fence; `text` for an indented block.
        language: String,
        /// The code, without the fences.
        text: String,
    },
    /// Code within the text.
    Code(String),
    /// A displayed formula in LaTeX, without the dollar signs.
    Formula(String),
    /// Text that underscores make italic or bold.
    Underscores,
}

/// A piece and its place on the page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placed {
    /// The piece.
    pub piece: Piece,
    /// Its first line, counted from 1.
    pub line: usize,
    /// Its bytes, with fences or dollar signs.
    pub range: Range<usize>,
}

/// Every page of the workspace at `root`: its path relative to `root`, and its text.
///
/// # Errors
/// [`BookError`] if a file or folder cannot be read.
pub fn pages(root: &Path) -> Result<Vec<(String, String)>, BookError> {
    let mut paths = files(root, "docs")?;
    paths.retain(|path| Path::new(path).extension().is_some_and(|end| end == "md"));
    paths.extend(BESIDE.iter().filter(|path| root.join(path).exists()).map(ToString::to_string));
    let page = |path: String| match fs::read_to_string(root.join(&path)) {
        Ok(text) => Ok((path, text)),
        Err(source) => Err(BookError { path: root.join(path), source }),
    };
    paths.into_iter().map(page).collect()
}

/// The paths, relative to `root`, of all files below a folder of it, in order.
///
/// # Errors
/// [`BookError`] if a folder cannot be read.
pub fn files(root: &Path, folder: &str) -> Result<Vec<String>, BookError> {
    let at = root.join(folder);
    let entries = fs::read_dir(&at).and_then(Iterator::collect::<io::Result<Vec<_>>>);
    let mut entries = entries.map_err(|source| BookError { path: at, source })?;
    entries.sort_by_key(fs::DirEntry::file_name);
    let mut paths = Vec::new();
    for entry in entries {
        let path = format!("{folder}/{}", entry.file_name().to_string_lossy());
        if entry.path().is_dir() {
            paths.extend(files(root, &path)?);
        } else {
            paths.push(path);
        }
    }
    Ok(paths)
}

/// The pieces of a page, in order.
pub fn pieces(page: &str) -> Vec<Placed> {
    let mut pieces: Vec<Placed> = Vec::new();
    for (event, range) in Parser::new_ext(page, Options::ENABLE_MATH).into_offset_iter() {
        let piece = match event {
            Event::Start(Tag::CodeBlock(kind)) => {
                let language = match kind {
                    CodeBlockKind::Fenced(info) => info.into_string(),
                    CodeBlockKind::Indented => "text".to_owned(),
                };
                Piece::Block { language, text: String::new() }
            }
            Event::Text(more) => {
                // The code of a block follows its start, in one or several events.
                if let Some(Placed { piece: Piece::Block { text, .. }, range: block, .. }) =
                    pieces.last_mut()
                    && block.contains(&range.start)
                {
                    text.push_str(&more);
                }
                continue;
            }
            Event::Code(code) => Piece::Code(code.into_string()),
            Event::DisplayMath(latex) => Piece::Formula(latex.into_string()),
            Event::Start(Tag::Emphasis | Tag::Strong) if page[range.start..].starts_with('_') => {
                Piece::Underscores
            }
            _ => continue,
        };
        let line = 1 + page[..range.start].matches('\n').count();
        pieces.push(Placed { piece, line, range });
    }
    pieces
}

#[cfg(test)]
mod tests {
    use super::{Piece, pieces};

    #[test]
    fn blocks_keep_their_language_their_text_and_their_line() {
        let page = "a\n\n```console\n$ b\nc\n```\n\n~~~\n~~~\n\n    d\n";
        let block = |language: &str, text: &str| Piece::Block {
            language: language.to_owned(),
            text: text.to_owned(),
        };
        let found: Vec<_> =
            pieces(page).into_iter().map(|placed| (placed.piece, placed.line)).collect();
        assert_eq!(
            found,
            [(block("console", "$ b\nc\n"), 3), (block("", ""), 8), (block("text", "d\n"), 11)]
        );
    }

    #[test]
    fn only_displayed_formulas_are_formulas() {
        let page = "$ 5 and $ 6\n\n$$\na_b\n$$\n";
        let [formula] = pieces(page).try_into().unwrap();
        assert_eq!((formula.piece, formula.line), (Piece::Formula("\na_b\n".to_owned()), 3));
        assert_eq!(&page[formula.range], "$$\na_b\n$$");
    }

    #[test]
    fn italics_made_by_underscores_are_found() {
        let page = "*a* b_c_d\n\n‖β‖_∞ ≤ ‖γ‖_∞ ‖G‖\\_F `_e_`\n";
        let found = pieces(page);
        let lines: Vec<usize> = found
            .iter()
            .filter(|placed| placed.piece == Piece::Underscores)
            .map(|placed| placed.line)
            .collect();
        assert_eq!(lines, [3]);
    }
}
