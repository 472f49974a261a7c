//! One page: its links, anchors, blocks of code and formulas, with the lines they are on.

use std::collections::BTreeSet;
use std::ops::Range;

use pulldown_cmark::{CodeBlockKind, Event, LinkType, Options, Parser, Tag, TagEnd};

/// A page of Markdown.
#[derive(Debug, Clone)]
pub struct Page {
    /// Its path relative to the root of the workspace, with `/` between the parts.
    pub path: String,
    /// Its text.
    pub text: String,
    /// Its links and images, in order.
    pub links: Vec<Link>,
    /// What a link can point at on it: the ids of its headings.
    pub anchors: BTreeSet<String>,
    /// Its blocks of code, in order.
    pub blocks: Vec<Block>,
    /// Its displayed formulas, in order.
    pub formulas: Vec<Formula>,
    /// Code within its text, in order, each with its line, from 1.
    pub words: Vec<(String, usize)>,
    /// The lines, from 1, where underscores make text italic.
    pub underscored: Vec<usize>,
}

/// A link or an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// What it points at, as written.
    pub target: String,
    /// Where the target stands in the text of the page; none if it is not written out there.
    pub range: Option<Range<usize>>,
    /// Its line, from 1.
    pub line: usize,
}

/// A block of code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    /// The word after the fence; empty for none, and for an indented block.
    pub language: String,
    /// What it says, without fences.
    pub text: String,
    /// Where that stands in the text of the page.
    pub range: Range<usize>,
    /// The line of the fence, from 1.
    pub line: usize,
}

/// A displayed formula.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Formula {
    /// Between the dollar signs, in LaTeX.
    pub latex: String,
    /// Where it stands in the text of the page, dollar signs included.
    pub range: Range<usize>,
    /// Its line, from 1.
    pub line: usize,
}

impl Page {
    /// Takes a page apart.
    pub fn new(path: String, text: String) -> Self {
        let (mut links, mut blocks, mut formulas) = (Vec::new(), Vec::new(), Vec::new());
        let (mut words, mut underscored) = (Vec::new(), Vec::new());
        let mut headings = Headings::default();
        // The block that is being read.
        let mut open: Option<Block> = None;
        for (event, range) in Parser::new_ext(&text, OPTIONS).into_offset_iter() {
            let line = line_of(&text, range.start);
            match event {
                Event::Start(
                    Tag::Link { link_type, dest_url, .. } | Tag::Image { link_type, dest_url, .. },
                ) => {
                    let target = dest_url.into_string();
                    let is_inline = link_type == LinkType::Inline;
                    let at = text[range.clone()].rfind(&target).filter(|_| is_inline);
                    let range = at.map(|at| range.start + at..range.start + at + target.len());
                    links.push(Link { target, range, line });
                }
                Event::Start(Tag::CodeBlock(kind)) => {
                    let language = match kind {
                        CodeBlockKind::Fenced(info) => info.into_string(),
                        CodeBlockKind::Indented => String::new(),
                    };
                    let range = range.start..range.start;
                    open = Some(Block { language, text: String::new(), range, line });
                }
                Event::End(TagEnd::CodeBlock) => blocks.extend(open.take()),
                Event::Start(Tag::Emphasis | Tag::Strong)
                    if text[range.start..].starts_with('_') =>
                {
                    underscored.push(line);
                }
                Event::DisplayMath(latex) => {
                    formulas.push(Formula { latex: latex.into_string(), range, line });
                }
                Event::Start(Tag::Heading { .. }) => headings.begin(),
                Event::End(TagEnd::Heading(_)) => headings.end(),
                Event::SoftBreak | Event::HardBreak => headings.text(" "),
                Event::Code(code) => {
                    headings.text(&code);
                    words.push((code.into_string(), line));
                }
                Event::Text(piece) | Event::InlineMath(piece) => {
                    if let Some(block) = &mut open {
                        // A block comes in several pieces; the first says where it begins.
                        let is_first = block.text.is_empty();
                        let start = if is_first { range.start } else { block.range.start };
                        block.range = start..range.end;
                        block.text += &piece;
                    } else {
                        headings.text(&piece);
                    }
                }
                _ => {}
            }
        }
        let anchors = headings.ids;
        Self { path, text, links, anchors, blocks, formulas, words, underscored }
    }

    /// The folder of the page, relative to the root of the workspace; empty for the root.
    pub fn folder(&self) -> &str {
        self.path.rsplit_once('/').map_or("", |(folder, _)| folder)
    }

    /// The pages that it takes in as a whole, relative to the root: lines such as
    /// `{{#include ../COMPARE.md}}`.
    pub fn includes(&self) -> Vec<String> {
        let targets = self.text.lines().filter_map(included);
        targets.filter_map(|target| join(self.folder(), target)).collect()
    }
}

