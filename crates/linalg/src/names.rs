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
///
/// The enum gets a constant `ALL` of its choices in this order, a function `name`, and
/// [`Display`](std::fmt::Display), which writes the name. With the word for the setting in front it
/// also gets [`FromStr`](std::str::FromStr), whose error is an [`UnknownName`].
///
/// ```
/// #[derive(Debug, Clone, Copy, PartialEq, Eq)]
/// enum Fruit {
///     Apple,
///     Quince,
/// }
///
/// flatmin_linalg::named!("fruit", Fruit, ["apple" => Apple, "quince" => Quince]);
///
/// assert_eq!("quince".parse(), Ok(Fruit::Quince));
/// let error = "pear".parse::<Fruit>().unwrap_err().to_string();
/// assert_eq!(error, "unknown fruit 'pear', expected apple or quince");
/// ```
#[macro_export]
macro_rules! named {
    ($choice:ident, [$($name:literal => $variant:ident),+ $(,)?]) => {
        impl $choice {
            /// Every choice, in the order in which choices are listed.
            pub const ALL: [Self; [$($name),+].len()] = [$(Self::$variant),+];

            /// The name of the choice.
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
    };
    ($setting:literal, $choice:ident, $names:tt) => {
        $crate::named!($choice, $names);

        impl std::str::FromStr for $choice {
            type Err = $crate::UnknownName;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                let found = Self::ALL.into_iter().find(|choice| choice.name() == text);
                found.ok_or_else(|| $crate::UnknownName {
                    setting: $setting,
                    text: text.to_owned(),
                    names: Self::ALL.map(Self::name).to_vec(),
                })
            }
        }
    };
}
