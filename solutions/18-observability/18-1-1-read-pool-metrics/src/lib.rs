//! 18-1-1-read-pool-metrics
