//! Settings that are chosen by name.

/// The error for a string that is not the name of any choice of a setting. Its message lists the
/// choices.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown {setting} '{text}', expected {}", listed(.names))]
pub struct UnknownName {
    /// The setting, in words.
    pub setting: &'static str,
    /// The text.
    pub text: String,
    /// The names of the choices.
    pub names: Vec<&'static str>,
}

/// Joins the names as in a sentence: `a, b or c`.
fn listed(names: &[&str]) -> String {
    match names {
        [others @ .., last] if !others.is_empty() => format!("{} or {last}", others.join(", ")),
        names => names.join(", "),
    }
}

/// Gives the choices of an enum their names, from one list that serves reading and writing.
macro_rules! named {
    ($setting:literal, $choice:ident, [$($name:literal => $variant:ident),+ $(,)?]) => {
        impl $choice {
            /// Every choice with its name, in the order in which choices are listed.
            pub const ALL: &[(&str, Self)] = &[$(($name, Self::$variant)),+];

            /// The name of the choice, in kebab case.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name),+
                }
            }
        }

        impl std::fmt::Display for $choice {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.name())
            }
        }

        impl std::str::FromStr for $choice {
            type Err = $crate::UnknownName;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                let found = Self::ALL.iter().find(|(name, _)| *name == text);
                found.map(|(_, choice)| *choice).ok_or_else(|| $crate::UnknownName {
                    setting: $setting,
                    text: text.to_owned(),
                    names: vec![$($name),+],
                })
            }
        }
    };
}

pub(crate) use named;

#[cfg(test)]
mod tests {
    use crate::{Precision, Schedule};

    #[test]
    fn choices_are_read_as_they_are_written() {
        for (name, schedule) in Schedule::ALL {
            assert_eq!(schedule.to_string(), *name);
            assert_eq!(name.parse(), Ok(*schedule));
        }
        for (name, precision) in Precision::ALL {
            assert_eq!(precision.to_string(), *name);
            assert_eq!(name.parse(), Ok(*precision));
        }
        assert_eq!(format!("{:>8}|{:<8}|", Schedule::Step, Schedule::Cosine), "    step|cosine  |");
        let error = "linear".parse::<Schedule>().unwrap_err().to_string();
        assert_eq!(error, "unknown schedule 'linear', expected constant, cosine or step");
        let error = "float16".parse::<Precision>().unwrap_err().to_string();
        assert_eq!(error, "unknown precision 'float16', expected float64 or float32");
    }

    #[test]
    fn stored_names_are_the_written_ones() {
        for (name, schedule) in Schedule::ALL {
            assert_eq!(serde_json::to_string(schedule).unwrap(), format!("{name:?}"));
        }
        for (name, precision) in Precision::ALL {
            assert_eq!(serde_json::to_string(precision).unwrap(), format!("{name:?}"));
        }
    }
}
