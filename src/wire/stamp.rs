//! stub
use zeroize::{Zeroize, ZeroizeOnDrop};
/// stub
#[derive(Clone, Debug, Zeroize, ZeroizeOnDrop)]
pub struct StampKey([u8; 32]);
impl StampKey {
    /// stub
    pub fn from_bytes(b: [u8; 32]) -> StampKey {
        StampKey(b)
    }
    /// stub
    pub fn bytes(&self) -> &[u8; 32] {
        &self.0
    }
}
