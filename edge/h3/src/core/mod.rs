//! The protocol without I/O: bytes in, events out. It knows no socket, no runtime, no clock and no QUIC library, and it
//! keeps no more than the limits it is given.

pub mod code;
pub mod encode;
pub mod frame;
pub mod head;
pub mod huffman;
pub mod instructions;
pub mod integer;
pub mod message;
pub mod peer;
pub mod priority;
pub mod section;
pub mod settings;
pub mod table;
pub mod varint;

#[cfg(test)]
mod bytes_of;
