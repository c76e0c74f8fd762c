//! Placeholder until the container tests are written.
