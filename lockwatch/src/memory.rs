//! Memory: where it comes from, and giving it back to the system.

/// musl's own allocator asks the kernel so often that a list of 100,000 locks takes half as long again.
#[cfg(target_env = "musl")]
#[global_allocator]
static ALLOCATOR: dlmalloc::GlobalDlmalloc = dlmalloc::GlobalDlmalloc;

/// Gives back what is free. Parsing the kernel's types and looking at very many locks takes tens of megabytes, which the
/// allocator would keep for good.
pub fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: touches only what is free (malloc_trim(3)).
    unsafe {
        libc::malloc_trim(0)
    };
}
