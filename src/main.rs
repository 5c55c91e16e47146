//! The program: installs the crypto provider, calls the library, turns errors into an exit code.

fn main() {}
