//! 18-1-2-instrument-pool
