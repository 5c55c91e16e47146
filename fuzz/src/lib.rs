//! Empty: each target is a program in src/bin that passes bytes to one function of sitegate.
//!
//! A finding is a panic, a hang or unbounded memory. A target asserts the function's promises if
//! that takes one line.
