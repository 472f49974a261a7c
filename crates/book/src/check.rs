//! Reading the book, and what is wrong with it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::commands::{BadBlock, Command, Route, commands};
use crate::page::{Block, Link, Page, included, join};

/// The table of contents.
pub(crate) const SUMMARY: &str = "docs/SUMMARY.md";

/// The folder of the pages.
pub(crate) const FOLDER: &str = "docs";

/// Pages beside the folder, where they exist.
const BESIDE: [&str; 3] = ["README.md", "CHANGELOG.md", "COMPARE.md"];

/// The languages that a block of code may name, if it names one. The first three hold commands, `rust`
/// is tested with the documentation; the others are shown.
const LANGUAGES: [&str; 12] = [
    "console",
    "sh",
    "transcript",
    "rust",
    "text",
    "json",
    "toml",
    "yaml",
    "python",
    "csv",
    "latex",
    "bibtex",
];

/// The book: every page, and which other files there are to link to.
#[derive(Debug, Clone)]
pub struct Book {
    root: PathBuf,
    pages: BTreeMap<String, Page>,
    attachments: Vec<String>,
    ci: String,
}

/// Why the book cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BookError {
    /// A file or folder cannot be read.
    #[error("{}: {source}", path.display())]
    File {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Something wrong on a page.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// The page, relative to the root of the workspace.
    pub page: String,
    /// The line, from 1.
    pub line: usize,
    /// What is wrong.
    pub reason: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}: {}", self.page, self.line, self.reason)
    }
}

impl Book {
    /// Reads every page of `docs` and those beside it in the workspace at `root`.
    ///
    /// # Errors
    /// [`BookError::File`] with what cannot be read.
    pub fn read(root: &Path) -> Result<Self, BookError> {
        let mut paths = Vec::new();
        files(root, FOLDER, &mut paths)?;
        let (mut paths, attachments): (Vec<_>, Vec<_>) = paths
            .into_iter()
            .partition(|path| Path::new(path).extension().is_some_and(|end| end == "md"));
        paths
            .extend(BESIDE.iter().filter(|path| root.join(path).exists()).map(ToString::to_string));
        let mut pages = BTreeMap::new();
        for path in paths {
            let text = read(&root.join(&path))?;
            pages.insert(path.clone(), Page::new(path, text));
        }
        let ci = read(&root.join(".ci/run"))?;
        Ok(Self { root: root.to_owned(), pages, attachments, ci })
    }

    /// Every page by its path: those of the folder `docs` and those beside it.
    pub fn pages(&self) -> impl Iterator<Item = &Page> {
        self.pages.values()
    }

    /// Every other file of the folder `docs`, relative to the root of the workspace: figures, examples.
    pub fn attachments(&self) -> &[String] {
        &self.attachments
    }

    /// The page at a path.
    pub fn page(&self, path: &str) -> Option<&Page> {
        self.pages.get(path)
    }

    /// What is wrong, in the order of pages and lines.
    pub fn problems(&self) -> Vec<Problem> {
        let mut problems = self.contents();
        for page in self.pages.values() {
            problems.extend(page.links.iter().filter_map(|link| self.link(page, link)));
            problems.extend(page.text.lines().enumerate().filter_map(|(at, line)| {
                let target = join(page.folder(), included(line)?).unwrap_or_default();
                let is_missing = !self.pages.contains_key(&target);
                is_missing.then(|| problem(page, at + 1, format!("no page {target} to include")))
            }));
            problems.extend(page.blocks.iter().filter_map(|block| code(page, block)));
            problems.extend(page.underscored.iter().map(|line| {
                let reason = r"`_` makes text italic: write `\_`, or `*` where that is meant";
                problem(page, *line, reason.to_owned())
            }));
            problems.extend(commands(page).into_iter().filter_map(|command| match command {
                Err(BadBlock { reason, line }) => Some(problem(page, line, reason)),
                Ok(command) if self.route(&command).is_some() => None,
                Ok(command) => {
                    let reason = format!("no test knows what to do with `{command}`");
                    Some(problem(page, command.line, reason))
                }
            }));
            problems.extend(page.formulas.iter().filter_map(|formula| {
                let reason = crate::source::mathml(&formula.latex).err()?;
                Some(problem(page, formula.line, reason))
            }));
        }
        problems.sort();
        problems
    }

