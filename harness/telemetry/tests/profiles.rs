//! Folded stacks and pprof, into one model and back.

use proptest::prelude::*;
use telemetry::profiles::Profile;

const FLAME: &str = "main.main;main.ServeHTTP;main.handleRequest;main.fetchFromCache;sync.(*RWMutex).RLock;runtime.lock 38\n\
    main.main;main.ServeHTTP;main.handleRequest;main.fetchFromCache;main.deserialize 7\n\
    main.main;runtime.gcBgMarkWorker 8\n";

#[test]
fn folded_stacks_are_read_from_the_outermost_frame_on_and_print_as_they_were() {
    let profile = Profile::from_folded(FLAME).unwrap();
    let names: Vec<&str> = profile.stacks[2].names().collect();
    assert_eq!(names, ["main.main", "runtime.gcBgMarkWorker"]);
    let values: Vec<&[i64]> = profile.stacks.iter().map(|stack| &*stack.values).collect();
    assert_eq!(values, [[38], [7], [8]]);
    assert_eq!(profile.sample_type("samples"), Some(0));
    assert_eq!(profile.to_folded(0).as_deref(), Some(FLAME));
    assert_eq!(profile.to_folded(1), None);
}

#[test]
fn frames_may_hold_spaces_and_lines_may_be_blank_or_end_as_on_windows() {
    let profile = Profile::from_folded("\n<T as U>::f;operator new 3\r\n\n").unwrap();
    let names: Vec<&str> = profile.stacks[0].names().collect();
    assert_eq!(names, ["<T as U>::f", "operator new"]);
}

#[test]
fn a_line_that_is_no_stack_is_refused_where_it_stands() {
    let cases = [
        (
            "a;b\n",
            "line 1, column 4: expected a space and the number of samples after the stack, found the end of the line",
        ),
        (
            "a 1\né;;b 1\n",
            "line 2, column 3: expected the name of a function, found `;b 1`",
        ),
        (
            " 1\n",
            "line 1, column 1: expected the name of a function, found ` 1`",
        ),
        (
            "a;b x\n",
            "line 1, column 5: expected a whole number of samples, found `x`",
        ),
        (
            "a;b 1.5\n",
            "line 1, column 5: expected a whole number of samples, found `1.5`",
        ),
    ];
    for (text, message) in cases {
        let error = Profile::from_folded(text).unwrap_err();
        assert_eq!(error.to_string(), message, "of {text:?}");
    }
    let deep = format!("{}f 1", "f;".repeat(5000));
    assert!(
        Profile::from_folded(&deep)
            .unwrap_err()
            .to_string()
            .contains("at most 4096 frames")
    );
}

#[test]
fn names_that_folded_text_cannot_hold_are_changed_and_not_lost() {
    use telemetry::profiles::Frame;
    let mut profile = Profile::new(&[("cpu", "nanoseconds"), ("samples", "count")]);
    profile
        .push(
            vec![Frame::new("f::<[u8; 4]>"), Frame::new("")],
            vec![10, 1],
        )
        .unwrap();
    profile.push(vec![], vec![20, 2]).unwrap();
    assert_eq!(
        profile.to_folded(1).as_deref(),
        Some("f::<[u8: 4]>;[unknown] 1\n[unknown] 2\n")
    );
    assert_eq!(
        profile.push(vec![], vec![1]).unwrap_err().to_string(),
        "a stack of 1 values, where the profile has 2 types of sample"
    );
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = Profile::from_folded_slice(&bytes);
    }

    #[test]
    fn any_folded_stack_survives_being_printed(stacks in proptest::collection::vec((proptest::collection::vec("[^;\n\r]{1,6}", 1..5), any::<i64>()), 0..8)) {
        let text: String = stacks.iter().map(|(frames, value)| format!("{} {value}\n", frames.join(";"))).collect();
        let profile = Profile::from_folded(&text).unwrap();
        prop_assert_eq!(profile.stacks.len(), stacks.len());
        let printed = profile.to_folded(0).unwrap();
        prop_assert_eq!(&printed, &text);
        prop_assert_eq!(Profile::from_folded(&printed), Ok(profile));
    }
}

#[cfg(feature = "pprof")]
mod pprof {
    use std::io::Write;
    use std::time::Duration;

    use proptest::prelude::*;
    use telemetry::profiles::{Frame, MAX_PPROF_BYTES, PprofError, Profile};

