//! The checkout service: one request, several tasks, and one log for all of them.

pub mod checkout;
pub mod logging;
pub mod request_id;
