//! The mistakes in the book that the other tools do not look for.

use std::fs;
use std::path::Path;

use crate::RUST_EXAMPLES;
use crate::commands::{Shown, session, shown};
use crate::formulas::mathml;
use crate::pages::{BookError, Piece, Placed, Problem, pages, pieces};

/// The languages of code blocks. The first four are tested; the others are only shown.
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

/// The mistakes in the book of the workspace at `root`, as lines `page:line: reason`.
///
/// # Errors
/// [`BookError`] if a page or `.ci/run` cannot be read.
pub fn problems(root: &Path) -> Result<Vec<String>, BookError> {
    let pages = pages(root)?;
    let ci = root.join(".ci/run");
    let ci = fs::read_to_string(&ci).map_err(|source| BookError { path: ci, source })?;
    let summary = pages.iter().find(|(path, _)| path == "docs/SUMMARY.md");
    let mut lines = Vec::new();
    for (path, text) in &pages {
        let mut problems: Vec<Problem> =
            pieces(text).into_iter().filter_map(|placed| of_piece(path, placed)).collect();
        problems.extend(shown(text).into_iter().filter_map(|command| match command {
            Ok(command) if is_tested(&command, &ci, root) => None,
            Ok(Shown { words, line }) => {
                Some(Problem { line, reason: format!("no test covers `{}`", words.join(" ")) })
            }
            Err(problem) => Some(problem),
        }));
        if let (Some(name), Some((_, summary))) = (path.strip_prefix("docs/"), summary)
            && name != "SUMMARY.md"
            && summary.matches(&format!("]({name})")).count() != 1
        {
            let reason = "docs/SUMMARY.md must name this page once".to_owned();
            problems.push(Problem { line: 1, reason });
        }
        problems.sort_by_key(|problem| problem.line);
        lines.extend(
            problems.iter().map(|found| format!("{path}:{}: {}", found.line, found.reason)),
        );
    }
    Ok(lines)
}

/// The mistake in a piece of the page at a path.
fn of_piece(path: &str, Placed { piece, line, .. }: Placed) -> Option<Problem> {
    let reason = match piece {
        Piece::Block { language, .. } if !LANGUAGES.contains(&language.as_str()) => {
            format!("a block is tagged `{language}`, not one of {}", LANGUAGES.join(", "))
        }
        Piece::Block { language, .. } if language == "rust" && !RUST_EXAMPLES.contains(&path) => {
            "the Rust examples of this page are not tested: list it in crates/book/src/lib.rs"
                .to_owned()
        }
        Piece::Block { language, text } if language == "console" => {
            // trycmd skips programs that it does not know.
            let is_known =
                |command: &Result<Shown, Problem>| command.as_ref().is_ok_and(Shown::is_ours);
            let commands = session(&text, line);
            if !commands.is_empty() && commands.iter().all(is_known) {
                return None;
            }
            "a session runs commands of `flatmin` and `cargo xtask`, without a shell".to_owned()
        }
        Piece::Block { language, text }
            if !matches!(language.as_str(), "sh" | "transcript")
                && text.lines().any(is_command) =>
        {
            "looks like a command: tag the block `console` or `sh`".to_owned()
        }
        Piece::Formula(latex) => mathml(&latex).err()?,
        Piece::Underscores => {
            r"`_` makes text italic: write `\_`, or `*` where italics are meant".to_owned()
        }
        _ => return None,
    };
    Some(Problem { line, reason })
}

fn is_command(line: &str) -> bool {
    ["$ ", "cargo ", "flatmin "].iter().any(|start| line.starts_with(start))
}

