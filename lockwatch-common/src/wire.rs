//! The one way in which bytes from the kernel become values.

/// A value that is nothing but its bytes: `repr(C)`, integers and arrays of them, no padding that is not a field.
///
/// # Safety
///
/// Every bit pattern must be a valid value, and the type must have no implicit padding.
pub unsafe trait Wire: Copy + 'static {
    /// Copies a value from the front of `bytes`; `None` if they are too few.
    fn read(bytes: &[u8]) -> Option<Self> {
        if bytes.len() < size_of::<Self>() {
            return None;
        }
        // SAFETY: the length was checked, read_unaligned needs no alignment, and every bit pattern is a value.
        Some(unsafe { bytes.as_ptr().cast::<Self>().read_unaligned() })
    }

    /// The bytes of a value.
    fn bytes(&self) -> &[u8] {
        // SAFETY: there is no implicit padding, so every byte of the value is initialised.
        unsafe { core::slice::from_raw_parts((&raw const *self).cast(), size_of::<Self>()) }
    }
}

/// Declares wire types with their sizes, which both sides were built for.
macro_rules! wire {
    ($($type:ident $size:literal;)*) => {$(
        const _: () = assert!(size_of::<$type>() == $size);
        // SAFETY: integers and arrays of them, no implicit padding (the size is asserted above).
        unsafe impl $crate::Wire for $type {}
    )*};
}
pub(crate) use wire;
