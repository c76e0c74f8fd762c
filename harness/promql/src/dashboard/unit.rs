//! A value as a panel writes it.

/// The text of a value in one of Grafana's units. Units that are not known are written as numbers.
pub(super) fn text(value: f64, unit: &str, decimals: Option<u32>) -> String {
    if value.is_nan() {
        return "NaN".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { "+Inf" } else { "-Inf" }.to_owned();
    }
    match unit {
        "percent" => format!("{}%", number(value, decimals)),
        "percentunit" => format!("{}%", number(value * 100.0, decimals)),
        "s" => time(value, decimals),
        "ms" => time(value / 1e3, decimals),
        "µs" => time(value / 1e6, decimals),
        "ns" => time(value / 1e9, decimals),
        "m" => time(value * 60.0, decimals),
        "h" => time(value * 3_600.0, decimals),
        "d" => time(value * 86_400.0, decimals),
        "bytes" => scaled(
            value,
            1024.0,
            &[" B", " KiB", " MiB", " GiB", " TiB"],
            decimals,
        ),
        "decbytes" => scaled(value, 1000.0, &[" B", " kB", " MB", " GB", " TB"], decimals),
        "Bps" => scaled(
            value,
            1000.0,
            &[" B/s", " kB/s", " MB/s", " GB/s", " TB/s"],
            decimals,
        ),
        "reqps" => per_second(value, "req/s", decimals),
        "ops" => per_second(value, "ops/s", decimals),
        "rps" => per_second(value, "rd/s", decimals),
        "cps" => per_second(value, "c/s", decimals),
        "short" => scaled(value, 1000.0, &["", " K", " Mil", " Bil", " Tri"], decimals),
        _ => number(value, decimals),
    }
}

fn per_second(value: f64, unit: &str, decimals: Option<u32>) -> String {
    let text = scaled(value, 1000.0, &["", "K", "M", "B", "T"], decimals);
    format!("{text} {unit}")
}

fn scaled(value: f64, base: f64, units: &[&str], decimals: Option<u32>) -> String {
    let mut value = value;
    let mut nth = 0;
    while value.abs() >= base && nth + 1 < units.len() {
        value /= base;
        nth += 1;
    }
    format!("{}{}", number(value, decimals), units[nth])
}

fn time(seconds: f64, decimals: Option<u32>) -> String {
    let size = seconds.abs();
    let (value, unit) = match size {
        0.0 => (0.0, "s"),
        _ if size < 1e-6 => (seconds * 1e9, "ns"),
        _ if size < 1e-3 => (seconds * 1e6, "µs"),
        _ if size < 1.0 => (seconds * 1e3, "ms"),
        _ if size < 60.0 => (seconds, "s"),
        _ if size < 3_600.0 => (seconds / 60.0, "mins"),
        _ if size < 86_400.0 => (seconds / 3_600.0, "hours"),
        _ => (seconds / 86_400.0, "days"),
    };
    format!("{} {unit}", number(value, decimals))
}

/// With as many decimals as a panel shows by default: three significant digits.
fn number(value: f64, decimals: Option<u32>) -> String {
    let places = decimals.map_or_else(
        || {
            let size = value.abs();
            if size == 0.0 {
                0
            } else {
                let magnitude = size.log10().floor() as i32;
                usize::try_from((2 - magnitude).clamp(0, 10)).unwrap_or(0)
            }
        },
        |decimals| decimals as usize,
    );
    let text = format!("{value:.places$}");
    if decimals.is_none() && text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    } else {
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_written_in_their_unit() {
        for (value, unit, decimals, expected) in [
            (0.0123, "percentunit", None, "1.23%"),
            (99.95, "percent", Some(1), "100.0%"),
            (8.2, "s", None, "8.2 s"),
            (0.045, "s", None, "45 ms"),
            (250.0, "ms", None, "250 ms"),
            (90.0, "s", None, "1.5 mins"),
            (4_509_715_660.8, "bytes", None, "4.2 GiB"),
            (4.2e9, "decbytes", None, "4.2 GB"),
            (4_800.0, "reqps", None, "4.8K req/s"),
            (24_300.0, "short", None, "24.3 K"),
            (24_300.0, "", None, "24300"),
            (0.0, "s", None, "0 s"),
            (f64::NAN, "s", None, "NaN"),
            (f64::INFINITY, "", None, "+Inf"),
            (-3.0, "short", None, "-3"),
        ] {
            assert_eq!(text(value, unit, decimals), expected);
        }
    }
}
