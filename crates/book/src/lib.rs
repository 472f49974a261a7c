//! Checks and conversions of the book's formulas, commands and Rust examples.
//!
//! The book is the folder `docs` of the workspace, with `README.md`, `CHANGELOG.md` and
//! `COMPARE.md` beside it. mdBook builds it, trycmd runs its sessions and lychee checks its links.
//! This crate adds what those tools do not do:
//!
//! - [`problems`] lists code that no test covers and formulas that cannot be read;
//! - [`with_mathml`] replaces the formulas of a page by MathML, which needs no script in a browser;
//! - [`shown`] gives the commands that a page shows and no session runs;
//! - `try_commands` (feature `run`) gives the sessions to trycmd.
//!
//! The Rust examples of the pages are tests of this crate's documentation.

mod commands;
mod formulas;
mod pages;
mod problems;
#[cfg(feature = "run")]
mod sessions;

pub use commands::{PROGRAMS, Shown, shown};
pub use formulas::with_mathml;
pub use pages::{BookError, Piece, Placed, Problem, files, pages, pieces};
pub use problems::problems;
#[cfg(feature = "run")]
pub use sessions::try_commands;

/// Makes the Rust examples of the given pages tests, and lists these pages.
macro_rules! rust_examples {
    ($($page:literal),* $(,)?) => {
        /// The pages, relative to the root of the workspace, whose Rust examples are tests.
        pub const RUST_EXAMPLES: &[&str] = &[$($page),*];

        #[cfg(doctest)]
        mod rust_examples {
            $(
                #[doc = include_str!(concat!("../../../", $page))]
                const _: () = ();
            )*
        }
    };
}

rust_examples!("README.md", "docs/getting_started.md", "docs/guide/curvature.md");
