//! Nothing: each target is a program in src/bin that feeds bytes to one function of sitegate.
//!
//! A finding is a panic, a hang or memory without bound. What a function promises is asserted where
//! that takes a line.
