//! What gdb prints for `thread apply all bt`.

use super::{Builder, Frame, TaskDump, file_and_line, is_blank, lines};
use crate::ParseError;
use crate::source::Cursor;

/// `Thread 2 (Thread 0x7ffff7bff6c0 (LWP 4242) "worker-1"):`
pub(super) fn is_header(line: &str) -> bool {
    let Some(rest) = line.strip_prefix("Thread ") else {
        return false;
    };
    let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or_default();
    digits > 0 && rest[digits..].starts_with(" (") && line.trim_end().ends_with(':')
}

/// A frame whose line gdb may have broken to the width of a terminal.
struct Open<'a> {
    start: Cursor<'a>,
    text: String,
}

pub(super) fn read(text: &str) -> Result<TaskDump, ParseError> {
    let mut builder = Builder::default();
    let mut frame: Option<Open<'_>> = None;
    let mut within = false;
    for cursor in lines(text) {
        let cursor = cursor?;
        let content = cursor.rest();
        if is_blank(&cursor) {
            close(&mut builder, frame.take())?;
            within = false;
        } else if is_header(content) {
            close(&mut builder, frame.take())?;
            header(&mut builder, cursor)?;
            within = true;
        } else if !within {
            // Around the threads gdb reports what it attached to, loaded and could not find.
            builder.omission(&cursor);
        } else if content.starts_with('#') {
            close(&mut builder, frame.take())?;
            frame = Some(Open {
                start: cursor,
                text: content.to_owned(),
            });
        } else if let Some(open) = frame.as_mut().filter(|_| content.starts_with([' ', '\t'])) {
            if open.text.len() + content.len() > super::MAX_LINE_BYTES {
                let limit = super::MAX_LINE_BYTES;
                return Err(cursor.error(format!("a frame of at most {limit} bytes")));
            }
            open.text.push(' ');
            open.text.push_str(content.trim());
        } else if !is_remark(content) && !builder.omission(&cursor) {
            return Err(cursor.error("a frame such as `#0  main () at src/main.rs:7`"));
        }
    }
    close(&mut builder, frame)?;
    Ok(builder.dump)
}

fn is_remark(line: &str) -> bool {
    [
        "Backtrace stopped:",
        "warning:",
        "(More stack frames",
        "--Type <RET>",
        "[Inferior ",
        "Detaching ",
    ]
    .iter()
    .any(|start| line.starts_with(start))
}

fn header(builder: &mut Builder, mut cursor: Cursor<'_>) -> Result<(), ParseError> {
    let start = cursor;
    cursor.eat("Thread ");
    let at_id = cursor;
    let id = cursor.take_while(|c| c.is_ascii_digit());
    let id = id.parse().map_err(|_| at_id.error("a thread's number"))?;
    let name = cursor
        .rest()
        .split_once('"')
        .and_then(|(_, rest)| rest.rsplit_once('"'))
        .map(|(name, _)| name.to_owned());
    let task = builder.task(&start)?;
    (task.id, task.name) = (Some(id), name);
    Ok(())
}

fn close(builder: &mut Builder, open: Option<Open<'_>>) -> Result<(), ParseError> {
    let Some(open) = open else {
        return Ok(());
    };
    let frame = frame(&open)?;
    let depth = builder
        .dump
        .tasks
        .last()
        .map_or(0, |task| task.frames.len());
    builder.count_frame(&open.start, depth)?;
    if let Some(task) = builder.dump.tasks.last_mut() {
        task.frames.push(frame);
    }
    Ok(())
}

/// `#1  0x00007ffff7d2c4a9 in shop::cache::get (self=0x7ffe) at src/cache.rs:45`
fn frame(open: &Open<'_>) -> Result<Frame, ParseError> {
    let mut at = open.start;
    at.eat("#");
    let digits = at.take_while(|c| c.is_ascii_digit());
    if digits.is_empty() {
        return Err(at.error("the number of a frame"));
    }
    let rest = open.text[1 + digits.len()..].trim();
    at.take_while(|c| c == ' ');
    // Where code was not inlined and the frame is not the innermost, an address comes first.
    let rest = match rest.split_once(" in ") {
        Some((address, rest)) if address.starts_with("0x") && !address.contains(' ') => rest,
        _ => rest,
    };
    if rest.is_empty() {
        return Err(at.error("a function"));
    }
    let Some(split) = end_of_name(rest) else {
        return Ok(Frame {
            function: rest.to_owned(),
            ..Frame::default()
        });
    };
    let (function, call) = (rest[..split].trim_end(), &rest[split..]);
    let (call, place) = match (call.rfind(") at "), call.rfind(") from ")) {
        (Some(end), from) if from.is_none_or(|from| from < end) => {
            (&call[..=end], Some(&call[end + ") at ".len()..]))
        }
        (_, Some(end)) => (&call[..=end], Some(&call[end + ") from ".len()..])),
        _ => (call, None),
    };
    let (file, line) = match place.map(|place| (place, file_and_line(place))) {
        None => (None, None),
        Some((_, Some((file, line)))) => (Some(file), Some(line)),
        Some((library, None)) => (Some(library), None),
    };
    let arguments = call.strip_prefix('(').unwrap_or(call);
    Ok(Frame {
        function: function.to_owned(),
        arguments: Some(arguments.strip_suffix(')').unwrap_or(arguments).to_owned()),
        file: file.map(str::to_owned),
        line,
    })
}

/// Where the arguments begin: at the first ` (` that is within no type's brackets.
fn end_of_name(text: &str) -> Option<usize> {
    let mut depth = 0_usize;
    let mut before = ' ';
    for (at, c) in text.char_indices() {
        match c {
            '(' if depth == 0 && before == ' ' => return Some(at),
            '<' | '(' | '[' | '{' => depth += 1,
            // The arrow of a function type closes nothing.
            '>' if before == '-' => {}
            '>' | ')' | ']' | '}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        before = c;
    }
    None
}
