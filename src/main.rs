//! The command line: arguments in, exit code out. Everything else is in the library, but for the allocator: whoever runs decides on it.

use std::process::ExitCode;

fn main() -> ExitCode {
    #[cfg(feature = "jemalloc")]
    allocator::give_back_early();
    outrigger::cli::main()
}

#[cfg(feature = "jemalloc")]
mod allocator {
    //! Gives back to the system what is free (Cargo.toml says why that matters here).

    use tikv_jemalloc_ctl::{Access, AsName};

    #[global_allocator]
    static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

    /// Pages that nobody has used for so long go back, in milliseconds; jemalloc's own is ten times that.
    const DECAY: isize = 1_000;

    /// 4096 stands for all arenas there are, the other one for those to come. If it cannot be set, they go back later.
    pub fn give_back_early() {
        for key in [&b"arenas.dirty_decay_ms\0"[..], b"arena.4096.dirty_decay_ms\0"] {
            let _ = key.name().write(DECAY);
        }
    }
}
