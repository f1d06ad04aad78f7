//! The administrator's tool.

fn main() {}
