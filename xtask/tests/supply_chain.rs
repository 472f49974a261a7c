//! The crates that the workspace is built from: one version of each, except where deny.toml gives a
//! reason, from one registry, with the toolchain that the manifest asks for.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use toml::de::{DeTable, DeValue};

fn text(name: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    fs::read_to_string(root.join(name)).unwrap()
}

/// Follows a path of keys.
fn get<'a>(table: &'a DeTable<'a>, path: &[&str]) -> &'a DeValue<'a> {
    let mut value = table.get(path[0]).unwrap().get_ref();
    for key in &path[1..] {
        let DeValue::Table(table) = value else { panic!("{path:?}") };
        value = table.get(*key).unwrap().get_ref();
    }
    value
}

fn string<'a>(table: &'a DeTable<'a>, path: &[&str]) -> &'a str {
    let DeValue::String(text) = get(table, path) else { panic!("{path:?} is no text") };
    text
}

/// The tables in a list.
fn tables<'a>(table: &'a DeTable<'a>, path: &[&str]) -> Vec<&'a DeTable<'a>> {
    let DeValue::Array(list) = get(table, path) else { panic!("{path:?} is no list") };
    let table = |value: &'a toml::Spanned<DeValue<'a>>| match value.get_ref() {
        DeValue::Table(table) => table,
        other => panic!("{other:?} is no table"),
    };
    list.iter().map(table).collect()
}

#[test]
fn every_second_version_has_a_reason_and_every_reason_a_second_version() {
    let (lock, deny) = (text("Cargo.lock"), text("deny.toml"));
    let (lock, deny) = (DeTable::parse(&lock).unwrap(), DeTable::parse(&deny).unwrap());
    let mut versions: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for package in tables(lock.get_ref(), &["package"]) {
        let version = string(package, &["version"]);
        versions.entry(string(package, &["name"])).or_default().insert(version);
    }
    let mut skipped: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for skip in tables(deny.get_ref(), &["bans", "skip"]) {
        assert!(string(skip, &["reason"]).len() > 10);
        let (name, version) = string(skip, &["crate"]).split_once('@').unwrap();
        skipped.entry(name).or_default().insert(version);
    }
    for (name, there) in &versions {
        let skipped = skipped.get(name).cloned().unwrap_or_default();
        let left = there.difference(&skipped).count();
        assert_eq!(left, 1, "{name}: {there:?} without {skipped:?} of deny.toml");
        assert!(there.is_superset(&skipped), "{name}: {skipped:?} of deny.toml are gone");
    }
    assert!(skipped.keys().all(|name| versions.contains_key(name)), "{skipped:?}");
    assert_eq!(string(deny.get_ref(), &["bans", "multiple-versions"]), "deny");
}

#[test]
fn every_crate_comes_from_the_one_registry_with_a_checksum() {
    let lock = text("Cargo.lock");
    let lock = DeTable::parse(&lock).unwrap();
    let registry = "registry+https://github.com/rust-lang/crates.io-index";
    for package in tables(lock.get_ref(), &["package"]) {
        let name = string(package, &["name"]);
        if package.get("source").is_some() {
            assert_eq!(string(package, &["source"]), registry, "{name}");
            assert_eq!(string(package, &["checksum"]).len(), 64, "{name}");
        } else {
            assert!(name == "xtask" || name.starts_with("flatmin"), "{name} has no source");
        }
    }
}

/// The oldest supported compiler is the pinned one, with which every test runs.
#[test]
fn the_manifest_the_toolchain_and_the_readme_name_one_compiler() {
    let (manifest, toolchain) = (text("Cargo.toml"), text("rust-toolchain.toml"));
    let (manifest, toolchain) =
        (DeTable::parse(&manifest).unwrap(), DeTable::parse(&toolchain).unwrap());
    let oldest = string(manifest.get_ref(), &["workspace", "package", "rust-version"]);
    let pinned = string(toolchain.get_ref(), &["toolchain", "channel"]);
    assert!(
        pinned == oldest || pinned.strip_prefix(oldest).is_some_and(|end| end.starts_with('.'))
    );
    let readme = text("README.md");
    assert!(readme.contains(&format!("Rust {oldest}")), "the README does not name Rust {oldest}");
}

/// The fuzz targets have a lock file of their own, which no other build reads.
#[test]
fn the_fuzz_targets_are_built_from_the_same_versions() {
    let (lock, fuzz) = (text("Cargo.lock"), text("fuzz/Cargo.lock"));
    let (lock, fuzz) = (DeTable::parse(&lock).unwrap(), DeTable::parse(&fuzz).unwrap());
    let versions = |lock: &DeTable<'_>| -> BTreeSet<(String, String)> {
        let packages = tables(lock, &["package"]);
        let field = |package: &DeTable<'_>, name| string(package, &[name]).to_owned();
        packages.into_iter().map(|one| (field(one, "name"), field(one, "version"))).collect()
    };
    let (workspace, fuzz) = (versions(lock.get_ref()), versions(fuzz.get_ref()));
    assert!(fuzz.iter().any(|(name, _)| name == "flatmin-hostile"));
    let others: Vec<&str> = fuzz.difference(&workspace).map(|(name, _)| name.as_str()).collect();
    // `libfuzzer-sys`, and what it alone needs.
    assert_eq!(others, ["arbitrary", "flatmin-fuzz", "jobserver", "libfuzzer-sys"]);
}
