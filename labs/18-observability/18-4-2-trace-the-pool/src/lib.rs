//! 18-4-2-trace-the-pool
