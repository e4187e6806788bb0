//! The command line: a table of contents, no logic.

fn main() {}
