//! Profiles, the sizes of a reproduction.

use std::str::FromStr;

use flatmin_linalg::named;

/// The size of a reproduction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Profile {
    /// Tiny sizes and one seed, to run every experiment from end to end. The sizes are too small to
    /// judge a claim about training.
    Smoke,
    /// The paper's sizes, one seed, every second learning rate, at most 100 000 SGD steps.
    Quick,
    /// The paper's sizes, 5 seeds.
    Paper,
    /// The paper's sizes, 20 seeds, 20 learning rates.
    Full,
}

/// An unknown name. Its message lists the valid ones.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown {kind} {name:?}; valid: {}", valid.join(", "))]
pub struct UnknownName {
    pub(crate) kind: &'static str,
    pub(crate) name: String,
    pub(crate) valid: Vec<&'static str>,
}

// Smallest first; the names are those on the command line and in files.
named!(Profile, ["smoke" => Smoke, "quick" => Quick, "paper" => Paper, "full" => Full]);

impl Profile {
    /// Number of seeds unless the user says otherwise.
    pub fn default_seeds(self) -> u64 {
        match self {
            Self::Smoke | Self::Quick => 1,
            Self::Paper => 5,
            Self::Full => 20,
        }
    }
}

impl FromStr for Profile {
    type Err = UnknownName;

    fn from_str(name: &str) -> Result<Self, UnknownName> {
        let valid = || Self::ALL.map(Self::name).to_vec();
        let found = Self::ALL.into_iter().find(|profile| profile.name() == name);
        let unknown = || UnknownName { kind: "profile", name: name.to_owned(), valid: valid() };
        found.ok_or_else(unknown)
    }
}

/// The scope of a reproduction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// Sizes, learning rates and budgets.
    pub profile: Profile,
    /// Number of seeds.
    pub seeds: u64,
    /// The first seed; the others follow it.
    pub seed: u64,
}

impl Settings {
    /// A profile with its default number of seeds, from seed 0.
    pub fn new(profile: Profile) -> Self {
        Self { profile, seeds: profile.default_seeds(), seed: 0 }
    }

    /// The seeds.
    pub fn seeds(&self) -> impl Iterator<Item = u64> + use<> {
        let first = self.seed;
        (0..self.seeds).map(move |k| first.wrapping_add(k))
    }
}
