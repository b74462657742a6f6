//! Bytes taken apart into numbers and fields: how a target makes a case of what it is given.

/// What is left of a target's bytes. It never ends: after the last byte there are zeros.
#[derive(Clone)]
pub struct Input<'a>(pub &'a [u8]);

impl<'a> Input<'a> {
    /// The next so many bytes.
    pub fn array<const N: usize>(&mut self) -> [u8; N] {
        let mut array = [0; N];
        let taken = self.slice(N);
        array[..taken.len()].copy_from_slice(taken);
        array
    }

    /// The next byte.
    pub fn byte(&mut self) -> u8 {
        let [byte] = self.array();
        byte
    }

    /// The next two bytes as a number.
    pub fn word(&mut self) -> u16 {
        u16::from_be_bytes(self.array())
    }

    /// The next byte as a number below `bound`, which is 1 to 256.
    pub fn below(&mut self, bound: usize) -> usize {
        usize::from(self.byte()) % bound
    }

    /// The next two bytes as a number below `bound`, which is 1 to 65,536.
    pub fn place(&mut self, bound: usize) -> usize {
        usize::from(self.word()) % bound
    }

    /// The next so many bytes, fewer at the end.
    pub fn slice(&mut self, bytes: usize) -> &'a [u8] {
        let (slice, rest) = self.0.split_at(bytes.min(self.0.len()));
        self.0 = rest;
        slice
    }

    /// All the bytes that are left.
    pub fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.0)
    }

    /// Whether none is left.
    pub fn is_over(&self) -> bool {
        self.0.is_empty()
    }
}
