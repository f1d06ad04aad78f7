//! The knock client.

fn main() {}
