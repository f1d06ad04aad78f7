//! An invite as a picture for a camera: on the terminal, or as a PNG.

use qrcode::render::unicode::Dense1x2;
use qrcode::{Color, EcLevel, QrCode};
use zeroize::Zeroizing;

use crate::ctl::internal;
use crate::exit::{Exit, Failure};

/// Light on dark, as terminals are; cameras read both.
pub(super) fn terminal(text: &str) -> Result<Zeroizing<String>, Failure> {
    let code = code(text)?;
    Ok(Zeroizing::new(code.render().dark_color(Dense1x2::Light).light_color(Dense1x2::Dark).build()))
}

/// Black on white, one bit a pixel, not compressed (PNG, ISO/IEC 15948).
pub(super) fn png(text: &str) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let code = code(text)?;
    let (width, colors) = (code.width(), code.to_colors());
    let side = width.saturating_add(MARGIN.saturating_mul(2)).saturating_mul(PIXELS);
    let dark = |x: usize, y: usize| {
        let module = |at: usize| at.div_euclid(PIXELS).checked_sub(MARGIN).filter(|at| *at < width);
        let at = module(x).zip(module(y)).map(|(x, y)| y.saturating_mul(width).saturating_add(x));
        at.and_then(|at| colors.get(at)) == Some(&Color::Dark)
    };
    let mut rows = Zeroizing::new(Vec::new());
    let xs: Vec<usize> = (0..side).collect();
    for y in 0..side {
        // No filter; then eight pixels a byte, white is 1.
        rows.push(0);
        rows.extend(xs.chunks(8).map(|xs| {
            xs.iter()
                .zip([128, 64, 32, 16, 8, 4, 2, 1])
                .fold(0_u8, |byte, (x, bit)| if dark(*x, y) { byte } else { byte | bit })
        }));
    }
    let side = u32::try_from(side).map_err(|error| internal(&error))?.to_be_bytes();
    let mut file = Zeroizing::new(b"\x89PNG\r\n\x1a\n".to_vec());
    // One bit, grey.
    chunk(&mut file, b"IHDR", &[&side[..], &side, &[1, 0, 0, 0, 0]].concat())?;
    chunk(&mut file, b"IDAT", &stored(&rows))?;
    chunk(&mut file, b"IEND", &[])?;
    Ok(file)
}

/// It is seen on a clean screen: the least correction makes the smallest picture.
fn code(text: &str) -> Result<QrCode, Failure> {
    QrCode::with_error_correction_level(text.as_bytes(), EcLevel::L).map_err(|_| {
        let what = format!("an invite of {} characters is more than a QR code holds", text.len());
        Failure::new(Exit::Usage, what).hint("leave --qr out, or name fewer actions")
    })
}

fn chunk(file: &mut Vec<u8>, kind: &[u8; 4], data: &[u8]) -> Result<(), Failure> {
    let len = u32::try_from(data.len()).map_err(|error| internal(&error))?;
    file.extend(len.to_be_bytes());
    file.extend(kind);
    file.extend(data);
    file.extend(crc(kind.iter().chain(data)).to_be_bytes());
    Ok(())
}

/// RFC 1950 around RFC 1951's blocks that are not compressed.
fn stored(data: &[u8]) -> Vec<u8> {
    let mut out = vec![0x78, 0x01];
    let blocks = data.chunks(usize::from(u16::MAX));
    let last = blocks.len().saturating_sub(1);
    for (at, block) in blocks.enumerate() {
        let len = u16::try_from(block.len()).unwrap_or(u16::MAX);
        out.push(u8::from(at == last));
        out.extend(len.to_le_bytes());
        out.extend((!len).to_le_bytes());
        out.extend(block);
    }
    let (mut a, mut b) = (1_u32, 0_u32);
    for byte in data {
        a = a.wrapping_add(u32::from(*byte)).checked_rem(65_521).unwrap_or_default();
        b = b.wrapping_add(a).checked_rem(65_521).unwrap_or_default();
    }
    out.extend(((b << 16) | a).to_be_bytes());
    out
}

/// CRC-32 of PNG, annex D.
fn crc<'a>(bytes: impl Iterator<Item = &'a u8>) -> u32 {
    let shift = |crc: u32, _| if crc & 1 == 0 { crc >> 1 } else { 0xedb8_8320 ^ (crc >> 1) };
    !bytes.fold(u32::MAX, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), shift))
}

/// Modules of white around it, and pixels a module.
const MARGIN: usize = 4;
const PIXELS: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_are_those_of_the_standards() {
        assert_eq!(crc(b"123456789".iter()), 0xcbf4_3926);
        assert!(stored(b"Wikipedia").ends_with(&0x11e6_0398_u32.to_be_bytes()));
    }
}
