//! 18-2-5-cache-stampede
