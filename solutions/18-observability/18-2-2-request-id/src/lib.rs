//! 18-2-2-request-id
