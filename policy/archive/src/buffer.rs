//! A window of bytes on their way through: filled behind, taken from the front.

/// A buffer of fixed capacity.
pub(crate) struct Buffer {
    bytes: Box<[u8]>,
    start: usize,
    end: usize,
}

impl Buffer {
    /// An empty buffer for `capacity` bytes.
    pub(crate) fn new(capacity: usize) -> Self {
        Self { bytes: vec![0; capacity].into(), start: 0, end: 0 }
    }

    /// The bytes that are there.
    pub(crate) fn filled(&self) -> &[u8] {
        self.bytes.get(self.start..self.end).unwrap_or_default()
    }

    /// Takes bytes from the front.
    pub(crate) fn consume(&mut self, count: usize) {
        self.start = self.start.saturating_add(count).min(self.end);
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        }
    }

    /// The room behind the bytes that are there, which are moved to the front for it. Empty only
    /// if the buffer is full.
    pub(crate) fn room(&mut self) -> &mut [u8] {
        if self.start > 0 {
            self.bytes.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end.saturating_sub(self.start));
        }
        self.bytes.get_mut(self.end..).unwrap_or_default()
    }

    /// Says that `count` bytes were written into the [`room`](Self::room), and returns them.
    pub(crate) fn grown(&mut self, count: usize) -> &[u8] {
        let before = self.end;
        self.end = before.saturating_add(count).min(self.bytes.len());
        self.bytes.get(before..self.end).unwrap_or_default()
    }
}
