//! `cargo xtask docs` as a command, and the commands of this program in the book.

#![expect(clippy::unwrap_used, reason = "a test's helpers fail like the test itself")]

use std::ffi::OsStr;
use std::fs;
use std::path::Path;

use assert_cmd::Command;
use flatmin_book::commands::Program;
use tempfile::TempDir;

#[test]
fn the_commands_of_the_book_do_what_it_says() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let executable = OsStr::new(env!("CARGO_BIN_EXE_xtask"));
    let failures = flatmin_book::run(&root, Program::Xtask, executable);
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// A workspace whose book has one page.
fn workspace(page: &str) -> TempDir {
    let root = tempfile::tempdir().unwrap();
    for (path, text) in [
        ("docs/SUMMARY.md", "# Summary\n\n- [One](one.md)\n"),
        ("docs/one.md", page),
        ("docs/figures/a.svg", "<svg xmlns='http://www.w3.org/2000/svg'/>"),
        ("book.toml", "[book]\ntitle = \"one\"\nsrc = \"docs\"\n"),
        (".ci/run", ""),
    ] {
        let path = root.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    root
}

fn docs(root: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_xtask"));
    command.arg("docs").args(arguments).current_dir(root);
    command
}

#[test]
fn what_is_wrong_with_the_book_is_listed() {
    let root = workspace("# One\n\n![a](figures/a.svg) [b](two.md)\n\n```sh\nrm a\n```\n");
    let listed = "docs/one.md:3: two.md: does not exist\n\
                  docs/one.md:6: no test knows what to do with `rm a`\n";
    docs(root.path(), &[]).assert().code(1).stdout(listed).stderr("");
    assert!(!root.path().join("target").exists());
}

#[test]
fn the_book_of_this_workspace_is_right() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    docs(&root, &["--check"]).assert().code(0).stdout("").stderr("");
}

#[test]
fn without_mdbook_there_is_a_remedy() {
    let root = workspace("# One\n");
    docs(root.path(), &["--check"]).env("PATH", "").assert().code(0).stdout("").stderr("");
    let assert = docs(root.path(), &[]).env("PATH", "").assert().code(3).stdout("");
    let stderr = String::from_utf8(assert.get_output().stderr.clone()).unwrap();
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    assert!(stderr.starts_with("xtask: mdbook: "), "{stderr}");
    // `.ci/run` installs mdBook with the command that the message names.
    let remedy = stderr.split('`').nth(1).unwrap();
    let ci = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.ci/run");
    let ci = fs::read_to_string(ci).unwrap();
    assert!(ci.lines().any(|line| line.trim() == format!("run {remedy}")), "{remedy}");
}

#[test]
fn a_folder_that_is_not_the_workspace_is_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let assert = docs(folder.path(), &[]).assert().code(3).stdout("");
    let stderr = String::from_utf8(assert.get_output().stderr.clone()).unwrap();
    assert!(stderr.lines().count() == 1 && stderr.contains("docs"), "{stderr}");
}

/// A stand-in for `mdbook` that records its input, and complains if there is a file `complain`.
#[cfg(unix)]
#[test]
fn mdbook_gets_pages_figures_and_the_folder() {
    use std::os::unix::fs::PermissionsExt as _;

    let root = workspace("# One\n\n$$\\eta$$\n");
    let bin = root.path().join("bin");
    fs::create_dir(&bin).unwrap();
    let script = "#!/bin/sh\n[ -e bin/complain ] && echo ' WARN a' >&2\n\
                  cp \"$2/docs/one.md\" \"$2/docs/figures/a.svg\" \"$2/book.toml\" \"$4\"\n";
    fs::write(bin.join("mdbook"), script).unwrap();
    fs::set_permissions(bin.join("mdbook"), fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    let run = || docs(root.path(), &["--out", "built"]).env("PATH", &path).assert();
    run().code(0).stdout("").stderr("built/index.html\n");
    let page = fs::read_to_string(root.path().join("built/one.md")).unwrap();
    assert!(page.starts_with("# One\n\n<math"), "{page}");
    assert!(
        root.path().join("built/a.svg").exists() && root.path().join("built/book.toml").exists()
    );
    fs::write(bin.join("complain"), "").unwrap();
    run().code(3).stdout("").stderr("xtask: mdbook: exit status: 0: WARN a\n");
}
