//! The system calls that need unsafe code, and nothing else.
