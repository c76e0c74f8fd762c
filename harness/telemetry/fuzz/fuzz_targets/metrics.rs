//! Scrapes: no panic, and printing keeps what was read.
#![no_main]

use libfuzzer_sys::fuzz_target;
use telemetry::metrics::{Format, Scrape, lint};

fuzz_target!(|bytes: &[u8]| {
    let _ = Scrape::from_slice(bytes);
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    let _ = lint(text);
    for format in [Format::Exposition, Format::OpenMetrics] {
        let Ok(scrape) = Scrape::parse_as(text, format) else {
            continue;
        };
        let printed = match format {
            Format::Exposition => scrape.to_exposition(),
            Format::OpenMetrics => scrape.to_openmetrics(),
        };
        assert_eq!(Scrape::parse_as(&printed, format), Ok(scrape.clone()));
        for family in &scrape.families {
            for labels in scrape.histogram_labels(&family.name) {
                let labels: Vec<(&str, &str)> = labels.iter().collect();
                let _ = scrape.histogram(&family.name, &labels);
            }
        }
        let _ = scrape.delta(&scrape);
        let _ = (scrape.to_exposition(), scrape.to_openmetrics());
    }
});
