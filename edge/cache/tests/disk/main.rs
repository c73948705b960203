//! The disk tier, over real folders and real processes.

mod basics;
mod child;
mod damage;
mod full;
mod kill;
mod model;
mod replay;
mod tool;