/// True if a test covers the command: it is a step of `.ci/run`, word by word, or a call of
/// `flatmin` or `cargo xtask`, whose arguments `try_commands` parses, or it names a package or
/// script that exists.
fn is_tested(command: &Shown, ci: &str, root: &Path) -> bool {
    let words: Vec<&str> = command.words.iter().map(String::as_str).collect();
    let is_step = |line: &str| line.split_whitespace().eq(["run"].into_iter().chain(words.clone()));
    // `NAME=value` before a command.
    let is_setting = |word: &&&str| word.contains('=') && !word.starts_with('-');
    command.is_ours()
        || ci.lines().any(is_step)
        || match &words[words.iter().take_while(is_setting).count()..] {
            ["cargo", "install", "--locked", "--path", folder] => {
                root.join(folder).join("src/main.rs").exists()
            }
            ["cargo", "build", "--release", "-p", "flatmin"] => {
                root.join("crates/cli/src/main.rs").exists()
            }
            ["python" | "python3", script, ..] => root.join(script).exists(),
            [script, ..] => script.starts_with("scripts/") && root.join(script).exists(),
            [] => false,
        }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::problems;

    /// The problems in a workspace that consists of these files.
    fn of(files: &[(&str, &str)]) -> Vec<String> {
        let root = tempfile::tempdir().unwrap();
        let usual = [
            ("docs/SUMMARY.md", "[One](one.md)\n"),
            ("docs/one.md", "# One\n"),
            (".ci/run", "run cargo test --workspace\n"),
            ("crates/cli/src/main.rs", ""),
            ("docs/a.py", ""),
            ("scripts/a.sh", ""),
        ];
        for (path, text) in usual.iter().chain(files) {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        problems(root.path()).unwrap()
    }

    #[test]
    fn every_page_is_in_the_table_of_contents_once() {
        assert_eq!(of(&[]), [""; 0]);
        let reason = "docs/SUMMARY.md must name this page once";
        assert_eq!(
            of(&[
                ("docs/SUMMARY.md", "[One](one.md)\n[Again](one.md)\n"),
                ("docs/guide/two.md", "# Two\n"),
            ]),
            [format!("docs/guide/two.md:1: {reason}"), format!("docs/one.md:1: {reason}")]
        );
    }

    #[test]
    fn no_untested_code_slips_in() {
        let one = "```rust\n```\n\n```bash\nrm a\n```\n\n```text\ncargo a\n```\n\n```text\n$ cargo a\n```\n\n\
                   ```sh\nrm a\ncargo test\n```\n\n```console\n$ cargo test\n```\n\n$$\n\\frac{a}\n$$\n\n\
                   ```\n```\n\n```console\nflatmin a\n```\n\n‖a‖_∞ ≤ ‖b‖_∞ ‖c‖\n\n```sh\nflatmin | a\n```\n";
        let languages =
            "console, sh, transcript, rust, text, json, toml, yaml, python, csv, latex, bibtex";
        let sessions = "a session runs commands of `flatmin` and `cargo xtask`, without a shell";
        assert_eq!(
            of(&[("docs/one.md", one)]),
            [
                "docs/one.md:1: the Rust examples of this page are not tested: list it in \
                 crates/book/src/lib.rs",
                &format!("docs/one.md:4: a block is tagged `bash`, not one of {languages}"),
                "docs/one.md:8: looks like a command: tag the block `console` or `sh`",
                "docs/one.md:12: looks like a command: tag the block `console` or `sh`",
                "docs/one.md:17: no test covers `rm a`",
                "docs/one.md:18: no test covers `cargo test`",
                &format!("docs/one.md:21: {sessions}"),
                "docs/one.md:25: the formula cannot be read: parsing error: expected a token",
                &format!("docs/one.md:29: a block is tagged ``, not one of {languages}"),
                &format!("docs/one.md:32: {sessions}"),
                r"docs/one.md:36: `_` makes text italic: write `\_`, or `*` where italics are meant",
                "docs/one.md:39: `flatmin | a`: `|` needs a shell, and the tests have none",
            ]
        );
    }

    #[test]
    fn every_command_is_tested_or_refused() {
        for (page, is_tested) in [
            ("```console\n$ flatmin a\n```\n", true),
            ("```console\n$ cargo xtask verify\n```\n", true),
            ("```console\n$ cargo test --workspace\n```\n", false),
            ("```sh\nflatmin a\n```\n", true),
            ("```sh\ncargo xtask verify\n```\n", true),
            ("```sh\ncargo test --workspace\n```\n", true),
            ("```sh\ncargo test\n```\n", false),
            ("```sh\ncargo install --locked --path crates/cli\n```\n", true),
            ("```sh\ncargo build --release -p flatmin\n```\n", true),
            ("```sh\ncargo install --locked --path crates/clo\n```\n", false),
            ("```sh\npython3 docs/a.py --b\n```\n", true),
            ("```sh\nA=b python docs/a.py\n```\n", true),
            ("```sh\npython3 docs/b.py\n```\n", false),
            ("```transcript\n$ python3 docs/a.py\na\n```\n", true),
            ("```transcript\n$ flatmin a\nb\n```\n", true),
            ("```sh\nscripts/a.sh --b\n```\n", true),
            ("```sh\nscripts/b.sh\n```\n", false),
            ("```sh\nrm -rf a\n```\n", false),
        ] {
            assert_eq!(of(&[("docs/one.md", page)]).is_empty(), is_tested, "{page}");
        }
    }

    #[test]
    fn this_book_is_right() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let problems = problems(&root).unwrap();
        assert!(problems.is_empty(), "{}", problems.join("\n"));
    }
}
