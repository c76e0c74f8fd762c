//! 23-5-1-job-lock
