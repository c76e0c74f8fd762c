//! 17-6-2-postmortem
