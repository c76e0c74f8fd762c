//! What threads share, for `breaker.rs`. A checker puts loom's types in its place, so whatever
//! loom does not have is not to be had there: no `OnceLock`, no `Weak`, no `thread_local!`.

pub use std::sync::*;
