//! The second factor: which step a code is of.

use crate::config::TotpKey;
use crate::store::usage::Code;
use crate::wire::options::TotpCode;

/// The code's step among that of `unix` (Unix seconds), the one before and the one after, by the same instructions
/// whichever it is. Whether it was used before is the store's to say.
pub(super) fn check(key: &TotpKey, code: &TotpCode, unix: u32) -> Code {
    let now = unix.div_euclid(TotpKey::STEP);
    let steps = [now.saturating_sub(1), now, now.saturating_add(1)];
    // Of two with one code the later: it was used less likely.
    let made = steps.map(|step| (step, key.makes(code.digits(), step)));
    made.into_iter().rev().find(|(_, makes)| *makes).map_or(Code::Wrong, |(step, _)| Code::OfStep(step))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 6238, appendix B: of step 37037036.
    const CODE: [u8; 6] = *b"081804";
    const STEP: u32 = 37_037_036;

    #[test]
    fn a_code_is_taken_in_its_step_the_one_before_and_the_one_after() {
        let key = TotpKey::new(*b"12345678901234567890").unwrap();
        let code = TotpCode::new(CODE).unwrap();
        let first = STEP * 30;
        for unix in [first - 30, first - 1, first, first + 29, first + 59] {
            assert_eq!(check(&key, &code, unix), Code::OfStep(STEP), "{unix}");
        }
        for unix in [0, 29, first - 31, first + 60, u32::MAX] {
            assert_eq!(check(&key, &code, unix), Code::Wrong, "{unix}");
        }
    }
}
