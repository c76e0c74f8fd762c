//! The session cache in front of the login database, and the tool that reads its log.

pub mod cache;
pub mod log;
pub mod stampede;
