//! What earlier builds yielded, by key.
