//! The files of the corpus, damaged at random. No reader panics, and no message holds control
//! characters.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::fs;
use std::path::Path;
use std::sync::LazyLock;

use flatmin_hostile::Reader;
use proptest::prelude::*;
use proptest::sample::Index;

static FILES: LazyLock<Vec<(Reader, Vec<Vec<u8>>)>> = LazyLock::new(|| {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus");
    let files = |reader: Reader| {
        let mut paths: Vec<_> = fs::read_dir(corpus.join(reader.name()))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        paths.sort();
        paths.into_iter().map(|path| fs::read(path).unwrap()).collect()
    };
    let readers = Reader::ALL.into_iter().filter(|reader| is_wanted(*reader));
    readers.map(|reader| (reader, files(reader))).collect()
});

/// True for all readers, or for those whose names are in the variable `FLATMIN_READERS`.
fn is_wanted(reader: Reader) -> bool {
    let names = std::env::var("FLATMIN_READERS");
    names.map_or(true, |names| names.split(',').any(|name| name == reader.name()))
}

/// A change of a file.
#[derive(Debug, Clone)]
enum Damage {
    Set(Index, u8),
    Flip(Index, u8),
    Insert(Index, Vec<u8>),
    Cut(Index),
    Remove(Index, u8),
    Repeat(Index, u8, u8),
    Swap(Index, Index, u8),
    /// Replaces the end of the file by the end of another file.
    Splice(Index, Index, Index),
}

fn damage() -> impl Strategy<Value = Damage> {
    let place = any::<Index>;
    let texts = prop::sample::select(vec![
        b"\x1b[31m".to_vec(),
        b"\\u001b[2J".to_vec(),
        "\u{202e}".as_bytes().to_vec(),
        b"1e999".to_vec(),
        b"-1".to_vec(),
        b"18446744073709551615".to_vec(),
        b"[[[[".to_vec(),
        b"\0\0\0\0".to_vec(),
        b"\xff\xff\xff\xff\xff\xff\xff\xff".to_vec(),
        b"PK\x05\x06".to_vec(),
        b"\n".to_vec(),
        b"null".to_vec(),
    ]);
    prop_oneof![
        (place(), any::<u8>()).prop_map(|(at, byte)| Damage::Set(at, byte)),
        (place(), 0..8_u8).prop_map(|(at, bit)| Damage::Flip(at, bit)),
        (place(), texts).prop_map(|(at, bytes)| Damage::Insert(at, bytes)),
        place().prop_map(Damage::Cut),
        (place(), any::<u8>()).prop_map(|(at, len)| Damage::Remove(at, len)),
        (place(), any::<u8>(), any::<u8>()).prop_map(|(at, len, n)| Damage::Repeat(at, len, n)),
        (place(), place(), any::<u8>()).prop_map(|(a, b, len)| Damage::Swap(a, b, len)),
        (place(), place(), place()).prop_map(|(file, from, at)| Damage::Splice(file, from, at)),
    ]
}

fn apply(bytes: &mut Vec<u8>, damage: &Damage, others: &[Vec<u8>]) {
    if bytes.is_empty() {
        return;
    }
    let len = bytes.len();
    let piece = |at: usize, count: u8| at..(at + usize::from(count)).min(len);
    match damage {
        Damage::Set(at, byte) => bytes[at.index(len)] = *byte,
        Damage::Flip(at, bit) => bytes[at.index(len)] ^= 1 << bit,
        Damage::Insert(at, inserted) => {
            let at = at.index(len);
            bytes.splice(at..at, inserted.iter().copied());
        }
        Damage::Cut(at) => bytes.truncate(at.index(len)),
        Damage::Remove(at, count) => {
            bytes.drain(piece(at.index(len), *count));
        }
        Damage::Repeat(at, count, times) => {
            let range = piece(at.index(len), *count);
            let repeated = bytes[range.clone()].repeat(usize::from(*times));
            bytes.splice(range, repeated);
        }
        Damage::Swap(a, b, count) => {
            let (a, b) = (a.index(len), b.index(len));
            for k in 0..usize::from(*count).min(len - a.max(b)) {
                bytes.swap(a + k, b + k);
            }
        }
        Damage::Splice(file, from, at) => {
            let other = &others[file.index(others.len())];
            let at = at.index(len);
            bytes.truncate(at);
            if !other.is_empty() {
                bytes.extend_from_slice(&other[from.index(other.len())..]);
            }
        }
    }
}

/// Number of damaged files: 3000, or the value of `PROPTEST_CASES`.
fn cases() -> u32 {
    std::env::var("PROPTEST_CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(3000)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), ..ProptestConfig::default() })]

    #[test]
    fn no_damage_is_more_than_an_error(
        reader in any::<Index>(),
        file in any::<Index>(),
        damages in prop::collection::vec(damage(), 1..6),
    ) {
        let (reader, files) = &FILES[reader.index(FILES.len())];
        let mut bytes = files[file.index(files.len())].clone();
        for damage in &damages {
            apply(&mut bytes, damage, files);
        }
        reader.check(&bytes);
    }
}
