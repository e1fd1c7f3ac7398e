//! What the policies keep: in this process's memory, and (later) shared among replicas.

pub mod memory;
