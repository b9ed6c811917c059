//! Numbers: exact 64-bit whole numbers, and fractions, which are 64-bit floats and are calculated in decimal.
//!
//! A whole number beyond 64 bits is valid only if a float represents exactly its decimal digits, as for `1e20`. A number that would have to be rounded to a
//! whole number is an error.

use std::fmt;

use serde_json::Number;

/// The limits of numbers, for messages.
pub(crate) const LIMITS: &str = "whole numbers have 64 bits and fractions about 16 digits";

/// 2^53: from here on floats cannot represent every whole number.
const EXACT: f64 = 9_007_199_254_740_992.0;

/// The reason why a text is not a valid number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NumberError {
    /// The text is not a decimal number.
    NotANumber,
    /// The number would have to be rounded.
    Inexact,
}

impl fmt::Display for NumberError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NumberError::NotANumber => f.write_str("is not a number"),
            NumberError::Inexact => write!(f, "cannot be represented exactly: {LIMITS}"),
        }
    }
}

/// Parses a decimal number.
///
/// # Errors
/// Returns an error if the text is not a number, or if the number cannot be represented exactly. Only fractions are rounded.
pub(crate) fn parse_number(text: &str) -> Result<Number, NumberError> {
    let text = text.trim();
    let text = text.strip_prefix('+').filter(|rest| !rest.starts_with('-')).unwrap_or(text);
    let written = Decimal::parse(text).ok_or(NumberError::NotANumber)?;
    let float: f64 = text.parse().map_err(|_| NumberError::NotANumber)?;
    let number = match written.whole() {
        Some(whole) => whole_number(whole),
        None if written.exponent < 0 => Number::from_f64(float).filter(|_| float.fract() != 0.0),
        None => exact_float(float, &written),
    };
    number.ok_or(NumberError::Inexact)
}

/// Converts a whole number. Returns `None` if it cannot be represented exactly.
pub(crate) fn whole_number(whole: i128) -> Option<Number> {
    Number::from_i128(whole).or_else(|| exact_float(whole as f64, &Decimal::parse(&whole.to_string())?))
}

/// Converts a computed float. Returns `None` if it is not finite or was rounded to a whole number.
pub(crate) fn float_number(float: f64) -> Option<Number> {
    match float.fract() == 0.0 {
        true if float.abs() < EXACT => Some(Number::from(float as i64)),
        true => None,
        false => Number::from_f64(float),
    }
}

/// Returns `number` as a whole number, if it is one.
pub(crate) fn integer(number: &Number) -> Option<i128> {
    number.as_i128().or_else(|| number.as_f64().filter(|float| float.fract() == 0.0)?.to_string().parse().ok())
}

/// Returns the float that is exactly `number`, if there is one.
pub(crate) fn exact_f64(number: &Number) -> Option<f64> {
    let float = number.as_f64()?;
    let is_exact = number.as_i128().is_none_or(|whole| float as i128 == whole);
    is_exact.then_some(float)
}

/// Returns the canonical form of a number: `1` for `1.0`.
pub(crate) fn canonical(number: Number) -> Number {
    match number.is_f64() {
        true => integer(&number).and_then(whole_number).unwrap_or(number),
        false => number,
    }
}

/// Formats a number without an exponent, and a whole number without a fraction.
pub(crate) fn number_text(number: &Number) -> String {
    match number.as_f64() {
        Some(float) if number.is_f64() => float.to_string(),
        _ => number.to_string(),
    }
}

/// Rewrites the whole numbers of a valid JSON text without fraction and exponent, so that a parser of 64-bit numbers reads them exactly.
///
/// # Errors
/// Returns the first number that cannot be represented exactly.
pub(crate) fn exact_json(json: &str) -> Result<String, &str> {
    let (mut out, mut rest, mut in_string) = (String::with_capacity(json.len()), json, false);
    while let Some(c) = rest.chars().next() {
        let length = match (c, in_string) {
            ('\\', true) => 2,
            ('-' | '0'..='9', false) => {
                rest.find(|c: char| !matches!(c, '0'..='9' | '-' | '+' | '.' | 'e' | 'E')).unwrap_or(rest.len())
            }
            _ => c.len_utf8(),
        };
        in_string ^= c == '"';
        let (part, after) = rest.split_at_checked(length).unwrap_or((rest, ""));
        match !in_string && part.starts_with(|c: char| c == '-' || c.is_ascii_digit()) {
            true => out.push_str(&parse_number(part).map_err(|_| part)?.to_string()),
            false => out.push_str(part),
        }
        rest = after;
    }
    Ok(out)
}

