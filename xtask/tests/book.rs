//! `cargo xtask docs` from outside, and the commands of the book that are this program's.

#![expect(clippy::unwrap_used, reason = "a test's helpers fail like the test itself")]

use std::fs;
use std::path::Path;

use assert_cmd::Command;
use tempfile::TempDir;

#[cfg(unix)]
#[test]
fn the_commands_of_the_book_do_what_it_says() {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    // Stands in for cargo, which would build the workspace in the folder of the session.
    let cargo = package.join("tests/support/cargo");
    let variables = [("XTASK", env!("CARGO_BIN_EXE_xtask"))];
    flatmin_book::try_commands(&package.join(".."), "cargo", &cargo, &variables);
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
    let root = workspace("# One\n\n```sh\nrm a\n```\n");
    let listed = "docs/one.md:4: no test covers `rm a`\n";
    docs(root.path(), &[]).assert().code(1).stdout(listed).stderr("");
    assert!(!root.path().join("target").exists());
}

/// True if lychee is installed; `.ci/run` installs it.
fn has_lychee() -> bool {
    std::process::Command::new("lychee").arg("--version").output().is_ok()
}

#[test]
fn broken_links_are_listed() {
    if !has_lychee() {
        return;
    }
    let page = "# One\n\n## η ≫ `a`\n\n![a](figures/a.svg) [b](#η--a) [c](../README.md#two)\n\
                [d](https://example.com/no.md)\n";
    let root = workspace(page);
    fs::write(root.path().join("README.md"), "# Two\n\n[e](docs/one.md#one)\n").unwrap();
    docs(root.path(), &["--check"]).assert().code(0).stdout("").stderr("");
    let page = "# One\n\n[b](two.md)\n![c](no.svg)\n[d](#two)\n";
    let root = workspace(page);
    fs::write(root.path().join("README.md"), "[e](docs/one.md#three)\n").unwrap();
    let assert = docs(root.path(), &["--check"]).assert().code(1).stderr("");
    let listed = String::from_utf8(assert.get_output().stdout.clone()).unwrap();
    for target in ["two.md", "no.svg", "#two", "#three"] {
        assert!(listed.contains(target), "{target} in {listed}");
    }
}

#[test]
fn the_book_of_this_workspace_is_right() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    if has_lychee() {
        docs(&root, &["--check"]).assert().code(0).stdout("").stderr("");
    }
}

#[test]
fn without_its_programs_there_is_a_remedy() {
    let root = workspace("# One\n");
    let ci = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../.ci/run")).unwrap();
    let check = |arguments: &[&str], path: &str, program: &str| {
        let assert = docs(root.path(), arguments).env("PATH", path).assert().code(3).stdout("");
        let stderr = String::from_utf8(assert.get_output().stderr.clone()).unwrap();
        assert_eq!(stderr.lines().count(), 1, "{stderr}");
        assert!(stderr.starts_with(&format!("xtask: {program}: ")), "{stderr}");
        // The remedy is what the checks do.
        let remedy = stderr.split('`').nth(1).unwrap();
        assert!(ci.contains(&format!("run {remedy}")), "{remedy}");
    };
    check(&["--check"], "", "lychee");
    #[cfg(unix)]
    {
        let bin = programs(root.path(), &[("lychee", "#!/bin/sh\n")]);
        check(&[], &bin, "mdbook");
    }
}

/// A folder with programs, beside a workspace.
#[cfg(unix)]
fn programs(root: &Path, scripts: &[(&str, &str)]) -> String {
    use std::os::unix::fs::PermissionsExt as _;

    let bin = root.join("bin");
    fs::create_dir_all(&bin).unwrap();
    for (name, script) in scripts {
        fs::write(bin.join(name), script).unwrap();
        fs::set_permissions(bin.join(name), fs::Permissions::from_mode(0o755)).unwrap();
    }
    bin.display().to_string()
}

#[test]
fn a_folder_that_is_not_the_workspace_is_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let assert = docs(folder.path(), &[]).assert().code(3).stdout("");
    let stderr = String::from_utf8(assert.get_output().stderr.clone()).unwrap();
    assert!(stderr.lines().count() == 1 && stderr.contains("docs"), "{stderr}");
}

#[cfg(unix)]
#[test]
fn mdbook_gets_pages_figures_and_the_folder() {
    let root = workspace("# One\n\n$$\\eta$$\n");
    // `mdbook` copies what it is given, and complains if there is a file `complain`. `lychee` finds
    // a broken link in a folder if there is a file `broken`.
    let mdbook = "#!/bin/sh\n[ -e bin/complain ] && echo ' WARN a' >&2\n\
                  cp \"$2/docs/one.md\" \"$2/docs/figures/a.svg\" \"$2/book.toml\" \"$4\"\n";
    let lychee = "#!/bin/sh\nfor last; do :; done\n\
                  if [ -d \"$last\" ] && [ -e bin/broken ]; then echo b; exit 2; fi\n";
    let bin = programs(root.path(), &[("mdbook", mdbook), ("lychee", lychee)]);
    let path = format!("{bin}:{}", std::env::var("PATH").unwrap());
    let run = || docs(root.path(), &["--out", "built"]).env("PATH", &path).assert();
    run().code(0).stdout("").stderr("built/index.html\n");
    let page = fs::read_to_string(root.path().join("built/one.md")).unwrap();
    assert!(page.starts_with("# One\n\n<math"), "{page}");
    assert!(
        root.path().join("built/a.svg").exists() && root.path().join("built/book.toml").exists()
    );
    fs::write(root.path().join("bin/broken"), "").unwrap();
    run().code(1).stdout("b\n").stderr("");
    fs::write(root.path().join("bin/complain"), "").unwrap();
    run().code(3).stdout("").stderr("xtask: mdbook: exit status: 0: WARN a\n");
}
