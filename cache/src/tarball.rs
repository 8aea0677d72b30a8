//! Archives for `ADD`.
