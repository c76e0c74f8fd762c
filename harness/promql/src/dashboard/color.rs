//! What a color says to somebody who does not read numbers.

/// What a color stands for on a dashboard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Signal {
    /// All is well: greens.
    Green,
    /// Look at it: yellows and oranges.
    Yellow,
    /// Something is wrong: reds.
    Red,
}

impl Signal {
    /// What a color of Grafana's stands for: a name such as `semi-dark-orange`, or `#rrggbb`. `None`
    /// for blue, gray and whatever else is no signal.
    pub fn of(color: &str) -> Option<Self> {
        if let Some(hex) = color.strip_prefix('#') {
            return Self::of_hex(hex);
        }
        let inner = color
            .strip_prefix("rgb(")
            .or_else(|| color.strip_prefix("rgba("));
        if let Some(inner) = inner {
            let mut parts = inner
                .trim_end_matches(')')
                .split(',')
                .map(|part| part.trim().parse::<u8>());
            let mut part = || parts.next()?.ok();
            return Self::of_rgb(part()?, part()?, part()?);
        }
        match color.rsplit('-').next()? {
            "green" => Some(Self::Green),
            "yellow" | "orange" => Some(Self::Yellow),
            "red" => Some(Self::Red),
            _ => None,
        }
    }

    fn of_hex(hex: &str) -> Option<Self> {
        if !hex.is_ascii() {
            return None;
        }
        let part = |at: usize, long: bool| {
            if long {
                u8::from_str_radix(hex.get(2 * at..2 * at + 2)?, 16).ok()
            } else {
                let digit = u8::from_str_radix(hex.get(at..=at)?, 16).ok()?;
                Some(digit * 17)
            }
        };
        let long = matches!(hex.len(), 6 | 8);
        if !long && !matches!(hex.len(), 3 | 4) {
            return None;
        }
        Self::of_rgb(part(0, long)?, part(1, long)?, part(2, long)?)
    }

    /// By the hue; what has hardly any is no signal.
    fn of_rgb(red: u8, green: u8, blue: u8) -> Option<Self> {
        let [red, green, blue] = [red, green, blue].map(f64::from);
        let most = red.max(green).max(blue);
        let spread = most - red.min(green).min(blue);
        if spread < 0.2 * most || most < 40.0 {
            return None;
        }
        let hue = 60.0
            * if most == red {
                ((green - blue) / spread).rem_euclid(6.0)
            } else if most == green {
                (blue - red) / spread + 2.0
            } else {
                (red - green) / spread + 4.0
            };
        match hue {
            hue if !(18.0..=340.0).contains(&hue) => Some(Self::Red),
            hue if hue < 70.0 => Some(Self::Yellow),
            hue if hue <= 170.0 => Some(Self::Green),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_codes_of_traffic_lights_are_signals_and_other_colors_are_none() {
        for (color, signal) in [
            ("green", Some(Signal::Green)),
            ("super-light-green", Some(Signal::Green)),
            ("#73BF69", Some(Signal::Green)),
            ("semi-dark-orange", Some(Signal::Yellow)),
            ("#FADE2A", Some(Signal::Yellow)),
            ("#f93", Some(Signal::Yellow)),
            ("dark-red", Some(Signal::Red)),
            ("#d44a3a", Some(Signal::Red)),
            ("rgb(242, 73, 92)", Some(Signal::Red)),
            ("rgba(50, 172, 45, 0.97)", Some(Signal::Green)),
            ("blue", None),
            ("#5794F2", None),
            ("#cccccc", None),
            ("text", None),
            ("#zz", None),
            ("", None),
        ] {
            assert_eq!(Signal::of(color), signal, "{color}");
        }
    }
}
