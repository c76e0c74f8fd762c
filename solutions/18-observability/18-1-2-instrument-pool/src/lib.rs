//! The thumbnailer's worker pool, and the endpoint from which it is scraped.

pub mod exporter;
pub mod pool;