    /// How a command of this book is tested, if it is.
    pub fn route(&self, command: &Command) -> Option<Route> {
        command.route(&self.ci, |path| self.exists(path))
    }

    /// Whether a path of the workspace exists.
    fn exists(&self, path: &str) -> bool {
        self.root.join(path).exists()
    }

    /// The table of contents names every page of the folder once.
    fn contents(&self) -> Vec<Problem> {
        let Some(summary) = self.pages.get(SUMMARY) else {
            let reason = "no table of contents".to_owned();
            return vec![Problem { page: SUMMARY.to_owned(), line: 1, reason }];
        };
        let mut problems = Vec::new();
        let mut named = BTreeSet::from([SUMMARY.to_owned()]);
        for link in &summary.links {
            let target = join(summary.folder(), &link.target).unwrap_or_default();
            if !named.insert(target) {
                problems.push(problem(summary, link.line, format!("{} again", link.target)));
            }
        }
        let is_of_folder = |path: &&String| in_folder(path).is_some() && !named.contains(*path);
        problems.extend(self.pages.keys().filter(is_of_folder).map(|path| {
            let reason = format!("not in the table of contents, {SUMMARY}");
            Problem { page: path.clone(), line: 1, reason }
        }));
        problems
    }

    /// A link on a page must lead somewhere: on a forge, and if the page is in the book, there too.
    fn link(&self, page: &Page, link: &Link) -> Option<Problem> {
        let target = link.target.as_str();
        if is_elsewhere(target) {
            return None;
        }
        let wrong = |reason: String| Some(problem(page, link.line, format!("{target}: {reason}")));
        let (path, anchor) = target.split_once('#').unwrap_or((target, ""));
        let Some(path) = (match path {
            "" => Some(page.path.clone()),
            path => join(page.folder(), path),
        }) else {
            return wrong("leaves the repository".to_owned());
        };
        if !self.exists(&path) {
            return wrong("does not exist".to_owned());
        }
        if self.is_in_book(&page.path) && !self.is_in_book(&path) {
            return wrong("is not in the book".to_owned());
        }
        let anchors = self.pages.get(&path).map(|page| &page.anchors);
        if !anchor.is_empty() && anchors.is_some_and(|anchors| !anchors.contains(anchor)) {
            return wrong("no such heading".to_owned());
        }
        None
    }

    /// Whether a file is in the book: in the folder, or taken in by a page of it.
    fn is_in_book(&self, path: &str) -> bool {
        in_folder(path).is_some() || self.including(path).is_some()
    }

    /// The page of the folder that takes a page in.
    pub(crate) fn including(&self, path: &str) -> Option<&Page> {
        let mut pages = self.pages.values().filter(|page| in_folder(&page.path).is_some());
        pages.find(|page| page.includes().iter().any(|included| included == path))
    }
}

/// The path of a file of the book's folder relative to it; none for any other file.
pub(crate) fn in_folder(path: &str) -> Option<&str> {
    path.strip_prefix(FOLDER)?.strip_prefix('/')
}

/// Whether a target is not a path.
pub(crate) fn is_elsewhere(target: &str) -> bool {
    ["https://", "http://", "mailto:"].iter().any(|scheme| target.starts_with(scheme))
}

/// What is wrong with the language of a block.
fn code(page: &Page, block: &Block) -> Option<Problem> {
    let language = block.language.as_str();
    let reason = if !language.is_empty() && !LANGUAGES.contains(&language) {
        format!("a block is tagged `{language}`, none of {}", LANGUAGES.join(", "))
    } else if language == "rust" && !crate::RUST_EXAMPLES.contains(&page.path.as_str()) {
        "the Rust examples of this page are not tested: name it in crates/book/src/lib.rs"
            .to_owned()
    } else if !matches!(language, "console" | "sh" | "transcript")
        && block.text.lines().any(is_command)
    {
        "looks like a command: tag the block `console` or `sh`".to_owned()
    } else {
        return None;
    };
    Some(problem(page, block.line, reason))
}

fn is_command(line: &str) -> bool {
    ["$ ", "cargo ", "flatmin "].iter().any(|start| line.starts_with(start))
}

fn problem(page: &Page, line: usize, reason: String) -> Problem {
    Problem { page: page.path.clone(), line, reason }
}

fn read(path: &Path) -> Result<String, BookError> {
    fs::read_to_string(path).map_err(|source| BookError::File { path: path.to_owned(), source })
}

