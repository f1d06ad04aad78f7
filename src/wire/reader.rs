//! A cursor over bytes that never indexes: what is not there is an error, and so is what is left over.

/// The bytes ended too early, or went on too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("wrong length")]
pub struct WrongLength;

/// Reads from the front of a byte slice.
#[derive(Debug)]
pub struct Reader<'a> {
    left: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Starts at the first byte.
    pub fn new(bytes: &'a [u8]) -> Reader<'a> {
        Reader { left: bytes }
    }

    /// The next `N` bytes.
    ///
    /// # Errors
    ///
    /// [`WrongLength`] when fewer are left.
    pub fn array<const N: usize>(&mut self) -> Result<&'a [u8; N], WrongLength> {
        let (head, left) = self.left.split_first_chunk::<N>().ok_or(WrongLength)?;
        self.left = left;
        Ok(head)
    }

    /// The next `len` bytes.
    ///
    /// # Errors
    ///
    /// [`WrongLength`] when fewer are left.
    pub fn bytes(&mut self, len: usize) -> Result<&'a [u8], WrongLength> {
        let (head, left) = self.left.split_at_checked(len).ok_or(WrongLength)?;
        self.left = left;
        Ok(head)
    }

    /// The next byte.
    ///
    /// # Errors
    ///
    /// [`WrongLength`] when none is left.
    pub fn u8(&mut self) -> Result<u8, WrongLength> {
        let [byte] = *self.array()?;
        Ok(byte)
    }

    /// Everything that is left.
    pub fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.left)
    }

    /// Whether nothing is left.
    pub fn is_empty(&self) -> bool {
        self.left.is_empty()
    }

    /// Ends the reading.
    ///
    /// # Errors
    ///
    /// [`WrongLength`] when bytes are left over.
    pub fn end(self) -> Result<(), WrongLength> {
        if self.is_empty() { Ok(()) } else { Err(WrongLength) }
    }
}
