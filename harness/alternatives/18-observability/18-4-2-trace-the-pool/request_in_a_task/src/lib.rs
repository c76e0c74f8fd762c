//! The photo service: uploads are split into tasks, a pool of workers does them, and traces tell
//! who waited for what.

pub mod export;
pub mod pool;
pub mod service;
