//! Numbers as Go's `fmt` writes them.

/// `%v` of a floating-point number: the shortest digits, with an exponent from a million on and
/// below a ten-thousandth.
pub(crate) fn shortest(value: f64) -> String {
    special(value).unwrap_or_else(|| {
        let (negative, digits, exponent) = parts(&format!("{value:e}"));
        general(negative, &digits, exponent, 6)
    })
}

/// `%.{precision}g`: that many digits, an exponent where they do not reach.
pub(super) fn significant(value: f64, precision: usize) -> String {
    special(value).unwrap_or_else(|| {
        let precision = precision.max(1);
        let (negative, digits, exponent) = parts(&format!("{value:.*e}", precision - 1));
        let digits = digits.trim_end_matches('0');
        let digits = if digits.is_empty() { "0" } else { digits };
        general(negative, digits, exponent, precision as i32)
    })
}

/// `%.{precision}f`.
pub(super) fn fixed(value: f64, precision: usize) -> String {
    special(value).unwrap_or_else(|| format!("{value:.precision$}"))
}

/// `%.{precision}e`.
pub(super) fn scientific(value: f64, precision: usize) -> String {
    special(value).unwrap_or_else(|| {
        let (negative, digits, exponent) = parts(&format!("{value:.precision$e}"));
        with_exponent(negative, &digits, exponent)
    })
}

fn special(value: f64) -> Option<String> {
    match value {
        value if value.is_nan() => Some("NaN".to_owned()),
        f64::INFINITY => Some("+Inf".to_owned()),
        f64::NEG_INFINITY => Some("-Inf".to_owned()),
        _ => None,
    }
}

/// Sign, digits without the point, and the exponent of the first digit, from Rust's notation.
fn parts(text: &str) -> (bool, String, i32) {
    let (mantissa, exponent) = text.split_once('e').unwrap_or((text, "0"));
    let negative = mantissa.starts_with('-');
    let digits = mantissa.chars().filter(char::is_ascii_digit).collect();
    (negative, digits, exponent.parse().unwrap_or(0))
}

fn general(negative: bool, digits: &str, exponent: i32, limit: i32) -> String {
    if exponent < -4 || exponent >= limit {
        return with_exponent(negative, digits, exponent);
    }
    let sign = if negative { "-" } else { "" };
    if exponent < 0 {
        let zeros = "0".repeat((-exponent - 1) as usize);
        return format!("{sign}0.{zeros}{digits}");
    }
    let whole = exponent as usize + 1;
    if digits.len() <= whole {
        let zeros = "0".repeat(whole - digits.len());
        return format!("{sign}{digits}{zeros}");
    }
    format!("{sign}{}.{}", &digits[..whole], &digits[whole..])
}

fn with_exponent(negative: bool, digits: &str, exponent: i32) -> String {
    let sign = if negative { "-" } else { "" };
    let point = if digits.len() > 1 { "." } else { "" };
    let direction = if exponent < 0 { '-' } else { '+' };
    format!(
        "{sign}{}{point}{}e{direction}{:02}",
        &digits[..1],
        &digits[1..],
        exponent.abs()
    )
}
