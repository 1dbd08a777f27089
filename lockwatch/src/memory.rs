//! Giving memory back to the system.

/// Gives back what is free. Parsing the kernel's types and looking at very many locks takes tens of megabytes, which the
/// allocator would keep for good.
pub fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: touches only what is free (malloc_trim(3)).
    unsafe {
        libc::malloc_trim(0)
    };
}
