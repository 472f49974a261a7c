//! The crates that others may depend on, as packages: what is in them, and that a program outside
//! of the workspace builds on them.

#![expect(clippy::unwrap_used, reason = "a test's helpers fail like the test itself")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Component, Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

/// The program that depends on the packages. It compares a trace and a threshold with those found
/// by hand.
const PROGRAM: &str = include_str!("packages/downstream.rs");

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().unwrap()
}

/// Runs cargo without the network.
fn cargo(folder: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO"));
    let output = command.current_dir(folder).args(arguments).arg("--offline").output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "cargo {arguments:?}: {stderr}");
    output
}

/// The packages of the workspace, as cargo describes them.
fn workspace() -> Vec<Value> {
    let arguments = ["metadata", "--no-deps", "--format-version", "1"];
    let metadata: Value = serde_json::from_slice(&cargo(&root(), &arguments).stdout).unwrap();
    metadata["packages"].as_array().unwrap().clone()
}

fn name(package: &Value) -> &str {
    package["name"].as_str().unwrap()
}

/// A package may be published unless its list of registries is empty.
fn is_published(package: &Value) -> bool {
    package["publish"] != serde_json::json!([])
}

/// The files below a folder.
fn files(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let paths = entries.map(|entry| entry.unwrap().path());
    paths.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

/// The Rust files below a folder, with their text.
fn sources(folder: &Path) -> BTreeMap<PathBuf, String> {
    let files = files(folder).into_iter();
    let rust = files.filter(|path| path.extension().is_some_and(|extension| extension == "rs"));
    rust.map(|path| (path.clone(), fs::read_to_string(path).unwrap())).collect()
}

/// Packages all published crates together, so that they find one another, and unpacks them. The
/// folders are named `NAME-VERSION`.
fn unpacked(to: &Path) -> BTreeMap<String, PathBuf> {
    let packages = workspace();
    let published: Vec<&Value> = packages.iter().filter(|package| is_published(package)).collect();
    let target = to.join("target");
    let mut arguments = vec!["package", "--no-verify", "--allow-dirty", "--target-dir"];
    arguments.push(target.to_str().unwrap());
    arguments.extend(published.iter().flat_map(|package| ["-p", name(package)]));
    cargo(&root(), &arguments);
    let unpack = |package: &&Value| {
        let stem = format!("{}-{}", name(package), package["version"].as_str().unwrap());
        let archive = target.join("package").join(format!("{stem}.crate"));
        let mut tar = Command::new("tar");
        assert!(tar.arg("-xzf").arg(archive).arg("-C").arg(to).status().unwrap().success());
        (name(package).to_owned(), to.join(stem))
    };
    published.iter().map(unpack).collect()
}

/// The quoted texts that follow a start such as `include_str!(`.
fn quoted<'a>(text: &'a str, start: &str) -> impl Iterator<Item = &'a str> {
    let rest = text.split(start).skip(1);
    rest.filter_map(|rest| rest.trim_start().strip_prefix('"')?.split('"').next())
}

/// The path of a file that another one names, without leaving the folder of the package.
fn inside(package: &Path, file: &Path, named: &str) -> Option<PathBuf> {
    let mut path = file.parent().unwrap().strip_prefix(package).unwrap().to_owned();
    for part in Path::new(named).components() {
        match part {
            Component::ParentDir => path.pop().then_some(())?,
            Component::Normal(part) => path.push(part),
            Component::CurDir => {}
            _ => return None,
        }
    }
    Some(package.join(path))
}

fn check_package(package: &Path, description: &Value) {
    let name = name(description);
    let has = |field: &str| !matches!(&description[field], Value::Null) && description[field] != "";
    assert!(has("description") && has("license") && has("readme"), "{name}: {description}");
    assert!(!description["categories"].as_array().unwrap().is_empty(), "{name}: categories");
    let readme = fs::read_to_string(package.join("README.md")).unwrap();
    assert!(readme.contains("```rust\n"), "{name}: the README has no example");
    for license in ["LICENSE-MIT", "LICENSE-APACHE"] {
        let text = fs::read_to_string(package.join(license));
        let expected = fs::read_to_string(root().join(license)).unwrap();
        assert_eq!(text.ok(), Some(expected), "{name}: {license}");
    }
    let sources = sources(package);
    assert!(sources.keys().any(|path| path.ends_with("src/lib.rs")), "{name}: {sources:?}");
    for (file, text) in &sources {
        for start in ["#[path = ", "include_str!(", "include_bytes!(", "include!("] {
            for named in quoted(text, start) {
                let path = inside(package, file, named);
                assert!(path.is_some_and(|path| path.is_file()), "{}: {named}", file.display());
            }
        }
    }
}

