//! Shifts of `incident::on_call`, as those see them who are paged.

use std::time::Duration;

use drill::runbook::Symptom;
use incident::on_call::{self, Shift};
use incident::service::simulate;
use promql::{Engine, Query};

fn paged(shift: Shift, seed: u64) -> (Option<i64>, i64, promql::Storage) {
    let setup = on_call::drawn(shift, seed).metrics_only();
    let run = simulate(&setup);
    let storage = drill::storage(&run);
    let alert = Symptom::new(
        Query::parse(on_call::ALERT).unwrap(),
        Duration::from_secs(60 * on_call::ALERT_MINUTES),
        "requests are slow",
    );
    let window = (
        setup.begins * 1_000,
        (setup.begins + setup.duration as i64) * 1_000,
    );
    let fired = alert
        .fires(&storage, window, Duration::from_secs(15))
        .unwrap();
    (fired, window.1, storage)
}

#[test]
fn incidents_and_alarms_page_with_ten_minutes_of_records_left_and_calm_shifts_do_not() {
    for shift in Shift::INCIDENTS.into_iter().chain(Shift::ALARMS) {
        for seed in [1, 2] {
            let (fired, end, _) = paged(shift, seed);
            let fired = fired.unwrap_or_else(|| panic!("{shift:?} {seed} does not page"));
            assert!(end - fired >= 600_000, "{shift:?} {seed}");
        }
    }
    for shift in Shift::CALM {
        assert_eq!(paged(shift, 1).0, None, "{shift:?}");
    }
}

#[test]
fn who_is_paged_by_an_alarm_finds_that_nobody_waits() {
    let p99 = "histogram_quantile(0.99, sum by (le) \
               (rate(http_request_duration_seconds_bucket{route!=\"/reports/daily\"}[2m])))";
    let p99 = Query::parse(p99).unwrap();
    let after_a_minute = |shift| {
        let (fired, _, storage) = paged(shift, 3);
        let at = fired.unwrap_or_else(|| panic!("{shift:?} does not page")) + 60_000;
        let answer = Engine::default().instant(&storage, &p99, at).unwrap();
        answer.value.single().expect("there is traffic")
    };
    for shift in Shift::ALARMS {
        let p99 = after_a_minute(shift);
        assert!(p99 < 0.25, "{shift:?}: {p99}");
    }
    for shift in Shift::INCIDENTS {
        let p99 = after_a_minute(shift);
        assert!(p99 > 1.0, "{shift:?}: {p99}");
    }
}
