use backends::Redis;

use crate::{or_not_run, say_not_run};

#[test]
fn a_cache_forgets_when_killed_and_a_durable_redis_does_not() {
    let Some(cache) = or_not_run(Redis::start()) else {
        return;
    };
    let Some(durable) = or_not_run(Redis::start_durable()) else {
        return;
    };
    for (redis, expected) in [(&cache, "$-1"), (&durable, "$3")] {
        if redis.pid().is_none() {
            say_not_run(&format!("{} is not a process of ours", redis.url()));
            return;
        }
        assert_eq!(redis.command(&["SET", "foo", "bar"]).unwrap(), "+OK");
        redis.kill().unwrap();
        assert!(redis.command(&["PING"]).is_err(), "a dead server answers");
        redis.restart().unwrap();
        let reply = redis.command(&["GET", "foo"]).unwrap();
        assert_eq!(reply, expected, "{}", redis.log());
    }
}

#[test]
fn a_flag_that_redis_refuses_is_shown_with_its_own_words() {
    let error = match Redis::start_with(&["--no-such-flag", "1"]) {
        Ok(redis) => {
            say_not_run(&format!("{} takes no flags of ours", redis.url()));
            return;
        }
        Err(error) if error.is_missing() => {
            or_not_run::<Redis>(Err(error));
            return;
        }
        Err(error) => error,
    };
    assert!(error.required(), "{error}");
    assert!(error.to_string().contains("no-such-flag"), "{error}");
}
