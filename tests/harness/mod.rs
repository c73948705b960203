//! What the topics share: the size of the run, the processes under test, the clients that ask them.

pub(crate) mod size;
