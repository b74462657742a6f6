//! What [`channel`](super::channel) shares between threads is made of this: the standard library's atomics, and its cell
//! with the one way to use it that a checker can watch.

pub use std::sync::Arc;
pub use std::sync::atomic::{AtomicBool, AtomicI32, AtomicUsize, Ordering, fence};

/// A place that one thread at a time may use; which one, the code around it knows.
pub struct UnsafeCell<T>(std::cell::UnsafeCell<T>);

impl<T> UnsafeCell<T> {
    /// A place with a value.
    pub fn new(value: T) -> Self {
        Self(std::cell::UnsafeCell::new(value))
    }

    /// Uses the place. The pointer may be followed by who has the place to himself, and not after this.
    pub fn with_mut<R>(&self, use_it: impl FnOnce(*mut T) -> R) -> R {
        use_it(self.0.get())
    }
}
