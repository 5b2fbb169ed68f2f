//! A pool with a driver in memory: what follows from records and lists.