/// A decimal number for exact calculations: `mantissa` times ten to the power of `exponent`.
#[derive(Clone, Copy)]
pub(crate) struct Scaled {
    mantissa: i128,
    exponent: i32,
}

impl Scaled {
    /// Returns the decimal number that is displayed for `number`.
    pub(crate) fn of(number: &Number) -> Option<Self> {
        Decimal::parse(&number_text(number))?.scaled()
    }

    /// Returns the number. A fraction is rounded to the nearest float.
    pub(crate) fn number(self) -> Option<Number> {
        parse_number(&format!("{}e{}", self.mantissa, self.exponent)).ok()
    }

    /// Applies `operator` to the mantissas at a common exponent.
    pub(crate) fn aligned(self, other: Self, operator: fn(i128, i128) -> Option<i128>) -> Option<Self> {
        let exponent = self.exponent.min(other.exponent);
        Some(Self { mantissa: operator(self.shifted_to(exponent)?, other.shifted_to(exponent)?)?, exponent })
    }

    /// Returns the product.
    pub(crate) fn times(self, other: Self) -> Option<Self> {
        let exponent = self.exponent.checked_add(other.exponent)?;
        Some(Self { mantissa: self.mantissa.checked_mul(other.mantissa)?, exponent })
    }

    /// Returns the quotient, if its decimal expansion is finite.
    pub(crate) fn divided_by(self, other: Self) -> Option<Self> {
        let exponent = self.exponent.min(other.exponent);
        let (dividend, divisor) = (self.shifted_to(exponent)?, other.shifted_to(exponent)?);
        (0..=18).find_map(|places: u32| {
            let dividend = dividend.checked_mul(10_i128.pow(places))?;
            let is_whole = dividend.checked_rem(divisor)? == 0;
            is_whole.then(|| Self { mantissa: dividend / divisor, exponent: -(places as i32) })
        })
    }

    /// Returns the mantissa at a smaller exponent.
    fn shifted_to(self, exponent: i32) -> Option<i128> {
        if self.mantissa == 0 {
            return Some(0);
        }
        let places = u32::try_from(self.exponent.checked_sub(exponent)?).ok()?;
        self.mantissa.checked_mul(10_i128.checked_pow(places)?)
    }
}

/// Returns the number of `float` if its shortest decimal form is `written`.
fn exact_float(float: f64, written: &Decimal) -> Option<Number> {
    let is_exact = float.is_finite() && Decimal::parse(&float.to_string()).as_ref() == Some(written);
    Number::from_f64(float).filter(|_| is_exact)
}

/// A decimal number in source form: `digits` times ten to the power of `exponent`.
#[derive(PartialEq)]
struct Decimal {
    is_negative: bool,
    /// The digits without leading and trailing zeros. Empty for zero.
    digits: String,
    exponent: i64,
}

impl Decimal {
    fn parse(text: &str) -> Option<Self> {
        let unsigned = text.strip_prefix('-').unwrap_or(text);
        let (mantissa, exponent) = unsigned.split_once(['e', 'E']).unwrap_or((unsigned, "0"));
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let digits = [whole, fraction].concat();
        let exponent_digits = exponent.strip_prefix(['-', '+']).unwrap_or(exponent);
        let is_decimal = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        if !is_decimal(&digits) || !is_decimal(exponent_digits) {
            return None;
        }
        let significant = digits.trim_end_matches('0');
        if significant.is_empty() {
            return Some(Self { is_negative: false, digits: String::new(), exponent: 0 });
        }
        // An exponent that does not fit into 64 bits is beyond every float.
        let limit = if exponent.starts_with('-') { i64::MIN / 2 } else { i64::MAX / 2 };
        let written: i64 = exponent.parse().map_or(limit, |exponent: i64| exponent.clamp(i64::MIN / 2, i64::MAX / 2));
        let zeros = i64::try_from(digits.len() - significant.len()).ok()?;
        let places = i64::try_from(fraction.len()).ok()?;
        let digits = significant.trim_start_matches('0').to_owned();
        Some(Self { is_negative: text.starts_with('-'), digits, exponent: written + zeros - places })
    }

