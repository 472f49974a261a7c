//! Brackets have the same bits on any number of threads and on every instruction set.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

mod support;

use std::fs;
use std::path::Path;

use flatmin_linalg::simd::{InstructionSet, VARIABLE};
use support::{Numbers, flatmin, write_npz};

/// Numbers between −1 and 1 without order.
fn number(i: usize, j: usize) -> f64 {
    ((i * 7919 + j * 104_729 + i * i * j * 31) % 1009) as f64 / 504.5 - 1.0
}

/// What a command prints with this number of threads on this instruction set. Threads may be more
/// than the cores.
fn printed(folder: &Path, words: &str, threads: &str, set: InstructionSet) -> String {
    let mut command = flatmin(&[]);
    command.args(words.split_whitespace()).current_dir(folder);
    // The other command takes as many as the pool of rayon has.
    if words.starts_with("analyze") {
        command.args(["--threads", threads]);
    }
    command.env("RAYON_NUM_THREADS", threads).env(VARIABLE, set.name());
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{words}: {said}");
    String::from_utf8(output.stdout).unwrap()
}

/// That a command prints the same with 1, 2 and 7 threads on every instruction set. The portable
/// one is slow, and only has its turn with seven threads.
fn prints_the_same(folder: &Path, words: &str) {
    let sets = || InstructionSet::ALL.into_iter().filter(|set| set.arch().is_some());
    let best = sets().next().unwrap();
    let expected = printed(folder, words, "1", best);
    assert!(expected.contains("\"kind\": \"bracket\""), "{expected}");
    for set in sets() {
        let threads = if set == InstructionSet::Scalar { &["7"][..] } else { &["1", "2", "7"] };
        for threads in threads {
            let found = printed(folder, words, threads, set);
            assert_eq!(found, expected, "{words}: {threads} threads, {set}");
        }
    }
}

/// More rows than one task has: 210 samples with ten outputs.
#[test]
fn the_bracket_of_a_model_has_the_same_bits_everywhere() {
    let folder = tempfile::tempdir().unwrap();
    let config = "seed = 0\n[model]\nkind = 'perceptron'\nwidths = [3]\nactivation = 'tanh'\n\
                  [data]\ndigits = 'one-hot'\nsample_count = 210\n[loss]\nkind = 'cross-entropy'\n\
                  [optimizer]\nlearning_rate = 0.01\nbatch_size = 1\nmax_steps = 1\n";
    fs::write(folder.path().join("digits.toml"), config).unwrap();
    let array = |shape: &[usize], first: usize| -> Numbers {
        let count: usize = shape.iter().product();
        (shape.to_vec(), (0..count).map(|at| 0.5 * number(at, first)).collect())
    };
    let arrays = [
        ("w1", array(&[3, 64], 3)),
        ("b1", array(&[3], 5)),
        ("w2", array(&[10, 3], 7)),
        ("b2", array(&[10], 9)),
    ];
    let arrays: Vec<(&str, &Numbers)> = arrays.iter().map(|(name, a)| (*name, a)).collect();
    write_npz(&folder.path().join("p.npz"), &arrays);
    let words = "metrics digits.toml --parameters p.npz --batch-size 8 --rank 32 --format json";
    prints_the_same(folder.path(), words);
}

/// A restart of the subspace is among the steps: it holds 40 modes, and the spectrum is flat.
#[test]
fn the_bracket_of_a_file_has_the_same_bits_everywhere() {
    let folder = tempfile::tempdir().unwrap();
    let (n, k, p) = (700, 3, 60);
    let rows = (0..n * k).flat_map(|i| (0..p).map(move |j| number(i, j)));
    let arrays: [(&str, &Numbers); 2] = [
        ("jacobian", &(vec![n, k, p], rows.collect())),
        ("logits", &(vec![n, k], (0..n * k).map(|at| 2.0 * number(at, 5)).collect())),
    ];
    write_npz(&folder.path().join("run.npz"), &arrays);
    let words = "analyze run.npz --array jacobian --loss cross-entropy --logits logits --rank 40 \
                 --batch-size 8 --trust-input --format json";
    prints_the_same(folder.path(), words);
}