const OPTIONS: Options = Options::ENABLE_TABLES
    .union(Options::ENABLE_FOOTNOTES)
    .union(Options::ENABLE_STRIKETHROUGH)
    .union(Options::ENABLE_TASKLISTS)
    .union(Options::ENABLE_MATH);

/// The target of a line that includes a page.
pub(crate) fn included(line: &str) -> Option<&str> {
    line.trim().strip_prefix("{{#include ")?.strip_suffix("}}").map(str::trim)
}

/// The path that `target` names in `folder`, without `.` and `..`; none if it leaves the root.
pub(crate) fn join(folder: &str, target: &str) -> Option<String> {
    let mut parts: Vec<&str> = Vec::new();
    for part in folder.split('/').chain(target.split('/')) {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

fn line_of(text: &str, offset: usize) -> usize {
    1 + text[..offset].matches('\n').count()
}

/// Gives headings their ids as they are read.
#[derive(Debug, Default)]
struct Headings {
    ids: BTreeSet<String>,
    open: Option<String>,
}

impl Headings {
    fn begin(&mut self) {
        self.open = Some(String::new());
    }

    fn text(&mut self, text: &str) {
        if let Some(open) = &mut self.open {
            open.push_str(text);
        }
    }

    fn end(&mut self) {
        let id = id(&self.open.take().unwrap_or_default());
        let numbered = (1..).map(|number| format!("{id}-{number}"));
        let mut candidates = std::iter::once(id.clone()).chain(numbered);
        let free = candidates.find(|candidate| !self.ids.contains(candidate));
        self.ids.extend(free);
    }
}

/// The id of a heading, the same on a forge and in mdBook.
fn id(heading: &str) -> String {
    let character = |character: char| match character {
        '_' | '-' => Some(character),
        _ if character.is_alphanumeric() => Some(character),
        _ if character.is_whitespace() => Some('-'),
        _ => None,
    };
    heading.trim().to_lowercase().chars().filter_map(character).collect()
}

#[cfg(test)]
mod tests {
    use super::{Block, Formula, Link, Page, join};

    fn page(text: &str) -> Page {
        Page::new("docs/guide/page.md".to_owned(), text.to_owned())
    }

    #[test]
    fn links_and_images_are_found_with_their_lines_and_places() {
        let page = page("One [a](b.md#c)\nand ![d](e.svg).\n\n[f][g] `[h](i)`\n\n[g]: j.md\n");
        let targets = |link: &Link| (link.target.clone(), link.line);
        assert_eq!(
            page.links.iter().map(targets).collect::<Vec<_>>(),
            [("b.md#c".to_owned(), 1), ("e.svg".to_owned(), 2), ("j.md".to_owned(), 4)]
        );
        assert_eq!(&page.text[page.links[1].range.clone().unwrap()], "e.svg");
        assert_eq!(page.links[2].range, None);
    }

    #[test]
    fn headings_have_the_ids_of_a_forge() {
        let page = page("# Two *words*: `code`, η*\n\n## Two\n\n## Two\n\n### p ≫ n\n");
        let ids: Vec<&str> = page.anchors.iter().map(String::as_str).collect();
        assert_eq!(ids, ["p--n", "two", "two-1", "two-words-code-η"]);
    }

    #[test]
    fn blocks_keep_their_language_their_text_and_their_place() {
        let page = page("a\n\n```console\n$ b\nc\n```\n\n~~~\n~~~\n\n    d\n");
        let [first, empty, indented]: &[Block; 3] = page.blocks.as_slice().try_into().unwrap();
        assert_eq!(
            (first.language.as_str(), first.text.as_str(), first.line),
            ("console", "$ b\nc\n", 3)
        );
        assert_eq!(&page.text[first.range.clone()], "$ b\nc\n");
        assert_eq!((empty.language.as_str(), empty.text.as_str(), empty.line), ("", "", 8));
        assert_eq!((indented.text.as_str(), indented.line), ("d\n", 11));
    }

    #[test]
    fn only_displayed_formulas_are_formulas() {
        let page = page("$ 5 and $ 6\n\n$$\na_b\n$$\n");
        let [Formula { latex, range, line }] = page.formulas.as_slice() else { panic!() };
        assert_eq!((latex.as_str(), *line), ("\na_b\n", 3));
        assert_eq!(&page.text[range.clone()], "$$\na_b\n$$");
    }

    #[test]
    fn italics_made_by_underscores_are_found() {
        assert_eq!(page("*a* b_c_d\n\n‖β‖_∞ ≤ ‖γ‖_∞ ‖G‖\\_F `_e_`\n").underscored, [3]);
    }

    #[test]
    fn a_path_never_leaves_the_root() {
        assert_eq!(join("docs/guide", "../a.md").as_deref(), Some("docs/a.md"));
        assert_eq!(join("", "./docs//a.md").as_deref(), Some("docs/a.md"));
        assert_eq!(join("docs", "../../a.md"), None);
    }
}
