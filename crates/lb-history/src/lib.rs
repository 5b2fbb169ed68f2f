//! The history of load: what objects carried, by time, in rings of a fixed size on disk, as round-robin databases have them.
//!
//! - [`quantity`]: what is recorded; [`cell`]: how a figure is stored, in two bytes.
//! - [`ring`]: steps and lengths of the rings.
//! - [`series`]: the file of one object; [`store`]: the files of all, and their limit.
//! - [`query`]: what is asked for, and how rows become points.
//!
//! # Size
//! A series never has more than [`series::BYTES`] bytes, and a store never more series than its limit has room for. A row that
//! was torn by a crash is known by its checksum, and is lost alone.
//!
//! # Time
//! Rows of the longer rings are made from those of the first when their time is over; after a crash they are made when the series
//! is written again. So a process that is killed loses at most the step that it was in.

#![forbid(unsafe_code)]

pub mod cell;
pub mod quantity;
pub mod query;
pub mod ring;
pub mod series;
pub mod store;

pub use quantity::{Quantity, Sample};
pub use query::{Point, Query, QueryError};
pub use store::{Key, Kind, Store, Written};
