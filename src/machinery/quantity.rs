//! Quantities as numbers. Pure.

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

/// A quantity in thousandths, rounded up as the API server does; nothing when it is none or too large.
#[must_use]
pub fn milli(quantity: &Quantity) -> Option<i128> {
    let text = quantity.0.trim();
    let end = text.find(|c: char| !(c.is_ascii_digit() || matches!(c, '.' | '-' | '+'))).unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    if let Some(exponent) = suffix.strip_prefix(['e', 'E']).filter(|rest| !rest.is_empty() && *rest != "i") {
        let exponent: i32 = exponent.parse().ok()?;
        return scale(number, 1000, 1, exponent);
    }
    let (times, over, exponent) = match suffix {
        "n" => (1, 1_000_000, 0),
        "u" => (1, 1000, 0),
        "m" => (1, 1, 0),
        "" => (1000, 1, 0),
        "k" => (1000, 1, 3),
        "M" => (1000, 1, 6),
        "G" => (1000, 1, 9),
        "T" => (1000, 1, 12),
        "P" => (1000, 1, 15),
        "E" => (1000, 1, 18),
        "Ki" => (1000 << 10, 1, 0),
        "Mi" => (1000 << 20, 1, 0),
        "Gi" => (1000 << 30, 1, 0),
        "Ti" => (1000 << 40, 1, 0),
        "Pi" => (1000 << 50, 1, 0),
        "Ei" => (1000 << 60, 1, 0),
        _ => return None,
    };
    scale(number, times, over, exponent)
}

fn scale(number: &str, times: i128, over: i128, exponent: i32) -> Option<i128> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.contains(['-', '+']) || fraction.len() > 18 {
        return None;
    }
    let negative = whole.starts_with('-');
    let digits: i128 = format!("{}{fraction}", whole.trim_start_matches(['-', '+'])).parse().ok()?;
    let mut numerator = digits.checked_mul(times)?;
    let mut denominator = over.checked_mul(10_i128.checked_pow(u32::try_from(fraction.len()).ok()?)?)?;
    let power = 10_i128.checked_pow(exponent.unsigned_abs())?;
    if exponent >= 0 {
        numerator = numerator.checked_mul(power)?;
    } else {
        denominator = denominator.checked_mul(power)?;
    }
    let magnitude = numerator / denominator + i128::from(numerator % denominator != 0);
    Some(if negative { -magnitude } else { magnitude })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_read_in_thousandths() {
        assert_eq!(milli(&Quantity("1.5".into())), Some(1500));
        assert_eq!(milli(&Quantity("100n".into())), Some(1));
        assert_eq!(milli(&Quantity("abc".into())), None);
        assert_eq!(milli(&Quantity("2Ei".into())), Some(2 * 1000 * (1 << 60)));
    }
}
