//! placeholder
mod sources;

fn main() {}
