//! What a node keeps of answers, and what it answers with: the public suite for caches, and cases of our own.

mod answers;
mod fleet;
mod functions;
mod hostile;
mod lasting;
mod objects;
mod public;
mod shield;
mod slices;
