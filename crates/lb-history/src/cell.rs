//! A figure in two bytes: six bits of an exponent, and ten of a mantissa. It is right to 0.05 %, from 2⁻²⁰ (a microsecond) to
//! 2⁴² (4·10¹²); what is smaller is 0, and what is larger is the largest.

/// What is unknown.
const UNKNOWN: u16 = 0xffff;
const ZERO: u16 = 0;
const LARGEST: u16 = 0xfffe;
/// Bits of the mantissa.
const MANTISSA: u32 = 10;
/// What is added to the exponent: code 1·2¹⁰ stands for 2⁻²⁰, since codes below are for 0.
const BIAS: i32 = 21;
/// Bits of the mantissa of an `f32`, and what is added to its exponent.
const F32_MANTISSA: u32 = 23;
const F32_BIAS: i32 = 127;

/// The code of a figure of 0 or more; `None` is unknown.
#[must_use]
pub fn encode(figure: Option<f64>) -> u16 {
    let Some(figure) = figure.filter(|figure| figure.is_finite() && *figure >= 0.0) else {
        return UNKNOWN;
    };
    // What is too large becomes infinite.
    let figure = figure as f32;
    if figure.is_infinite() {
        return LARGEST;
    }
    // Rounded to the bits that are kept; a carry goes into the exponent, as it should.
    let dropped = F32_MANTISSA - MANTISSA;
    let rounded = figure.to_bits() + (1 << (dropped - 1));
    let exponent = (rounded >> F32_MANTISSA) as i32 - F32_BIAS + BIAS;
    if exponent < 1 {
        return ZERO;
    }
    let mantissa = (rounded >> dropped) & ((1 << MANTISSA) - 1);
    let code = ((exponent as u32) << MANTISSA) | mantissa;
    u16::try_from(code).map_or(LARGEST, |code| code.min(LARGEST))
}

/// The figure of a code.
#[must_use]
pub fn decode(code: u16) -> Option<f64> {
    match code {
        UNKNOWN => None,
        ZERO..1024 => Some(0.0),
        code => {
            let exponent = i32::from(code >> MANTISSA) - BIAS;
            let mantissa = f64::from(code & ((1 << MANTISSA) - 1));
            Some((1.0 + mantissa / f64::from(1 << MANTISSA)) * f64::from(exponent).exp2())
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_ends_of_the_range_are_kept() {
        for (figure, stored) in [
            (None, None),
            (Some(f64::NAN), None),
            (Some(-1.0), None),
            (Some(f64::INFINITY), None),
            (Some(0.0), Some(0.0)),
            (Some(1.0), Some(1.0)),
            (Some(1e-9), Some(0.0)),
            (Some(0.5), Some(0.5)),
            (Some(1_536.0), Some(1_536.0)),
        ] {
            assert_eq!(decode(encode(figure)), stored, "{figure:?}");
        }
        let largest = decode(encode(Some(f64::MAX))).unwrap();
        assert!(largest > 4e12, "{largest}");
    }

    proptest! {
        #[test]
        fn a_figure_is_right_to_a_two_thousandth(exponent in -19.0..41.0_f64) {
            let figure = exponent.exp2();
            let stored = decode(encode(Some(figure))).unwrap();
            prop_assert!((stored / figure - 1.0).abs() <= 1.0 / 2_000.0, "{figure} {stored}");
        }

        #[test]
        fn every_code_is_the_code_of_its_figure(code: u16) {
            let figure = decode(code);
            if code == 0 || code >= 1_024 {
                prop_assert_eq!(encode(figure), code);
            }
        }

        #[test]
        fn order_is_kept(one in 0.0..1e9_f64, other in 0.0..1e9_f64) {
            if one <= other {
                prop_assert!(encode(Some(one)) <= encode(Some(other)));
            }
        }
    }
}
