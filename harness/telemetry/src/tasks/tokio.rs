//! Tokio's task dump: under each task's id a tree of frames, from the outermost inwards.

use super::{Builder, Frame, TaskDump, file_and_line, is_blank, lines};
use crate::ParseError;
use crate::source::Cursor;

/// `task 7:`, `TASK 7:`, `Task Id(7):` or `7:`.
pub(super) fn is_header(line: &str) -> bool {
    header(line).is_some()
}

fn header(line: &str) -> Option<u64> {
    let line = line.trim().strip_suffix(':')?;
    let word = line
        .get(..4)
        .filter(|word| word.eq_ignore_ascii_case("task"));
    let id = match word {
        Some(_) => line[4..].strip_prefix(' ')?.trim_start(),
        None => line,
    };
    let id = id
        .strip_prefix("Id(")
        .map_or(Some(id), |id| id.strip_suffix(')'))?;
    if id.is_empty() || !id.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    id.parse().ok()
}

/// A frame on the way from the root to the current line, and the column of its connector.
struct Open {
    column: Option<usize>,
    frame: Frame,
    has_children: bool,
}

pub(super) fn read(text: &str) -> Result<TaskDump, ParseError> {
    let mut builder = Builder::default();
    let mut path: Vec<Open> = Vec::new();
    for cursor in lines(text) {
        let mut cursor = cursor?;
        if is_blank(&cursor) {
            unwind(&mut builder, &mut path, None, &cursor)?;
        } else if let Some(id) = header(cursor.rest()) {
            unwind(&mut builder, &mut path, None, &cursor)?;
            builder.task(&cursor)?.id = Some(id);
        } else if !builder.omission(&cursor) {
            if builder.dump.tasks.is_empty() {
                return Err(cursor.error("a task's id, as `task 7:`"));
            }
            let column = connector(&mut cursor);
            unwind(&mut builder, &mut path, Some(column), &cursor)?;
            match path.last_mut() {
                Some(parent) => parent.has_children = true,
                None if column.is_some() => {
                    return Err(cursor.error("the outermost function, without a branch"));
                }
                None => {}
            }
            if path.len() == super::MAX_DEPTH {
                return Err(cursor.error(format!("at most {} frames in a stack", path.len())));
            }
            path.push(Open {
                column,
                frame: frame(cursor)?,
                has_children: false,
            });
        }
    }
    let end = Cursor::new("", text.matches('\n').count() + 1);
    unwind(&mut builder, &mut path, None, &end)?;
    Ok(builder.dump)
}

/// Moves past the lines of the tree; gives the column of the branch, or `None` for a root.
fn connector(cursor: &mut Cursor<'_>) -> Option<usize> {
    let lead = cursor.take_while(|c| matches!(c, ' ' | '\u{a0}' | '│'));
    let branch = cursor.eat("└╼") || cursor.eat("├╼");
    if !branch {
        cursor.eat("╼");
    }
    cursor.take_while(|c| c == '\u{a0}' || c == ' ');
    branch.then(|| lead.chars().count())
}

/// Closes the frames that a branch at `column` is not below; `None` closes all of them.
fn unwind(
    builder: &mut Builder,
    path: &mut Vec<Open>,
    column: Option<Option<usize>>,
    at: &Cursor<'_>,
) -> Result<(), ParseError> {
    // A root has no column, and `None` is less than any: all that stands right of the new line, or
    // at it, is complete.
    while path
        .last()
        .is_some_and(|open| column.is_none_or(|column| open.column >= column))
    {
        let leaf = path.last().is_some_and(|open| !open.has_children);
        if leaf {
            for depth in 0..path.len() {
                builder.count_frame(at, depth)?;
            }
            let stack: Vec<Frame> = path.iter().rev().map(|open| open.frame.clone()).collect();
            if let Some(task) = builder.dump.tasks.last_mut() {
                if task.frames.is_empty() {
                    task.frames = stack;
                } else {
                    task.branches.push(stack);
                }
            }
        }
        path.pop();
    }
    Ok(())
}

/// `shop::serve::{{closure}} at src/main.rs:19:26`
fn frame(cursor: Cursor<'_>) -> Result<Frame, ParseError> {
    let text = cursor.rest().trim_end();
    if text.is_empty() {
        return Err(cursor.error("a function"));
    }
    let (function, place) = match text.rsplit_once(" at ") {
        Some((function, place)) => (function, Some(place)),
        None => match text.strip_prefix("at ") {
            Some(place) => ("", Some(place)),
            None => (text, None),
        },
    };
    let mut frame = Frame {
        function: function.trim().to_owned(),
        ..Frame::default()
    };
    if let Some(place) = place {
        let (file, line) = match file_and_line(place) {
            // The last number is the column, if there is another before it.
            Some((before, last)) => match file_and_line(before) {
                Some((file, line)) => (file, Some(line)),
                None => (before, Some(last)),
            },
            None => (place, None),
        };
        (frame.file, frame.line) = (Some(file.to_owned()), line);
    }
    Ok(frame)
}