    /// Returns the number with its mantissa as an integer, or `None` if it does not fit.
    fn scaled(&self) -> Option<Scaled> {
        let digits = if self.digits.is_empty() { 0 } else { self.digits.parse::<i128>().ok()? };
        let mantissa = if self.is_negative { -digits } else { digits };
        Some(Scaled { mantissa, exponent: i32::try_from(self.exponent).ok()? })
    }

    /// Returns the whole number, if it is one and fits into 128 bits.
    fn whole(&self) -> Option<i128> {
        self.scaled()?.shifted_to(0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_number_is_parsed_exactly_or_refused() {
        let cases = [
            ("0", Some("0")),
            ("-0", Some("0")),
            ("-0.0", Some("0")),
            ("+5", Some("5")),
            ("1.50", Some("1.5")),
            (".5", Some("0.5")),
            ("1e3", Some("1000")),
            ("1.0", Some("1")),
            ("9007199254740993", Some("9007199254740993")),
            ("9007199254740993.0", Some("9007199254740993")),
            ("9.007199254740993e15", Some("9007199254740993")),
            ("18446744073709551615", Some("18446744073709551615")),
            ("18446744073709551615.000", Some("18446744073709551615")),
            ("-9223372036854775808", Some("-9223372036854775808")),
            ("1e20", Some("100000000000000000000")),
            ("1.7976931348623157e308", Some("1.7976931348623157e308")),
            ("3.14159265358979323846", Some("3.141592653589793")),
            ("18446744073709551616", None),
            ("-9223372036854775809", None),
            ("12345678901234567890123", None),
            ("9007199254740993.5", None),
            ("0.99999999999999999999", None),
            ("1e309", None),
            ("1e-400", None),
            ("1e99999999999999999999", None),
        ];
        for (text, expected) in cases {
            let found = parse_number(text);
            match expected {
                Some(expected) => {
                    let expected =
                        expected.parse::<f64>().map_or(String::new(), |float| match expected.contains('e') {
                            true => float.to_string(),
                            false => expected.to_owned(),
                        });
                    assert_eq!(found.as_ref().map(number_text), Ok(expected), "{text}");
                }
                None => assert_eq!(found, Err(NumberError::Inexact), "{text}"),
            }
        }
        for text in ["", "+", "-", ".", "e5", "1e", "1e+", "0x10", "inf", "-inf", "nan", "1_000", "+-5", "--5", "1 0"] {
            assert_eq!(parse_number(text), Err(NumberError::NotANumber), "{text}");
        }
    }

    #[test]
    fn an_inexact_number_in_a_json_text_is_returned() {
        let read = |text| exact_json(text).map(|exact| serde_json::from_str::<serde_json::Value>(&exact).unwrap());
        let text = r#"{"1.0": ["\"9.0\\", 1.5, 9007199254740993.0, -2.5e3, -0, true, "é 1.0"]}"#;
        let expected = serde_json::json!({"1.0": ["\"9.0\\", 1.5, 9_007_199_254_740_993_u64, -2500, 0, true, "é 1.0"]});
        assert_eq!(read(text), Ok(expected));
        assert_eq!(read(r#"{"18446744073709551616": [18446744073709551616]}"#), Err("18446744073709551616"));
    }

    proptest! {
        #[test]
        fn every_64_bit_whole_number_is_read_exactly(n in prop_oneof![any::<i64>().prop_map(i128::from), any::<u64>().prop_map(i128::from)]) {
            let number = parse_number(&n.to_string()).unwrap();
            prop_assert_eq!(integer(&number), Some(n));
            prop_assert_eq!(number_text(&number), n.to_string());
        }

        #[test]
        fn every_float_survives_formatting_and_json(float in any::<f64>().prop_filter("finite", |f| f.is_finite())) {
            let number = parse_number(&float.to_string()).unwrap();
            prop_assert_eq!(number.as_f64(), Some(float));
            let json = serde_json::to_string(&number).unwrap();
            prop_assert_eq!(canonical(serde_json::from_str(&json).unwrap()), number);
        }

        #[test]
        fn a_whole_number_of_any_size_is_exact_or_refused(n in any::<i128>()) {
            if let Some(number) = whole_number(n) {
                prop_assert_eq!(integer(&number), Some(n));
            }
        }
    }
}
