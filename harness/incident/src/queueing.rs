//! What theory says of a queue in its steady state, for comparing with what a simulation did.
//!
//! Not for services with faults: a queue that grows has no steady state.

/// The probability that an arrival has to wait in an M/M/c queue: `servers` servers and an offered
/// load of `load` erlangs, the rate of arrivals times the mean service time. 1 when the load is not
/// below the number of servers. Erlang, "Solution of some problems in the theory of probabilities of
/// significance in automatic telephone exchanges", 1917.
///
/// # Panics
/// When there are no servers or the load is negative.
pub fn erlang_c(servers: u32, load: f64) -> f64 {
    assert!(
        servers > 0 && load >= 0.0,
        "{servers} servers, {load} erlangs"
    );
    let c = f64::from(servers);
    if load >= c {
        return 1.0;
    }
    // Erlang B by its recurrence, which neither overflows nor cancels.
    let blocked = (1..=servers).fold(1.0, |blocked, n| {
        load * blocked / (f64::from(n) + load * blocked)
    });
    blocked / (1.0 - load / c * (1.0 - blocked))
}

/// The mean wait in an M/M/c queue, in the unit of `service`, the mean service time; infinite when
/// the load is not below the number of servers.
pub fn mean_wait(servers: u32, load: f64, service: f64) -> f64 {
    erlang_c(servers, load) * service / (f64::from(servers) - load).max(0.0)
}

/// The mean number of those who wait in an M/M/c queue: Little's law on [`mean_wait`].
pub fn mean_waiting(servers: u32, load: f64) -> f64 {
    load * mean_wait(servers, load, 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_server_waits_as_the_pollaczek_formula_says() {
        for load in [0.1, 0.5, 0.9] {
            assert!((erlang_c(1, load) - load).abs() < 1e-12);
            assert!((mean_wait(1, load, 2.0) - 2.0 * load / (1.0 - load)).abs() < 1e-9);
        }
    }

    #[test]
    fn two_servers_wait_as_their_closed_form_says() {
        // C(2, a) = a² / (2 + a).
        for load in [0.2, 1.0, 1.8] {
            assert!((erlang_c(2, load) - load * load / (2.0 + load)).abs() < 1e-12);
        }
    }

    #[test]
    fn a_queue_without_a_steady_state_waits_for_ever() {
        assert!(mean_wait(2, 2.0, 1.0).is_infinite());
        assert!((erlang_c(2, 3.0) - 1.0).abs() < 1e-12);
    }
}
