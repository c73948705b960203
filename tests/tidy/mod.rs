//! The house, checked: which crate may know which, which words may stand where. It reads the sources; it runs nothing.

mod arrows;
mod limits;
mod source;
mod words;
