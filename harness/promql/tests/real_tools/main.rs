//! What this crate computes, judged by the tools of Prometheus and Alertmanager themselves.
//!
//! Where a tool is missing, the test says on the screen that it did not run and why, and passes,
//! unless `NIGHTSHIFT_REQUIRE_BACKENDS=1`. Cases are made from seeds; a failure prints its seed and
//! how to run it alone.

mod agreement;
mod alertmanager;
mod routes;
mod rules;
mod tool;
