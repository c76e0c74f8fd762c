//! 17-7-2-two-node-cache
