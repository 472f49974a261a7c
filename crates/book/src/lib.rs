//! The book of flatmin as data: its pages checked, and its commands and examples run as tests.
//!
//! The book is the folder `docs` of the workspace, with `README.md`, `CHANGELOG.md` and `COMPARE.md`
//! beside it. It is read in two ways, as files on a forge and as the pages that mdBook makes, and
//! must be right in both:
//!
//! - [`Book::read`] reads it, [`Book::problems`] says what is wrong: pages that the table of contents
//!   does not name, links to what does not exist, code that nothing tests;
//! - [`Book::source`] is a page as mdBook gets it: included pages put in, formulas as MathML;
//! - [`commands`] takes the commands of a page and says how each is tested;
//! - `run` (a feature) runs those of one program and compares what they print.
//!
//! The Rust examples of the pages are tests of this crate's documentation.

mod check;
pub mod commands;
mod page;
#[cfg(feature = "run")]
mod run;
mod source;

pub use check::{Book, BookError, Problem};
pub use page::{Block, Formula, Link, Page};
#[cfg(feature = "run")]
pub use run::run;

/// Takes the Rust examples of pages into the tests, and names the pages.
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
