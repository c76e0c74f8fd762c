//! How a check ends when the code under test panics. This file stands for the learner's code: it
//! lies outside of what [`kit::check`] takes for a checker.

use std::panic;

/// The line within [`oldest`] that panics.
const PANICS_AT: u32 = line!() + 4;

/// Code of a learner, as far as the kit can tell.
fn oldest(queue: &[u64]) -> u64 {
    queue[0]
}

fn ending(body: impl FnOnce() + Send + 'static) -> String {
    let result = panic::catch_unwind(panic::AssertUnwindSafe(|| kit::check(body)));
    *result
        .expect_err("the check passed")
        .downcast::<String>()
        .expect("a check ends with a text")
}

#[test]
fn a_panic_of_the_learners_code_names_its_place_and_its_message() {
    let text = ending(|| {
        oldest(&[]);
    });
    let (first, rest) = text.split_once('\n').expect("two lines");
    assert!(first.starts_with("your code panicked at "), "{text}");
    assert!(
        first.contains(&format!("tests/ending.rs:{PANICS_AT}:5")),
        "{text}"
    );
    assert!(rest.contains("index out of bounds"), "{text}");
}

#[test]
fn a_symptom_after_a_caught_panic_of_the_learners_code_comes_first_and_names_its_place_too() {
    let text = ending(|| {
        let _ = panic::catch_unwind(|| oldest(&[]));
        kit::symptom("the pool lost one worker to a panic");
    });
    let (symptom, rest) = text.split_once("\n\n").expect("two paragraphs");
    assert_eq!(symptom, "the pool lost one worker to a panic");
    assert!(
        rest.contains(&format!("tests/ending.rs:{PANICS_AT}:5")),
        "{text}"
    );
    assert!(rest.contains("index out of bounds"), "{text}");
}

#[test]
fn an_error_that_is_a_sentence_becomes_the_symptom_and_a_value_is_handed_on() {
    let text = ending(|| {
        assert_eq!(kit::or_symptom(Ok::<_, String>(7)), 7);
        let refused: Result<(), _> = Err("Prometheus would not load rules.yml");
        kit::or_symptom(refused);
    });
    assert_eq!(text, "Prometheus would not load rules.yml");
}