    #[test]
    fn a_profile_is_read_field_by_field_as_profile_proto_defines_it() {
        // Written by hand: strings "", "cpu", "ns", "leaf", "root", "a.rs"; the location 1 is `leaf`
        // inlined into `root`, the location 2 has only an address.
        let bytes = [
            &[0x0a, 4, 0x08, 1, 0x10, 2][..],
            &[0x12, 7, 0x0a, 2, 1, 2, 0x12, 1, 42],
            &[
                0x22, 14, 0x08, 1, 0x22, 4, 0x08, 1, 0x10, 7, 0x22, 4, 0x08, 2, 0x10, 9,
            ],
            &[0x22, 5, 0x08, 2, 0x18, 0xbf, 0x20],
            &[0x2a, 6, 0x08, 1, 0x10, 3, 0x20, 5],
            &[0x2a, 4, 0x08, 2, 0x10, 4],
            b"\x32\x00\x32\x03cpu\x32\x02ns\x32\x04leaf\x32\x04root\x32\x04a.rs",
            &[0x50, 0x80, 0x94, 0xeb, 0xdc, 0x03],
        ]
        .concat();
        let profile = Profile::from_pprof(&bytes).unwrap();
        assert_eq!(profile.sample_type("cpu"), Some(0));
        assert_eq!(profile.sample_types[0].unit, "ns");
        assert_eq!(profile.duration, Some(Duration::from_secs(1)));
        let stack = &profile.stacks[0];
        assert_eq!(stack.values, [42]);
        let frames: Vec<(&str, Option<&str>, Option<u32>)> = stack
            .frames
            .iter()
            .map(|frame| (&*frame.function, frame.file.as_deref(), frame.line))
            .collect();
        assert_eq!(
            frames,
            [
                ("0x103f", None, None),
                ("root", None, Some(9)),
                ("leaf", Some("a.rs"), Some(7))
            ]
        );
        assert_eq!(Profile::from_pprof(&profile.to_pprof()), Ok(profile));
    }

    #[test]
    fn bytes_that_are_no_profile_are_refused_with_their_place() {
        let cases: [(&[u8], &str); 9] = [
            (&[], "byte 0: expected a profile, found no bytes"),
            (
                &[0x0a, 9, 1],
                "byte 0: expected a field of a profile, found one that is longer than the profile",
            ),
            (
                &[0x50, 1, 0x0b],
                "byte 2: expected a field of a profile, found a group",
            ),
            (
                &[0x32, 0, 0x32, 1, 0xff],
                "byte 2: expected a string in UTF-8",
            ),
            (
                &[0x0a, 2, 0x08, 1],
                "byte 0: expected an index into 0 strings, found 1",
            ),
            (
                &[0x12, 3, 0x0a, 1, 5],
                "byte 0: expected a sample of known locations, found 5",
            ),
            (
                &[0x12, 3, 0x12, 1, 5],
                "byte 0: expected a sample of 0 values, found 1",
            ),
            (&[0x22, 2, 0x08], "byte 0: expected a field of a profile"),
            (
                &[0x1f, 0x8b, 0, 0],
                "expected gzip after its first two bytes",
            ),
        ];
        for (bytes, message) in cases {
            let error = Profile::from_pprof(bytes).unwrap_err().to_string();
            assert!(error.starts_with(message), "{error}\nof {bytes:x?}");
        }
    }

    #[test]
    fn a_decompression_bomb_is_refused_at_the_limit() {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        let zeros = vec![0; 1 << 20];
        for _ in 0..=MAX_PPROF_BYTES >> 20 {
            encoder.write_all(&zeros).unwrap();
        }
        let bomb = encoder.finish().unwrap();
        assert!(bomb.len() < 1 << 20, "{}", bomb.len());
        assert_eq!(Profile::from_pprof(&bomb), Err(PprofError::TooLarge));
    }

    #[test]
    fn many_empty_samples_are_refused_at_the_limit() {
        let error = Profile::from_pprof(&[0x12, 0].repeat(600_000)).unwrap_err();
        assert!(
            error.to_string().contains("at most 500000 samples"),
            "{error}"
        );
    }

    fn profiles() -> impl Strategy<Value = Profile> {
        let frame = (
            "[a-c;\n]{0,2}",
            proptest::option::of("[a-c]{1,2}"),
            proptest::option::of(1u32..),
        );
        let frame = frame.prop_map(|(function, file, line)| {
            let mut frame = Frame::new(&function);
            frame.file = file.map(Into::into);
            frame.line = line;
            frame
        });
        let stack = (proptest::collection::vec(frame, 0..6), any::<[i64; 2]>());
        (proptest::collection::vec(stack, 0..6), any::<Option<u32>>()).prop_map(
            |(stacks, nanos)| {
                let mut profile = Profile::new(&[("cpu", "nanoseconds"), ("", "count")]);
                for (frames, values) in stacks {
                    profile.push(frames, values.to_vec()).unwrap();
                }
                profile.duration = nanos
                    .filter(|n| *n > 0)
                    .map(|n| Duration::from_nanos(n.into()));
                profile
            },
        )
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Profile::from_pprof(&bytes);
        }

        #[test]
        fn any_profile_survives_pprof_with_and_without_gzip(profile in profiles()) {
            prop_assert_eq!(Profile::from_pprof(&profile.to_pprof()), Ok(profile.clone()));
            prop_assert_eq!(Profile::from_pprof(&profile.to_pprof_gz()), Ok(profile));
        }

        #[test]
        fn a_damaged_profile_never_panics(profile in profiles(), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
            let mut bytes = profile.to_pprof();
            let at = at.index(bytes.len());
            bytes[at] = byte;
            let _ = Profile::from_pprof(&bytes);
            let _ = Profile::from_pprof(&bytes[..at]);
        }
    }
}
