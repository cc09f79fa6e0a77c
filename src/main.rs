//! The fota binary.

fn main() {}
