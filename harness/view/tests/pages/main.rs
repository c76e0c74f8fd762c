//! The page as a whole: without a browser what it is made of, and in one what it does.

mod browser;
mod exhibits;
mod structure;
