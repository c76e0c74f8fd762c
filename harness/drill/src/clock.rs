//! Moments of a drill as a person reads them.

/// Times of day, in UTC, and how long after something else they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clock {
    /// Milliseconds since the Unix epoch.
    origin_ms: i64,
}

impl Clock {
    /// A clock that tells how long after `origin_ms` (milliseconds since the Unix epoch) it is.
    pub fn from(origin_ms: i64) -> Self {
        Clock { origin_ms }
    }

    /// The time of day: `03:07:45`. A later day than the origin's is counted: `+2d 03:07:45`.
    pub fn time(self, at_ms: i64) -> String {
        const DAY: i64 = 86_400;
        let seconds = at_ms.div_euclid(1_000);
        let days = seconds.div_euclid(DAY) - self.origin_ms.div_euclid(1_000).div_euclid(DAY);
        let of_day = seconds.rem_euclid(DAY);
        let time = format!(
            "{:02}:{:02}:{:02}",
            of_day / 3_600,
            of_day / 60 % 60,
            of_day % 60
        );
        if days == 0 {
            time
        } else {
            format!("{days:+}d {time}")
        }
    }

    /// How long after the origin: `4m30s`; before it with a minus sign.
    pub fn since(self, at_ms: i64) -> String {
        span(at_ms - self.origin_ms)
    }
}

/// A span of milliseconds with its two largest units: `45s`, `4m30s`, `2h05m`, `3d04h`.
pub fn span(ms: i64) -> String {
    let sign = if ms < 0 { "-" } else { "" };
    let seconds = ms.unsigned_abs() / 1_000;
    let (minutes, hours, days) = (seconds / 60, seconds / 3_600, seconds / 86_400);
    let text = if days > 0 {
        format!("{days}d{:02}h", hours % 24)
    } else if hours > 0 {
        format!("{hours}h{:02}m", minutes % 60)
    } else if minutes > 0 {
        format!("{minutes}m{:02}s", seconds % 60)
    } else {
        format!("{seconds}s")
    };
    format!("{sign}{text}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_told_by_the_day_and_by_the_origin() {
        let clock = Clock::from(1_741_784_400_000);
        assert_eq!(clock.time(1_741_784_400_000), "13:00:00");
        assert_eq!(clock.time(1_741_784_400_000 + 43_200_000), "+1d 01:00:00");
        assert_eq!(clock.since(1_741_784_400_000 + 270_000), "4m30s");
        assert_eq!(clock.since(1_741_784_400_000 - 15_000), "-15s");
        assert_eq!(span(2 * 3_600_000 + 5 * 60_000), "2h05m");
        assert_eq!(span(76 * 3_600_000), "3d04h");
    }
}
