//! 17-2-1-circuit-breaker