#[test]
fn packages_are_whole_and_a_program_outside_of_the_workspace_builds_on_them() {
    let folder = tempfile::tempdir().unwrap();
    let unpacked = unpacked(folder.path());
    for description in workspace().iter().filter(|package| is_published(package)) {
        check_package(&unpacked[name(description)], description);
    }

    let program = folder.path().join("downstream");
    fs::create_dir_all(program.join("src")).unwrap();
    fs::write(program.join("src/main.rs"), PROGRAM).unwrap();
    // The versions are those of the workspace, which are there without the network.
    fs::copy(root().join("Cargo.lock"), program.join("Cargo.lock")).unwrap();
    let names = ["flatmin-linalg", "flatmin-theory"];
    let wanted = names.map(|name| format!("{name} = \"0.2.0\"\n")).concat();
    let patched = names.map(|name| format!("{name} = {{ path = {:?} }}\n", unpacked[name]));
    // Without optimisation everything is built in a fraction of the time.
    let text = format!(
        "[package]\nname = \"downstream\"\nversion = \"0.0.0\"\nedition = \"2024\"\n\n[workspace]\n\n\
         [dependencies]\n{wanted}\n[patch.crates-io]\n{}\n[profile.dev]\ndebug = false\n",
        patched.concat()
    );
    fs::write(program.join("Cargo.toml"), text).unwrap();
    // Dependencies stay there for the next time.
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("downstream");
    let output = cargo(&program, &["run", "--quiet", "--target-dir", target.to_str().unwrap()]);
    let stdout = String::from_utf8(output.stdout).unwrap();
    assert_eq!(stdout, "the packages agree\n");
}

#[test]
fn the_checks_run_for_every_published_crate() {
    let script = fs::read_to_string(root().join(".ci/run")).unwrap();
    let line = script.lines().find(|line| line.starts_with("run cargo package ")).unwrap();
    let listed: BTreeSet<&str> =
        line.split(" -p ").skip(1).map(|name| name.split(' ').next().unwrap()).collect();
    let packages = workspace();
    let published = packages.iter().filter(|package| is_published(package));
    assert_eq!(listed, published.map(name).collect());
}

/// A dependency is used when its name stands in the code that it is for.
#[test]
fn no_crate_depends_on_one_that_it_does_not_use() {
    let mut unused = Vec::new();
    for package in workspace() {
        let manifest = PathBuf::from(package["manifest_path"].as_str().unwrap());
        let folder = manifest.parent().unwrap();
        let source = sources(&folder.join("src"));
        let mut all = source.clone();
        for name in ["tests", "benches", "examples"] {
            all.extend(sources(&folder.join(name)));
        }
        // The examples on the pages of the book are tests of this crate.
        if name(&package) == "flatmin-book" {
            let pages = files(&root().join("docs")).into_iter();
            let pages = pages.filter(|path| path.extension().is_some_and(|end| end == "md"));
            all.extend(pages.map(|path| (path.clone(), fs::read_to_string(path).unwrap())));
        }
        for dependency in package["dependencies"].as_array().unwrap() {
            let name = dependency["rename"].as_str().unwrap_or(self::name(dependency));
            // The command's library has another name than its package.
            let name = if name == "flatmin" { "flatmin-cli" } else { name };
            let (name, is_dev) = (name.replace('-', "_"), dependency["kind"] == "dev");
            let used = |text: &String| {
                let ends = |end: &str| text.contains(&format!("{name}{end}"));
                ends("::")
                    || ends(" as ")
                    || ends(";")
                    || text.contains(&format!("extern crate {name}"))
            };
            let sources = if is_dev { &all } else { &source };
            // The crate itself, with its features, for its own tests.
            if !sources.values().any(used) && self::name(dependency) != self::name(&package) {
                unused.push(format!("{}: {name}", self::name(&package)));
            }
        }
    }
    assert!(unused.is_empty(), "{unused:?}");
}
