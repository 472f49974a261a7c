//! The name of this program, with which its messages start.

use flatmin_host::Program;

pub(crate) const XTASK: Program = Program::new("xtask");