/// Every file below a folder of the workspace, in order, relative to its root.
pub(crate) fn files(root: &Path, folder: &str, paths: &mut Vec<String>) -> Result<(), BookError> {
    let at = root.join(folder);
    let wrong = |source| BookError::File { path: at.clone(), source };
    let entries = fs::read_dir(&at).and_then(Iterator::collect::<io::Result<Vec<_>>>);
    let mut entries = entries.map_err(wrong)?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let path = format!("{folder}/{}", entry.file_name().to_string_lossy());
        if entry.file_type().map_err(wrong)?.is_dir() {
            files(root, &path, paths)?;
        } else {
            paths.push(path);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::Book;

    /// The problems of a workspace of these files.
    fn problems(files: &[(&str, &str)]) -> Vec<String> {
        let root = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write("docs/SUMMARY.md", "[One](one.md)\n");
        write("docs/one.md", "# One\n");
        write(".ci/run", "run cargo test\n");
        for (path, text) in files {
            write(path, text);
        }
        Book::read(root.path()).unwrap().problems().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn every_page_is_in_the_table_of_contents_once() {
        assert_eq!(problems(&[]), [""; 0]);
        assert_eq!(
            problems(&[
                ("docs/SUMMARY.md", "[One](one.md)\n[Again](./one.md)\n[Three](three.md)\n"),
                ("docs/guide/two.md", "# Two\n"),
            ]),
            [
                "docs/SUMMARY.md:2: ./one.md again",
                "docs/SUMMARY.md:3: three.md: does not exist",
                "docs/guide/two.md:1: not in the table of contents, docs/SUMMARY.md",
            ]
        );
    }

    #[test]
    fn links_lead_somewhere_on_a_forge_and_in_the_book() {
        let one = "# One\n\n[a](#one) [b](#two)\n[c](no.md)\n![d](no.svg)\n[e](../README.md)\n\
                   [f](https://example.com/no.md)\n[g](../../no.md)\n";
        assert_eq!(
            problems(&[
                ("docs/one.md", one),
                ("README.md", "[h](docs/one.md#one)\n[i](docs/one.md#three)\n[j](.ci/run)\n"),
            ]),
            [
                "README.md:2: docs/one.md#three: no such heading",
                "docs/one.md:3: #two: no such heading",
                "docs/one.md:4: no.md: does not exist",
                "docs/one.md:5: no.svg: does not exist",
                "docs/one.md:6: ../README.md: is not in the book",
                "docs/one.md:8: ../../no.md: leaves the repository",
            ]
        );
    }

    #[test]
    fn a_page_taken_in_is_in_the_book() {
        let files = [
            ("docs/one.md", "{{#include ../COMPARE.md}}\n"),
            ("COMPARE.md", "# Beside\n\n[a](docs/one.md) [b](.ci/run)\n"),
        ];
        assert_eq!(problems(&files), ["COMPARE.md:3: .ci/run: is not in the book"]);
        assert_eq!(
            problems(&[("docs/one.md", "\n{{#include ../COMPARE.md}}\n")]),
            ["docs/one.md:2: no page COMPARE.md to include"]
        );
    }

    #[test]
    fn no_untested_code_slips_in() {
        let one = "```rust\n```\n\n```bash\nrm a\n```\n\n```\ncargo a\n```\n\n```text\n$ cargo a\n```\n\n\
                   ```sh\nrm a\ncargo test\n```\n\n```console\n$ cargo test\n```\n\n$$\n\\frac{a}\n$$\n";
        assert_eq!(
            problems(&[("docs/one.md", one)]),
            [
                "docs/one.md:1: the Rust examples of this page are not tested: name it in \
                 crates/book/src/lib.rs",
                "docs/one.md:4: a block is tagged `bash`, none of console, sh, transcript, rust, \
                 text, json, toml, yaml, python, csv, latex, bibtex",
                "docs/one.md:8: looks like a command: tag the block `console` or `sh`",
                "docs/one.md:12: looks like a command: tag the block `console` or `sh`",
                "docs/one.md:17: no test knows what to do with `rm a`",
                "docs/one.md:22: no test knows what to do with `cargo test`",
                "docs/one.md:25: the formula cannot be read: parsing error: expected a token",
            ]
        );
    }

    #[test]
    fn this_book_is_right() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let problems = Book::read(&root).unwrap().problems();
        let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
        assert!(lines.is_empty(), "{}", lines.join("\n"));
    }
}
